"""The network between nodes: free text -> bytes/s of each node."""

from __future__ import annotations

import re

from simulator.units import parse_bandwidth

INFINIBAND = {"qdr": "40 Gb/s", "fdr": "56 Gb/s", "edr": "100 Gb/s", "hdr": "200 Gb/s", "ndr": "400 Gb/s"}
"""Four lanes of each generation (InfiniBand Trade Association, roadmap)."""

_RATE = re.compile(r"(?:(\d+) ?[x×*] ?)?(\d+(?:\.\d+)?) ?([GTgt])(?:(B(?:/s|ps))|b(?:it)?(?:/s|ps|E)?|E)?\b")
_TIMES = re.compile(r"(\d+) ?[x×*]", re.I)


def node_bandwidth(text: str, devices: int, adapters: int) -> float | None:
    """Return bytes/s into a node and direction, None where the text names no rate.

    Parameters
    ----------
    text
        As "8x200 Gb/s HDR IB per node", "400 Gb/s per GPU RDMA", "2 Tb/s RoCE per node", "4x HDR IB", "100 GbE".
    devices
        Devices of a node.
    adapters
        Network cards of a node where the text gives the rate of one InfiniBand card and no number.

    Notes
    -----
    A rate without "per GPU" and without a number of cards is that of the whole node on Ethernet, as clouds
    state it, and that of one card on InfiniBand, as its generations are named.
    """
    rate = _RATE.search(text)
    generation = next((name for name in INFINIBAND if re.search(rf"\b{name}", text, re.I)), None)
    if rate:
        times = rate[1]
        one = parse_bandwidth(f"{rate[2]} {rate[3].upper()}{'B' if rate[4] else 'b'}/s")
    elif generation:
        found = _TIMES.search(text)
        times, one = found[1] if found else None, parse_bandwidth(INFINIBAND[generation])
    else:
        return None
    if re.search(r"per (?:gpu|device|accelerator|card)|/ ?gpu", text, re.I):
        return one * devices
    if times:
        return one * int(times)
    infiniband = generation or re.search(r"infiniband|\bib\b", text, re.I)
    return one * adapters if infiniband and not re.search("per node", text, re.I) else one
