"""Text with a unit <-> SI floats: seconds, bytes, bytes/s, FLOP/s.

This is the only module that knows prefixes. Everywhere else a number is in its SI unit, and a name carries no prefix.

Case matters, because it is the only thing that tells bits from bytes: ``400 Gb/s`` is 50 GB/s. ``GB`` is 10^9 bytes
and ``GiB`` is 2^30 bytes. A number without a unit is refused, and so are a unit of another dimension, infinity and
not-a-number. A sign is allowed here; what may be negative is for the field to say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from quantiphy import Quantity

from simulator.errors import quote

__all__ = [
    "format_bandwidth",
    "format_bytes",
    "format_count",
    "format_flop",
    "format_flop_rate",
    "format_percent",
    "format_seconds",
    "parse_bandwidth",
    "parse_bytes",
    "parse_flop_rate",
    "parse_fraction",
    "parse_seconds",
    "write_bandwidth",
    "write_seconds",
]

_LARGE = ("", "k", "K", "M", "G", "T", "P", "E")
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_SMALL = ("", "m", "u", "µ", "μ", "n", "p")

_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?)\s*(.*?)\s*", re.DOTALL)
_LONGEST = 40
"""Characters; no quantity needs more, and longer ones would cost time to read."""

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dimension:
    """What may be written for one kind of quantity, and what to say otherwise.

    ``units`` maps each accepted unit to its size in SI; ``{n}`` in ``advice`` stands for the number that was given.
    """

    noun: str
    advice: str
    example: str
    units: Mapping[str, float]

    def parse(self, text: str) -> float:
        """Return the value of `text` in SI units, or raise a `ValueError` that says what to write instead."""
        match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
        if match is None:
            raise ValueError(f"{quote(text)} is not {self.noun}; write {self._advise(self.example)}")
        number, unit = match.groups()
        size = self.units.get(unit)
        if size is None:
            fault = f"is not {self.noun}" if unit else "has no unit"
            raise ValueError(f"{quote(text)} {fault}; write {self._advise(number)}")
        # Decimal, so that "0.9 us" is the float nearest to 0.9e-6 and not a product of two rounded numbers.
        value = float(Decimal(number) * Decimal(str(size)))
        if not math.isfinite(value):
            raise ValueError(f"{quote(text)} is not finite; write {self._advise(self.example)}")
        return value

    def _advise(self, number: str) -> str:
        """Put the user's own number into the advice, unless that is absurd with a prefix (``50000000000 GB/s``)."""
        own = number if 0 < abs(float(number)) < 10_000 else self.example
        value = float(own)
        # 25 where a percentage is due is 25%, and 0.25 is as well.
        percent = f"{100 * value:.4g}" if abs(value) < 1 else own
        return self.advice.format(n=own, n_in_bytes=f"{value / 8:.4g}", n_in_percent=percent)


def _scaled(prefixes: tuple[str, ...], *units: str, size: float = 1.0) -> dict[str, float]:
    """Each prefix with each of `units`, and its size; quantiphy is what knows the prefixes."""
    names = [prefix + unit for prefix in prefixes for unit in units]
    return {name: size * float(Quantity(f"1 {name}", binary=True)) for name in names}


_BYTES = _Dimension(
    noun="a size",
    advice="{n} GB (10^9 bytes) or {n} GiB (2^30 bytes)",
    example="80",
    units=_scaled(_LARGE + _BINARY, "B"),
)
_BANDWIDTH = _Dimension(
    noun="a rate",
    advice="{n} Gb/s (bits) or {n_in_bytes} GB/s (bytes)",
    example="400",
    units=_scaled(_LARGE + _BINARY, "B/s") | _scaled(_LARGE, "b/s", "bit/s", "bps", size=1 / 8),
)
_SECONDS = _Dimension(
    noun="a time",
    advice="{n} us, {n} ms or {n} s",
    example="1.5",
    units=_scaled(_SMALL, "s") | {"min": _MINUTE, "h": _HOUR, "d": _DAY},
)
_FLOP_RATE = _Dimension(
    noun="a compute rate",
    advice="{n} TFLOP/s",
    example="312",
    units=_scaled(_LARGE, "FLOP/s", "FLOPS"),
)
_FRACTION = _Dimension(
    noun="a percentage",
    advice="{n_in_percent}%, with the percent sign",
    example="80",
    units={"%": 0.01},
)


def parse_bytes(text: str) -> float:
    """Return the bytes in ``"80 GiB"``, ``"40 GB"`` or ``"512 B"``.

    Raises
    ------
    ValueError
        If `text` is not a number with a unit of size; the message says what to write instead.

    Examples
    --------
    >>> parse_bytes("2 KiB")
    2048.0
    """
    return _BYTES.parse(text)


