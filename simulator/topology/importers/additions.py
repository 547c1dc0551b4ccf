"""What an import gets beside what its file says: more nodes like the one described, and the library's protocols."""

from typing import Any

from simulator.topology.importers.defaults import SWITCH_LATENCY, SWITCH_REASON
from simulator.topology.importers.facts import Facts, refuse
from simulator.topology.importers.kinds import lender
from simulator.units import write_seconds


def several(data: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Return the keys that repeat the node and join all network cards by one switch that never blocks."""
    if facts.nodes is None:
        return {}
    if facts.nodes > 1 and not data["node"].get("uplinks"):
        hint = "import what describes network cards (nvidia-smi: --nic-bandwidth and --pcie-bandwidth)"
        refuse(f"--nodes {facts.nodes}", "the node has no network card that could join it to others", hint)
    source = f"Assumption: one ideal switch joins all network cards. {SWITCH_REASON}"
    return {
        "nodes": facts.nodes,
        "fabric": {"kind": "switch", "latency": write_seconds(SWITCH_LATENCY), "source": source},
    }


def library(data: dict[str, Any]) -> dict[str, Any]:
    """Return the key that takes over the protocols of a shipped machine with the same devices; none without one."""
    name = lender(data["devices"])
    source = "Not part of the imported file: those of a machine with the same devices."
    return {"collectives": {"from": name, "source": source}} if name else {}
