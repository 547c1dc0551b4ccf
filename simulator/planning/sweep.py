"""The first what-if: a grid over any keys, one prediction a point."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import Any

from simulator.cost import Calibration
from simulator.errors import Diagnostic, InputError, PlancastError
from simulator.inputs.yaml_source import Document
from simulator.load import apply_settings, build, read
from simulator.planning.fit import worst
from simulator.planning.predict import predict
from simulator.units import format_bytes, parse_bytes

MAX_POINTS = int(parse_bytes("64 KiB"))
"""Points of one grid; more are a slip of the pen."""

_COMMA = re.compile(r",(?![^\[{]*[\]}])")
"""Commas between values, but not those inside a list or a mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the grid.

    Parameters
    ----------
    settings
        Dotted key -> value, as text.
    result
        What ``simulate`` gives, without the list of ranks; empty where the plan is illegal.
    reason
        Why there is no result, or why it cannot run; empty when all is well.
    """

    settings: dict[str, str]
    result: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def order(self) -> tuple[bool, bool, float]:
        """Sort key: the fastest first, then what does not fit, then what is illegal."""
        return bool(self.reason), not self.result, self.result.get("step_time_s", 0.0)


def grid(over: Iterable[str]) -> list[dict[str, str]]:
    """Return every combination of ``key=value,value,...``.

    Raises
    ------
    InputError
        Something else was written, a key comes twice, or there are too many points.
    """
    axes: dict[str, list[str]] = {}
    diagnostics = []
    points = 1
    for text in over:
        key, equals, values = text.partition("=")
        listed = [value.strip() for value in _COMMA.split(values)]
        points *= len(listed)
        if not equals or "." not in key or not all(listed):
            message, hint = "is not a list of values", "write --over plan.tp=1,2,4"
        elif key in axes:
            message, hint = f"{key} is there twice", "write all its values in one --over"
        else:
            axes[key] = list(dict.fromkeys(listed))
            continue
        diagnostics.append(Diagnostic(f"--over {text}", "", message, hint))
    if points > MAX_POINTS:
        diagnostics.append(Diagnostic("--over", "", f"{points} points are more than {MAX_POINTS}", "leave values out"))
    if diagnostics:
        raise InputError(diagnostics)
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def read_documents(sources: Mapping[str, str]) -> list[Document]:
    """Read the named documents without checking them; raises InputError for all that cannot be read."""
    documents: list[Document] = []
    diagnostics: list[Diagnostic] = []
    for name, source in sources.items():
        try:
            documents.append(read(name, source))
        except InputError as error:
            diagnostics += error.diagnostics
    if diagnostics:
        raise InputError(diagnostics)
    return documents


def explore(
    documents: Sequence[Document],
    points: Sequence[dict[str, str]],
    calibration: Calibration | None = None,
    jobs: int = 1,
) -> Iterator[Point]:
    """Yield the points in the order given, each as soon as it is known.

    Parameters
    ----------
    documents
        Model, topology and plan as read.
    points
        Settings of each point.
    calibration
        Measured times.
    jobs
        Processes.
    """
    evaluate = partial(_evaluate, documents, calibration)
    if jobs <= 1:
        yield from map(evaluate, points)
        return
    # A fresh interpreter each: forking a process that has threads, as a progress bar does, may deadlock.
    with ProcessPoolExecutor(min(jobs, len(points)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(evaluate, points)


def _evaluate(documents: Sequence[Document], calibration: Calibration | None, settings: dict[str, str]) -> Point:
    changed = copy.deepcopy(documents)
    try:
        apply_settings(changed, [f"{key}={value}" for key, value in settings.items()])
        prediction = predict(build(changed), calibration)
    except InputError as error:
        reasons = (f"{each.key}: {each.message}" for each in error.diagnostics)
        return Point(settings=settings, reason="; ".join(reasons))
    except PlancastError as error:
        return Point(settings=settings, reason=str(error).splitlines()[0])
    result = prediction.result()
    del result["per_rank"]
    fullest = worst(prediction.memory)
    reason = (
        ""
        if prediction.fits
        else (
            f"does not fit: {format_bytes(fullest.memory.total)} of {format_bytes(fullest.capacity)}, "
            f"most of it {fullest.memory.dominant()}"
        )
    )
    return Point(settings=settings, result=result, reason=reason)
