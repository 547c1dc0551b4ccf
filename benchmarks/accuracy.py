"""Published training runs beside predictions: step time, peak memory, bubble, and the ranking of plans.

Usage: python benchmarks/accuracy.py [--runs FILE ...] [--levels AB] [--source WORD] [--id WORD] [--limit N]
    [--jobs N] [--json OUT] [--rows] [--write]

Every row of the tables is made into a model, a topology and a plan (as by `plancast import-run`) and simulated. A row
that cannot be expressed is skipped with its reason. Prints a summary (with --rows every row too); --write puts it into
docs/accuracy.md with a plot, --json writes one entry a row.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from accuracy_goals import goals, peers
from accuracy_tables import row_line, summary, worst
from scatter import scatter
from sections import write_section

from simulator.collector import paused_collector
from simulator.errors import InputError, PlancastError
from simulator.inputs.yaml_source import Document
from simulator.load import build
from simulator.planning import predict
from simulator.published import Row, convert, peak_bytes, read_rows, step_seconds

ROOT = Path(__file__).parents[1]
MEASURED = ROOT.parent / "shared" / "measured"
RUNS = (MEASURED / "runs.csv", MEASURED / "runs_vtrain.csv")
PAGE, PLOT = ROOT / "docs" / "accuracy.md", ROOT / "docs" / "accuracy.svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One row: what was measured, what is predicted, or why it is not. Seconds and bytes."""

    id: str
    source: str
    hardware: str
    framework: str
    model: str
    role: str
    level: str
    status: str
    reason: str = ""
    scheme: str = ""
    contest: tuple[str, ...] = ()
    samples: int = 1
    predicted_s: float | None = None
    measured_s: float | None = None
    predicted_peak_memory_bytes: float | None = None
    measured_peak_memory_bytes: float | None = None
    predicted_bubble: float | None = None
    measured_bubble: float | None = None
    fits: bool = True

    @property
    def error(self) -> float | None:
        """Signed error of the step time, 1."""
        return _error(self.predicted_s, self.measured_s)

    @property
    def memory_error(self) -> float | None:
        """Signed error of the peak memory, 1."""
        return _error(self.predicted_peak_memory_bytes, self.measured_peak_memory_bytes)

    def entry(self) -> dict[str, object]:
        """Return what the file of --json holds."""
        names = ("id", "source", "hardware", "status", "reason", "predicted_s", "measured_s")
        memory = ("predicted_peak_memory_bytes", "measured_peak_memory_bytes")
        return {name: getattr(self, name) for name in (*names, *memory)}


def _stated(row: Row) -> dict[str, Any]:
    """Return what a row says of itself."""
    names = ("source", "hardware", "framework", "model", "role")
    return {
        **{name: row.text(name) for name in names},
        "id": row.id,
        "level": row.text("spec_level").upper(),
        "contest": tuple(row.text(column) for column in CONTEST),
        "measured_s": step_seconds(row),
        "measured_peak_memory_bytes": peak_bytes(row),
        "measured_bubble": row.number("bubble_rate"),
    }


def _error(predicted: float | None, measured: float | None) -> float | None:
    return predicted / measured - 1 if predicted and measured else None


CONTEST = ("source", "model", "layers", "hidden", "seq_len", "vocab", "hardware", "gpus", "dtype")
"""Rows that agree in these differ in plan and batch alone: what a search would have to put in order."""


def evaluate(row: Row) -> Outcome:
    """Predict one row."""
    return next(outcomes([row], 1))


def _described(row: Row) -> tuple[Document, ...] | str:
    """Return the run that a row describes, or why it cannot be expressed."""
    try:
        return tuple(convert(row).documents())
    except InputError as error:
        return _reason(error)


