"""Two runs of a group, with two and three samples, become sizes that grow with the micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from executor.tracing.kernels import RawKernel
from executor.tracing.record import Record

SAMPLES = (2, 3)
"""Of either run. Not 1: what has one sample may be broadcast."""

REAL_BYTES = 4
"""Of a real number while tracing (fp32)."""

Refuse = Callable[[str], Any]


def sample_shape(shapes: Sequence[Sequence[int]], refuse: Refuse) -> list[int]:
    """Return the per-sample shape of a tensor that was seen for either number of samples."""
    few, more = shapes
    grown = [axis for axis, (a, b) in enumerate(zip(few, more, strict=True)) if a != b]
    if len(grown) != 1 or few[grown[0]] % SAMPLES[0] or few[grown[0]] * SAMPLES[1] != more[grown[0]] * SAMPLES[0]:
        refuse(f"makes {list(few)} of {SAMPLES[0]} samples and {list(more)} of {SAMPLES[1]}: not a tensor a sample")
    (axis,) = grown
    share = few[axis] // SAMPLES[0]
    return [*few[:axis], *([share] if share > 1 else []), *few[axis + 1 :]]


def operation(records: Sequence[Record], shape: list[int], refuse: Refuse) -> dict[str, Any]:
    """Return the keys of an operation, those that have a value."""
    few, more = records

    def kernels(phase: str) -> list[dict[str, Any]]:
        pair = getattr(few, phase), getattr(more, phase)
        if [each.kind for each in pair[0]] != [each.kind for each in pair[1]]:
            refuse(f"runs other kernels for {SAMPLES[0]} samples than for {SAMPLES[1]}")
        return [_kernel(a, b, refuse) for a, b in zip(*pair, strict=True)]

    keys: dict[str, Any] = {
        "shape": shape,
        "forward": kernels("forward"),
        "input_grad": kernels("input_grad"),
        "weight_grad": kernels("weight_grad"),
        "keeps_inputs": few.keeps_inputs,
        "keeps_output": few.keeps_output,
        "keeps": _line(few.keeps, more.keeps, refuse, REAL_BYTES),
        "keeps_bytes": _line(few.keeps_bytes, more.keeps_bytes, refuse),
        "view": few.view,
        "passes_gradient": few.passes_gradient,
    }
    return {key: value for key, value in keys.items() if value}


def _kernel(few: RawKernel, more: RawKernel, refuse: Refuse) -> dict[str, Any]:
    match few.kind:
        case "memory":
            made = {"elements": _line(few.sizes["bytes"], more.sizes["bytes"], refuse, REAL_BYTES)}
            flops = _line(few.sizes["flops"], more.sizes["flops"], refuse)
            return {"kind": "memory", **made, **({"flops": flops} if flops else {})}
        case "matmul":
            return {"kind": "matmul", **_grown(few.sizes, more.sizes, refuse)}
    sizes = _grown(few.sizes, more.sizes, refuse)
    if sizes.pop("grows", "") != "heads":
        refuse("attends across samples")
    flags = {name: True for name in ("causal", "backward") if getattr(few, name)}
    return {"kind": "attention", **sizes, **flags}


def _grown(few: Mapping[str, int], more: Mapping[str, int], refuse: Refuse) -> dict[str, Any]:
    """Return the sizes of one sample, and which of them grows."""
    grown = [name for name in few if few[name] != more[name]]
    if not grown:
        return dict(few)
    (name, *others) = grown
    if others or few[name] % SAMPLES[0] or few[name] * SAMPLES[1] != more[name] * SAMPLES[0]:
        said = ", ".join(f"{each} {few[each]} and {more[each]}" for each in grown)
        refuse(f"has a product that does not grow with the samples: {said} for {SAMPLES[0]} and {SAMPLES[1]}")
    return {**few, name: few[name] // SAMPLES[0], "grows": name}


def _line(few: int, more: int, refuse: Refuse, unit: int = 1) -> dict[str, int]:
    """Return the line through both sizes, in units, rounded up; empty where there is nothing."""
    slope = more - few
    fixed = few - SAMPLES[0] * slope
    if slope < 0 or fixed < 0:
        refuse(f"moves or keeps {few} bytes for {SAMPLES[0]} samples and {more} for {SAMPLES[1]}: no straight line")
    found = {"fixed": -(-fixed // unit), "per_sample": -(-slope // unit)}
    return {name: size for name, size in found.items() if size}
