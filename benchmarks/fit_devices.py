"""Fits what kernels reach on each device of topologies/devices to published rates, and prints what remains.

Usage: python benchmarks/fit_devices.py [--measured FOLDER] [--write]

Fits each device on rows whose role is `calibration` alone, and prints the error of each operation, dtype and source, on
calibration and on test rows apart. --write puts the constants into the files and the tables into docs/devices.md.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from textwrap import fill, indent

import numpy as np
from device_fit import SIXTEEN_BITS, STARTS, Fitted, fit
from device_layers import layer_table
from device_rows import CALIBRATION, ENGINE, TEST, Row, of_role, read_rows, stream_rates
from sections import write_section

from simulator.inputs.yaml_source import read_document
from simulator.topology import Device, DeviceSchema, build_device
from simulator.units import parse_seconds

ROOT = Path(__file__).parents[1]
MEASURED = ROOT.parent / "shared" / "measured"
DEVICES = ROOT / "topologies" / "devices"
PAGE = ROOT / "docs" / "devices.md"
MICROSECOND = parse_seconds("1 us")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file of topologies/devices: which hardware it is fitted to, and by which rows it is only judged."""

    fitted: tuple[str, ...]
    judged: tuple[str, ...] = ()
    streams: str = ""
    twin: str = ""


TARGETS = {
    "v100-sxm2-32gb": Target(fitted=("V100-SXM2 (DGX-1)",)),
    "a100-sxm-80gb": Target(fitted=("A100-SXM4-80GB", "A100-SXM"), streams="A100-SXM4-80GB"),
    "a100-pcie-80gb": Target(fitted=("A100-PCIe-80GB",), streams="A100-SXM4-80GB"),
    # H200 is the same chip with other memory.
    "h100-sxm": Target(fitted=("H100-SXM5-80GB", "H200-SXM-141GB"), streams="H100-SXM5-80GB"),
    "h200-sxm": Target(fitted=(), judged=("H200-SXM-141GB",), streams="H200-SXM-141GB"),
    # FlashAttention 2, which was not written for this chip.
    "h800-sxm": Target(fitted=(), judged=("H800-SXM5",)),
    "b200-sxm": Target(fitted=("B200-SXM",), streams="H100-SXM5-80GB", twin="gb200"),
    "gb200": Target(fitted=("GB200",), streams="H100-SXM5-80GB", twin="b200-sxm"),
    "gb300": Target(fitted=("GB300",), streams="H100-SXM5-80GB", twin="b200-sxm"),
    "mi300x": Target(fitted=("MI300X",), streams="MI300X"),
}
"""By file. ``streams``: whose stream kernels say what fraction of its bandwidth a device reaches. ``twin``: the same
chip in another module. Of B200 the inference engine alone measured fp8, and of the others long runs of fp8 are all
there is: the former takes these, and they what B200 loses by shape, in 16 bits and in attention."""

SHAPES = ("edge", "depth", "matmul", "fp8", "forward", "ratio", "attention edge", "rows")
"""Constants that chips of one kind share but for their clocks; casts are those of a library."""

MULTIPROCESSORS = {"v100-sxm2-32gb": 80, "a100-sxm-80gb": 108, "a100-pcie-80gb": 108, "h100-sxm": 132, "b200-sxm": 148}
"""Of the data sheets and white papers of each; only to try what whole waves of tiles explain."""

TILE = (128, 256)
"""Of the large kernels of cuBLAS; the result of a product is cut into tiles of this size."""


def shipped(name: str) -> Device:
    """Return a device as its file describes it now: the library would remember what it was before a fit."""
    keys = read_document(str(DEVICES / f"{name}.yaml"), "device").data
    return build_device(name, DeviceSchema.model_validate(keys))


def fit_device(name: str, rows: Sequence[Row], rates: Mapping[str, float]) -> tuple[Fitted, dict[str, float], int]:
    """Return a device fitted to its calibration rows, the constants that these decided, and how many rows."""
    target, device = TARGETS[name], shipped(name)
    own = [row for row in of_role(rows, CALIBRATION) if row.hardware in target.fitted]
    priors = STARTS
    if any(row.dtype in SIXTEEN_BITS for row in own):
        own += [row for row in of_twin(target.twin, rows, device) if row.dtype == "fp8"]
    elif target.twin:
        known = fit_device(target.twin, rows, rates)[1]
        priors = {**STARTS, **{name: known[name] for name in SHAPES if name in known}}
    if target.streams in rates:
        peak = _bandwidth(target.streams)
        device = replace(device, efficiency=replace(device.efficiency, memory=rates[target.streams] / peak))
    # fp4 last and alone: what small shapes lose is known from formats of which more was measured.
    fp4 = [row for row in own if row.dtype == "fp4"]
    fitted, constants = fit(device, [row for row in own if row not in fp4], priors=priors)
    if fp4:
        engines = {"engine": fitted.engine, "narrow engine": fitted.narrow_engine}
        known = {**priors, **engines, "matmul": fitted.device.efficiency.matmul, **constants}
        del known["fp4"]
        fitted, last = fit(device, fp4, known)
        constants |= last
    return fitted, constants, len(own)


