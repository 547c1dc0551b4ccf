"""Device kinds for imported clusters: taken from the shipped topologies, never made up."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from simulator.inputs.presets import preset_names, preset_path
from simulator.inputs.yaml_source import read_document
from simulator.topology.importers.facts import refuse
from simulator.topology.wiring import listed, suggest
from simulator.units import parse_bandwidth

NVLINK_GENERATIONS = {
    "V100": (6, "25 GB/s"),
    "A100": (12, "25 GB/s"),
    "H100": (18, "25 GB/s"),
    "H200": (18, "25 GB/s"),
    "B200": (18, "50 GB/s"),
    "GB200": (18, "50 GB/s"),
}
"""GPU model -> number of NVLinks and bandwidth of one per direction. NVIDIA data sheets: V100 300 GB/s, A100 600 GB/s,
H100 and H200 900 GB/s, B200 and GB200 1.8 TB/s, all links and both directions together."""

NVLINK_SOURCE = (
    "NVIDIA data sheets, NVLink: V100 300 GB/s for 6 links, A100 600 for 12, H100 900 for 18, B200 1,800 for 18"
)


def choose_kind(given: str | None, model: str | None, location: str) -> tuple[str, Any]:
    """Return a device kind and its block as the topology file has it.

    Parameters
    ----------
    given : str or None
        What the user asked for: a shipped kind, or ``FILE:KIND``. It wins.
    model : str or None
        The GPU model that the imported file names (``H100-SXM``), if it names one.
    location : str
        Where it names it, for errors.

    Raises
    ------
    InputError
        Neither leads to exactly one kind.
    """
    if given is not None:
        file, colon, kind = given.rpartition(":")
        kinds = _kinds_of(file) if colon else shipped_kinds()
        if kind not in kinds:
            refuse(f"--device {given}", f"no device kind is called {kind}", suggest(kind, kinds))
        return kind, kinds[kind]
    kinds = shipped_kinds()
    advice = f"write --device KIND or FILE:KIND; shipped: {listed(list(kinds))}"
    if model is None:
        refuse(location, "does not say which GPU it has", advice)
    fitting = [kind for kind in kinds if kind == model or kind.startswith(f"{model}-")]
    if len(fitting) != 1:
        found = f"is one of {listed(fitting)}" if fitting else "is in no shipped topology"
        refuse(location, f"names the GPU {model}, which {found}", advice)
    return fitting[0], kinds[fitting[0]]


@cache
def shipped_kinds() -> dict[str, Any]:
    """Every device kind of the shipped topologies with its block, as written there."""
    kinds: dict[str, Any] = {}
    for name in preset_names("topologies"):
        for kind, block in _kinds_of(name).items():
            kinds.setdefault(kind, block)
    return kinds


def lender(kinds: Iterable[str]) -> str | None:
    """Return the first shipped topology with such devices that says what the communication library costs there."""
    wanted = set(kinds)
    for name in preset_names("topologies"):
        collectives = read_document(topology_file(name), "topology").data.get("collectives")
        if (
            isinstance(collectives, dict)
            and collectives.keys() & {"from", "protocols"}
            and wanted & _kinds_of(name).keys()
        ):
            return name
    return None


def nvlinks(kind: str) -> tuple[int, float] | None:
    """Number of NVLinks of a kind of GPU and bytes/s of one per direction; None where that is not known."""
    generation = NVLINK_GENERATIONS.get(kind.partition("-")[0])
    return (generation[0], parse_bandwidth(generation[1])) if generation else None


def topology_file(source: str) -> str:
    """The path of a topology that the user named: a file, or a preset."""
    is_path = "/" in source or Path(source).suffix in (".yaml", ".yml", ".json") or Path(source).is_file()
    return source if is_path else str(preset_path("topologies", source))


def _kinds_of(source: str) -> dict[str, Any]:
    devices = read_document(topology_file(source), "topology").data.get("devices")
    return dict(devices) if isinstance(devices, dict) else {}