def parse_bandwidth(text: str) -> float:
    """Return the bytes/s in ``"450 GB/s"`` (bytes) or ``"400 Gb/s"`` (bits, also ``Gbit/s`` and ``Gbps``).

    Raises
    ------
    ValueError
        If `text` is not a number with a unit of data per second; the message says what to write instead.

    Examples
    --------
    >>> parse_bandwidth("400 Gb/s")
    50000000000.0
    """
    return _BANDWIDTH.parse(text)


def parse_seconds(text: str) -> float:
    """Return the seconds in ``"1.5 us"``, ``"2 ms"``, ``"3 s"``, ``"10 min"``, ``"4 h"`` or ``"30 d"``.

    Raises
    ------
    ValueError
        If `text` is not a number with a unit of time; the message says what to write instead.
    """
    return _SECONDS.parse(text)


def parse_flop_rate(text: str) -> float:
    """Return the FLOP/s in ``"312 TFLOP/s"`` (also ``TFLOPS``).

    Raises
    ------
    ValueError
        If `text` is not a number with a unit of compute rate; the message says what to write instead.
    """
    return _FLOP_RATE.parse(text)


def parse_fraction(text: str) -> float:
    """Return the fraction (1) in a percentage: 0.8 for ``"80%"``.

    Raises
    ------
    ValueError
        If `text` is not a number with a percent sign; the message says what to write instead.
    """
    return _FRACTION.parse(text)


class _Shown(Quantity):
    """A quantity as plancast prints it; a class of its own leaves quantiphy's global preferences alone."""


_Shown.set_prefs(output_sf="EPTGMkmunp", prec=3)


def _show_large(value: float, unit: str) -> str:
    """Show a quantity that comes in thousands, and hardly in thousandths: ``0.25 B/s``, not ``250 mB/s``."""
    return f"{value:.4g} {unit}" if abs(value) < 1 else _Shown(value, unit).render()


def format_seconds(value: float) -> str:
    """Show seconds as ``3.842 s``, ``1.5 us``; above two minutes in min, h or d."""
    size = abs(value) if math.isfinite(value) else 0.0
    for unit, seconds in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if size >= 2 * seconds:
            return f"{value / seconds:.4g} {unit}"
    return _Shown(value, "s").render()


def format_bytes(value: float) -> str:
    """Show bytes with a binary prefix, as ``71.2 GiB``."""
    return _Shown(value, "B").binary()


def format_bandwidth(value: float) -> str:
    """Show bytes/s with a decimal prefix, as ``450 GB/s``."""
    return _show_large(value, "B/s")


def format_flop(value: float) -> str:
    """Show FLOP with a decimal prefix, as ``21.4 TFLOP``."""
    return _show_large(value, "FLOP")


def format_flop_rate(value: float) -> str:
    """Show FLOP/s with a decimal prefix, as ``989 TFLOP/s``."""
    return _show_large(value, "FLOP/s")


def format_count(value: float) -> str:
    """Show a plain number with a decimal prefix, as ``70.6 G`` or ``68.3 k``, ready for its noun."""
    # With a unit to follow, the prefix is set off by a space; the unit itself is then taken away.
    return _show_large(value, "#").removesuffix("#").rstrip()


def format_percent(value: float, *, signed: bool = False) -> str:
    """Show a fraction (1) as ``41.7 %``; with a plus sign where `signed`, as an error is written."""
    sign = "+" if signed else ""
    percent = 100 * value
    digits = ".0f" if 100 <= abs(percent) < math.inf else ".3g"
    return f"{percent:{sign}{digits}} %"


def write_bandwidth(value: float) -> str:
    """Write bytes/s for a file: ``parse_bandwidth`` reads the very same float again.

    Examples
    --------
    >>> write_bandwidth(31507692307.692307)
    '31.507692307692307 GB/s'
    """
    return _write(value, ("TB/s", "GB/s", "MB/s", "kB/s", "B/s"), _BANDWIDTH)


def write_seconds(value: float) -> str:
    """Write seconds for a file: ``parse_seconds`` reads the very same float again."""
    return _write(value, ("s", "ms", "us", "ns"), _SECONDS)


def _write(value: float, units: tuple[str, ...], dimension: _Dimension) -> str:
    """Write all digits of a value, in the first of `units` that makes it one or more, or else in the last."""
    unit = next((unit for unit in units if abs(value) >= dimension.units[unit]), units[-1] if value else units[0])
    # Decimal: a float divided by 1e-6 would be another number.
    number = Decimal(repr(value)) / Decimal(str(dimension.units[unit]))
    return f"{number.normalize():f} {unit}"