def of_twin(twin: str, rows: Sequence[Row], device: Device) -> list[Row]:
    """Return the calibration rows of a device's twin as the device would run them, by the ratio of their peaks."""
    if not twin:
        return []
    peak = shipped(twin).peak
    own = [row for row in of_role(rows, CALIBRATION) if row.hardware in TARGETS[twin].fitted]
    return [replace(row, seconds=row.seconds * peak[row.dtype] / device.peak[row.dtype]) for row in own]


def _bandwidth(hardware: str) -> float:
    name = next(name for name, target in TARGETS.items() if target.streams == hardware)
    return shipped(name).memory_bandwidth


def write_device(path: Path, fitted: Fitted, constants: Mapping[str, float], source: str) -> None:
    """Put the launch overhead and the efficiency into a device's file; everything else stays as it is."""
    device, known = fitted.device, fitted.device.efficiency
    lines = [f"matmul: {known.matmul:.1%}"]
    dtypes = {dtype: fraction for dtype, fraction in known.by_dtype.items() if dtype in constants}
    if dtypes:
        lines.append("dtypes: {" + ", ".join(f"{dtype}: {fraction:.1%}" for dtype, fraction in dtypes.items()) + "}")
    lines += [f"edge: {known.edge:.3g}", f"depth: {known.depth:.3g}"]
    if known.cast:
        lines.append(f"cast: {known.cast:.2g} B")
    if known.attention:
        spent = known.attention
        lines.append(
            f"attention: {{forward: {spent.forward:.1%}, backward: {spent.backward:.1%}, "
            f"edge: {spent.edge:.0f}, rows: {spent.rows:.0f}"
            + (f", over_flash2: {spent.over_flash2:g}}}" if spent.over_flash2 != 1 else "}")
        )
    lines += [f"memory: {known.memory:.1%}", "source: >-"]
    block = (
        "efficiency:\n"
        + indent("\n".join(lines), "  ")
        + "\n"
        + indent(fill(source, 112, break_on_hyphens=False), "    ")
        + "\n"
    )
    text = re.sub(r"^efficiency:\n(?: .*\n)+", block, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    launch = f"launch_overhead: {device.launch_overhead / MICROSECOND:.2g} us"
    path.write_text(re.sub(r"^launch_overhead: .*$", launch, text, flags=re.MULTILINE), encoding="utf-8")


def describe(name: str, rows: Sequence[Row], constants: Mapping[str, float], count: int) -> str:
    """Return where the constants of a device come from, for its file."""
    target = TARGETS[name]
    sources = sorted({row.source for row in rows if row.hardware in target.fitted and row.role == CALIBRATION})
    words = f"benchmarks/fit_devices.py on {count} calibration rows of others ({', '.join(sources)}); docs/devices.md."
    if "matmul" not in constants:
        measured, same = ("fp8 and fp4", "fp8's") if "fp4" in constants else ("fp8", "the same")
        words += f" Products were measured in {measured} alone: {same} fraction of the peak is taken for every dtype"
        words += f", for 16 bits times the ratio of {target.twin}'s." if target.twin else "."
    if "edge" not in constants or count < 30:
        prior = f"those of {target.twin}, the same chip" if target.twin else "half of a tile of 128 and one"
        words += f" Edge and depth are mostly the prior, {prior}: few shapes were measured."
    if "forward" not in constants:
        words += " Attention was not measured: "
        words += f"as on {target.twin}." if target.twin else "a default near that of A100, H100 and B200."
    elif not any(row.op.endswith("bwd") for row in rows if row.hardware in target.fitted):
        words += f" Attention backward was not measured: {STARTS['ratio']:.0%} of forward."
    if target.streams and target.streams not in target.fitted and target.streams not in target.judged:
        words += f" Memory: as measured on {target.streams}."
    if not target.streams:
        words += " Memory: the general default."
    if "engine" in constants:
        words += f" {ENGINE}'s short runs are {constants['engine']:.2f} times as fast as the others, which count."
    if "narrow engine" in constants:
        words += f" Of fp8 {constants['narrow engine']:.2f} times as fast as {target.twin}'s rows for its peak."
    return words


def judge(name: str, fitted: Fitted, rows: Iterable[Row]) -> list[str]:
    """Return the table rows of a device: errors by operation, dtype and source."""
    target = TARGETS[name]
    own = [row for row in rows if row.hardware in (*target.fitted, *target.judged)]
    lines = []
    for key in sorted({(row.op, row.dtype, row.source) for row in own}):
        same = [row for row in own if (row.op, row.dtype, row.source) == key]
        cells = [_errors([fitted.error(row) for row in of_role(same, role)]) for role in (CALIBRATION, TEST)]
        lines.append(f"| {name} | {' | '.join(key)} | {' | '.join(cells)} |")
    return lines


def _errors(errors: Sequence[float]) -> str:
    if not errors:
        return "0 | - | - | -"
    relative = np.expm1(errors)
    size = np.abs(relative)
    return f"{len(errors)} | {np.median(size):.1%} | {np.quantile(size, 0.9):.1%} | {np.median(relative):+.1%}"


HEADER = """| device | operation | dtype | source | rows | median | p90 | bias | test rows | median | p90 | bias |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def in_waves(row: Row, multiprocessors: int) -> Row:
    """Return a row whose products are filled up to whole waves of tiles, one tile on each multiprocessor."""
    (kernel,) = row.kernels
    tiles = kernel.batch * ceil(kernel.m / TILE[0]) * ceil(kernel.n / TILE[1])
    waves = ceil(tiles / multiprocessors)
    flops = 2.0 * waves * multiprocessors * TILE[0] * TILE[1] * kernel.k
    return replace(row, kernels=(replace(kernel, flops=flops),))


def compare_forms(rows: Sequence[Row]) -> list[str]:
    """Return a table of forms of the efficiency of 16-bit products: median and p90 of each device's test rows."""
    none = 1e-9
    forms: dict[str, tuple[dict[str, float], Callable[[Row, int], Row]]] = {
        "one fraction": ({"edge": none, "depth": none}, lambda row, _: row),
        "and depth": ({"edge": none}, lambda row, _: row),
        "and edge (used)": ({}, lambda row, _: row),
        "whole waves of tiles, depth": ({"edge": none}, in_waves),
    }
    lines = ["| form | " + " | ".join(MULTIPROCESSORS) + " |", "|---|" + "---|" * len(MULTIPROCESSORS)]
    for form, (frozen, change) in forms.items():
        cells = []
        for name, multiprocessors in MULTIPROCESSORS.items():
            products = [row for row in rows if row.family == "product" and row.dtype in SIXTEEN_BITS]
            own = [change(row, multiprocessors) for row in products if row.hardware in TARGETS[name].fitted]
            fitted, _ = fit(shipped(name), of_role(own, CALIBRATION), frozen)
            errors = [
                np.abs(np.expm1([fitted.error(row) for row in of_role(own, role)])) for role in (CALIBRATION, TEST)
            ]
            cells.append(" / ".join(f"{np.median(each):.1%}, {np.quantile(each, 0.9):.1%}" for each in errors))
        lines.append(f"| {form} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=MEASURED)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows, left_out = read_rows(options.measured / "gemm.csv")
    rates = stream_rates(options.measured / "memory_bw.csv")
    table, constants_of = [HEADER], {}
    for name, target in TARGETS.items():
        if target.fitted:
            fitted, constants, count = fit_device(name, rows, rates)
            constants_of[name] = constants
            if options.write:
                write_device(DEVICES / f"{name}.yaml", fitted, constants, describe(name, rows, constants, count))
            print(name, {key: float(f"{value:.3g}") for key, value in constants.items()})
        else:
            fitted = Fitted(device=shipped(name), engine=1.0, narrow_engine=1.0, attention_engine=1.0)
        table += judge(name, fitted, rows)
    forms, layers = compare_forms(rows), layer_table(shipped("a100-sxm-80gb"), options.measured)
    note = "; ".join(f"{count} rows left out: {reason}" for reason, count in left_out.items())
    sections = {"kernels": "\n".join([*table, "", f"{note}."]), "forms": "\n".join(forms), "layers": "\n".join(layers)}
    for section, body in sections.items():
        print(f"\n{body}")
        if options.write:
            write_section(PAGE, section, body)


if __name__ == "__main__":
    main()
