"""What the name of a device says: chip, form and memory, in a row as in the library of devices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from simulator.inputs.presets import preset_names
from simulator.topology.device_library import with_library
from simulator.units import parse_bytes

_CHIP = re.compile(
    r"GB\d00|GH200|[ABH][1-9]00|H20\b|B300|[ABHV]100|A800|H800|P\d{2,3}\b|T4\b|L40S?|L4\b|A10G?\b|A[346]0(?:00)?\b|"
    r"MI\d{3}[AX]?|RTX[ -]?\d{4}|TPU[ -]?v\d\w*|Trainium\d?",
    re.IGNORECASE,
)
_GIGABYTES = re.compile(r"(\d{2,3})(?:/\d{2,3})? ?Gi?B", re.IGNORECASE)

SLACK = 0.1
"""Of the memory: 94, 95 and 96 GB, or 180 and 186, are one part sold under several labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """What a name says.

    Parameters
    ----------
    name
        The chip, as ``A100``.
    form
        ``sxm``, ``pcie`` or empty.
    gigabytes
        Memory, 0 where it is not stated.
    domain
        Devices behind one another's NVLink as an NVL72 says, 0 where it does not.
    """

    name: str
    form: str
    gigabytes: int
    domain: int = 0


def chip_of(hardware: str, link: str = "") -> Chip | None:
    """Return what a device's name says, with the link between devices to tell PCIe cards from modules."""
    found = _CHIP.search(hardware)
    if found is None:
        return None
    form = "pcie" if re.search("pcie", hardware, re.IGNORECASE) else ""
    form = form or ("sxm" if re.search("sxm|nvl|dgx|hgx|oam", hardware, re.IGNORECASE) else "")
    form = form or ("pcie" if re.search("pcie", link, re.IGNORECASE) else "")
    memory = _GIGABYTES.search(hardware)
    domain = re.search(r"NVL(\d+)", hardware, re.IGNORECASE)
    return Chip(
        name=re.sub(r"[ -]", "", found[0]).upper(),
        form=form,
        gigabytes=int(memory[1]) if memory else 0,
        domain=int(domain[1]) if domain else 0,
    )


@cache
def shipped_devices() -> Mapping[str, float]:
    """Return the memory of every device of the library, bytes."""
    memories = {}
    for name in preset_names("topologies/devices"):
        keys = with_library({"from": name})
        memories[name] = parse_bytes(str(keys["memory"]))
    return memories


def device_for(chip: Chip) -> str | None:
    """Return the device of the library that a chip is, None without any.

    The nearest memory counts where it is stated; elsewhere the plainest name, and of several the largest memory.
    """
    fitting: list[tuple[bool, float, int, float, str]] = []
    for name, size in shipped_devices().items():
        other = chip_of(name)
        if other is None or other.name != chip.name or {chip.form, other.form} == {"sxm", "pcie"}:
            continue
        memory = size / parse_bytes("1 GB")
        apart = abs(memory - chip.gigabytes) / chip.gigabytes if chip.gigabytes else 0.0
        if apart <= SLACK:
            fitting.append((other.form == chip.form, -apart, -len(name), memory, name))
    return max(fitting)[-1] if fitting else None
