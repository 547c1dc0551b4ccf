"""The same plan on more devices: more nodes, more data-parallel replicas, each with the batch that it has."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulator.errors import Diagnostic, InputError
from simulator.inputs.plain_yaml import Plain
from simulator.load import apply_settings, load_topology, read


def scaled(world: int, model: str, topology: str, plan: str, settings: Sequence[str]) -> list[str]:
    """Return the settings that give a plan ``world`` ranks.

    Parameters
    ----------
    world
        Ranks.
    model, topology, plan
        Files or presets.
    settings
        Changes that come before.

    Raises
    ------
    InputError
        The topology cannot have so many devices, or the plan so many ranks.
    """
    documents = [read(name, source) for name, source in (("model", model), ("topology", topology), ("plan", plan))]
    apply_settings(documents, settings)
    _, machines, keys = (document.data for document in documents)
    before = load_topology(topology, [setting for setting in settings if setting.startswith("topology.")])
    found = [_nodes(world, machines, before.world_size, before.num_nodes)]
    inner = {axis: _number(keys.get(axis, 1)) for axis in ("tp", "pp", "cp")}
    size = math.prod(inner.values())
    if world % size:
        terms = " * ".join(f"{axis}({each})" for axis, each in inner.items())
        near = " or ".join(str(each) for each in (world // size * size, (world // size + 1) * size) if each)
        _refuse(world, f"{terms} = {size} does not divide {world} (remainder {world % size})", f"use --world {near}")
    if "dp" in keys:
        found.append(f"plan.dp={world // size}")
    samples, replicas = _number(keys.get("global_batch_size")), _number(keys.get("dp"), before.world_size // size)
    if samples and replicas and samples % replicas == 0:
        found.append(f"plan.global_batch_size={samples // replicas * (world // size)}")
    return found


def _nodes(world: int, machines: dict[str, Plain], devices: int, nodes: int) -> str:
    """Return the setting that gives a topology so many devices."""
    if "node" not in machines:
        rule = "its nodes are named or grouped one by one, so that none can be added"
        _refuse(world, f"{machines.get('name')}: {rule}", "use a topology with one node and a fabric, as dgx-h100")
    if "fabric" not in machines:
        return f"topology.node.count={world}"
    each = devices // nodes
    if world % each:
        near = " or ".join(str(number * each) for number in (world // each, world // each + 1) if number)
        rule = f"{each} devices in a node of {machines.get('name')} do not divide {world} (remainder {world % each})"
        _refuse(world, rule, f"use --world {near}")
    return f"topology.nodes={world // each}"


def _number(value: Plain, other: int = 0) -> int:
    return value if isinstance(value, int) and value > 0 else other


def _refuse(world: int, message: str, hint: str) -> None:
    raise InputError([Diagnostic(f"--world {world}", "", message, hint)])
