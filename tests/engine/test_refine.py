"""Classes of a refinement are equitable, counted exactly, and as few as a refinement without hashes finds."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.refine import refine
from simulator.engine.system import System, build_system


def numbered(keys: Iterable[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def classes(system: System, labels: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Refine with tuples for colours."""
    legs = list(zip(*(column.tolist() for column in system.legs), strict=True))
    used: list[list[tuple[int, Hashable]]] = [[] for _ in range(system.num_media)]
    crossing: list[list[tuple[int, Hashable]]] = [[] for _ in system.capacities]
    for leg, resource, weight in zip(*(column.tolist() for column in system.loads), strict=True):
        medium, number, _ = legs[leg]
        used[medium].append((resource, (number, weight)))
        crossing[resource].append((medium, (number, weight)))
    members: list[list[tuple[int, int]]] = [[] for _ in range(system.num_media)]
    roles: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for medium, rank, lane in zip(*(column.tolist() for column in system.members), strict=True):
        members[medium].append((rank, lane))
        roles[rank].append((medium, lane))
    ranks, resources = numbered(labels), numbered(system.capacities.tolist())
    latencies: list[list[float]] = [[] for _ in range(system.num_media)]
    for medium, _, latency in legs:
        latencies[medium].append(latency)
    columns = (system.kinds.tolist(), system.num_ranks.tolist(), system.recipe.tolist(), map(tuple, latencies))
    media = numbered(zip(*columns, strict=True))

    def bag(colours: list[int], items: Iterable[tuple[int, Hashable]]) -> Hashable:
        return frozenset(Counter((colours[item], tag) for item, tag in items).items())

    for _ in range(len(ranks) + len(media) + len(resources)):
        media = numbered(
            (media[index], bag(ranks, members[index]), bag(resources, used[index])) for index in range(len(media))
        )
        resources = numbered((resources[index], bag(media, crossing[index])) for index in range(len(resources)))
        ranks = numbered((ranks[index], bag(media, roles[index])) for index in range(len(ranks)))
    return ranks, media, resources


@settings(max_examples=25)
@given(st.data())
def test_equals_refinement_without_hashes(lab: Any, data: st.DataObject) -> None:
    topology, plan = data.draw(st.one_of(lab.pods(), lab.machines()))
    inputs = lab.compile(lab.gpt, topology, **plan)
    system = build_system(inputs.program, inputs.topology)
    speeds = [device.speed for device in inputs.topology.devices]
    labels = numbered(zip(inputs.plan.mesh.along("pp").tolist(), speeds, strict=True))
    for found, exact in zip(refine(system, np.array(labels)), classes(system, labels), strict=True):
        assert numbered(found.tolist()) == numbered(exact)
