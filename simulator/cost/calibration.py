"""What was measured on a machine: times of layers, updates and messages, and what its devices reach at all.

Written by ``plancast calibrate``.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simulator.model.layers.base import Layer, Shape

FORMAT = "plancast-calibration-1"

FORWARD, BACKWARD, WEIGHT_ONLY = "forward", "backward", "weight_only"
"""Measured parts of a layer: forward; full backward; backward of a layer whose input needs no gradient."""

INPUT_GRAD, INNER_GRAD, WEIGHT_GRAD = "input_grad", "inner_grad", "weight_grad"
"""Parts of a backward that was measured apart: what I runs of a layer; what it runs of a layer whose input needs no
gradient; what W runs of either."""

MEMORY_BANDWIDTH, LAUNCH_OVERHEAD, OVERLAP_SLOWDOWN = "memory bandwidth", "launch overhead", "overlap slowdown"
"""Figures of a device: bytes/s that a stream reaches, seconds of the device for each kernel beside its work, and the
fraction by which computing is slower beside a message."""

UPDATE = ("each step", "each parameter")
"""The two times of an update."""


def layer_key(layer: Layer, inputs: tuple[Shape, ...], batch: int, dtype: str) -> str:
    """Return the text by which a layer's times are looked up: the layer, its input shapes, batch and dtype."""
    shapes = " ".join("x".join(map(str, shape)) for shape in inputs)
    return f"{layer!r} on {shapes} batch {batch} {dtype}"


def message_key(operation: str, num_ranks: int) -> str:
    """Return the text by which times of messages are looked up."""
    return f"{operation} x{num_ranks}"


def update_key(optimizer: str, dtype: str) -> str:
    """Return the text by which times of parameter updates are looked up."""
    return f"{optimizer} {dtype}"


def product_rate(dtype: str) -> str:
    """Return the name of a device's figure: FLOP/s of an endless matrix product in a dtype."""
    return f"products {dtype}"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Measured times, in seconds unless said otherwise; empty tables mean nothing was measured.

    Parameters
    ----------
    layers
        ``layer_key`` -> part -> seconds.
    messages
        ``message_key`` -> ascending (bytes, seconds) pairs.
    updates
        ``update_key`` -> (seconds each step, seconds a parameter).
    starts
        Part of a backward (``backward``, ``input_grad``) -> seconds before its first layer: what each B or I costs
        beside its layers.
    jitter
        Relative standard deviation of the times of F and B instructions, beyond the drift that all ranks share.
    spread
        Name of a time in ``times`` -> the least and the most that one of several measurements gave, over that time.
    device
        Figure of the devices (``MEMORY_BANDWIDTH``, ...) -> its value in each sample, in its own SI unit. No prediction
        reads them; a topology takes them over (``simulator/planning/overlay.py``).
    about
        Date, machine, versions: shown with every prediction that rests on this file.
    """

    layers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    messages: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    updates: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    starts: Mapping[str, float] = field(default_factory=dict)
    jitter: float = 0.0
    spread: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    device: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)

    def message_seconds(self, operation: str, num_ranks: int, size: float) -> float | None:
        """Return the time of a message by interpolation between measured sizes, None if that was not measured.

        Outside the measured sizes the nearest two points are extended: below, the smallest size's time stands.
        """
        points = self.messages.get(message_key(operation, num_ranks))
        if not points:
            return None
        if len(points) == 1 or size <= points[0][0]:
            return points[0][1] * (1.0 if size <= points[0][0] else size / points[0][0])
        index = min(bisect.bisect_left(points, (size, 0.0)), len(points) - 1)
        (x0, y0), (x1, y1) = points[index - 1], points[index]
        return max(0.0, y0 + (y1 - y0) * (size - x0) / (x1 - x0))

    def times(self) -> dict[str, float]:
        """Return every measured time in seconds, each under a name of its own."""
        return {
            **{f"{key} {part}": seconds for key, parts in self.layers.items() for part, seconds in parts.items()},
            **{f"{key} {size:.0f} B": seconds for key, points in self.messages.items() for size, seconds in points},
            **{f"{kind} {UPDATE[index]}": pair[index] for kind, pair in self.updates.items() for index in (0, 1)},
            **{f"start of {part}": seconds for part, seconds in self.starts.items()},
        }

    def at(self, end: int) -> Calibration:
        """Return the same with every time the least (end 0) or the most (end 1) that was measured of it."""

        def seen(name: str, seconds: float) -> float:
            return seconds * self.spread.get(name, (1.0, 1.0))[end]

        return replace(
            self,
            layers={
                key: {part: seen(f"{key} {part}", seconds) for part, seconds in parts.items()}
                for key, parts in self.layers.items()
            },
            messages={
                key: tuple((size, seen(f"{key} {size:.0f} B", seconds)) for size, seconds in points)
                for key, points in self.messages.items()
            },
            updates={
                kind: (seen(f"{kind} {UPDATE[0]}", fixed), seen(f"{kind} {UPDATE[1]}", slope))
                for kind, (fixed, slope) in self.updates.items()
            },
            starts={part: seen(f"start of {part}", seconds) for part, seconds in self.starts.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "format": FORMAT,
            "about": dict(self.about),
            "jitter": self.jitter,
            "spread": {name: list(ends) for name, ends in self.spread.items()},
            "device": {figure: list(values) for figure, values in self.device.items()},
            "starts": dict(self.starts),
            "updates": {kind: list(pair) for kind, pair in self.updates.items()},
            "messages": {key: [list(point) for point in points] for key, points in self.messages.items()},
            "layers": {key: dict(parts) for key, parts in self.layers.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        """Return the calibration that ``to_json`` wrote; raises ValueError, with what is missing, for anything else."""
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise ValueError(f"its format is {found}, not {FORMAT}" if found else f"it has no format {FORMAT}")
        try:
            return cls(
                layers={key: _seconds(parts) for key, parts in data["layers"].items()},
                messages={
                    key: tuple((float(x), float(y)) for x, y in points) for key, points in data["messages"].items()
                },
                updates={kind: (float(fixed), float(slope)) for kind, (fixed, slope) in data["updates"].items()},
                starts=_seconds(data.get("starts", {})),
                jitter=float(data["jitter"]),
                spread={name: (float(least), float(most)) for name, (least, most) in data.get("spread", {}).items()},
                device={figure: tuple(map(float, values)) for figure, values in data.get("device", {}).items()},
                about=dict(data["about"]),
            )
        except KeyError as error:
            raise ValueError(f"it has no {error.args[0]}") from None
        except (AttributeError, TypeError, ValueError):
            raise ValueError("its tables are not of the form that is written") from None


def _seconds(parts: Mapping[str, Any]) -> dict[str, float]:
    return {part: float(seconds) for part, seconds in parts.items()}