@paused_collector()
def _predicted(run: tuple[Document, ...] | str) -> dict[str, Any]:
    """Return what an outcome says beyond its row: the prediction, or why there is none."""
    if isinstance(run, str):
        return {"status": "skipped", "reason": run}
    try:
        prediction = predict(build(run))
    except PlancastError as error:
        return {"status": "skipped", "reason": _reason(error)}
    plan, result = prediction.inputs.plan, prediction.result()
    return {
        "status": "ok",
        "scheme": _scheme(plan),
        "samples": plan.global_batch_size,
        "predicted_s": result["step_time_s"],
        "predicted_peak_memory_bytes": result["peak_memory_bytes"],
        "predicted_bubble": result["bubble_fraction"],
        "fits": prediction.fits,
    }


def _reason(error: PlancastError) -> str:
    if isinstance(error, InputError):
        return "; ".join(f"{each.key}: {each.message}" for each in error.diagnostics)
    return str(error).splitlines()[0]


def _scheme(plan: object) -> str:
    """Return the parallel axes in words, as ``tp + pp + fsdp``."""
    axes = [axis for axis in ("tp", "pp", "cp", "ep") if getattr(plan, axis, 1) > 1]
    sharding = getattr(plan, "sharding", "none")
    if getattr(plan, "dp", 1) > 1:
        axes.append("dp" if sharding == "none" else sharding)
    return " + ".join(axes) or "one device"


def outcomes(rows: Iterable[Row], jobs: int) -> Iterator[Outcome]:
    """Yield the outcome of every row, in order; runs that were measured more than once are predicted once."""
    rows = list(rows)
    runs = [_described(row) for row in rows]
    names = [_content(run) for run in runs]
    different = dict(zip(reversed(names), reversed(runs), strict=True))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) if jobs > 1 else nullcontext() as pool:
        predictions = (pool.map if pool else map)(_predicted, (different[name] for name in dict.fromkeys(names)))
        known: dict[str, dict[str, Any]] = {}
        for row, name in zip(rows, names, strict=True):
            if name not in known:
                known[name] = next(predictions)
            yield Outcome(**_stated(row), **known[name])


def _content(run: tuple[Document, ...] | str) -> str:
    """Return what a run's files say, but for the name of its plan, which is the row's."""
    return run if isinstance(run, str) else repr([each.data | {"name": each.name} for each in run])


def choose(rows: Iterable[Row], arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows that were asked for."""
    for row in rows:
        if arguments.source.lower() in row.text("source").lower() and arguments.id in row.id:
            yield row


def too_vague(row: Row, levels: str) -> Outcome | None:
    """Return the outcome of a row that states too little to be a yardstick, None for the others."""
    level = row.text("spec_level").upper()
    reason = ""
    if level and level not in levels:
        reason = f"spec_level {level}: too little is stated"
    elif step_seconds(row) is None and row.number("peak_mem_GB") is None:
        reason = "neither a time nor a throughput with its batch is stated"
    if not reason:
        return None
    return Outcome(status="skipped", reason=reason, **_stated(row))


def main() -> None:
    """Predict, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", default=RUNS)
    parser.add_argument("--levels", default="AB", help="values of spec_level to try; rows without one are tried")
    parser.add_argument("--source", default="", help="only sources with this in their name")
    parser.add_argument("--id", default="", help="only rows with this in their id")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", action="store_true", help="print every row")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = [row for path in arguments.runs for row in choose(read_rows(path), arguments)][: arguments.limit]
    vague = {(row.path, row.line): too_vague(row, arguments.levels.upper()) for row in rows}
    predicted = outcomes([row for row in rows if vague[row.path, row.line] is None], arguments.jobs)
    found = []
    for row in rows:
        found.append(vague[row.path, row.line] or next(predicted))
        if arguments.rows:
            print(row_line(found[-1]), flush=True)
    body = "\n\n".join([goals(found), summary(found), peers(found)])
    print(body)
    if arguments.json:
        arguments.json.write_text(json.dumps([each.entry() for each in found], indent=1), encoding="utf-8")
    if arguments.write:
        pairs = [(each.source, each.measured_s, each.predicted_s) for each in found if each.error is not None]
        PLOT.write_text(scatter(pairs, "measured step, s", "predicted step, s"), encoding="utf-8")
        write_section(PAGE, "summary", body)
        write_section(PAGE, "worst", worst(found))


if __name__ == "__main__":
    main()
