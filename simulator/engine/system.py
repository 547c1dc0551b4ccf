"""The simulated system: ranks, the media over which they communicate, and the resources that media and ranks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulator.cost.collectives import Path, channel, ring
from simulator.program.instructions import STREAMS_OF_GROUPS, Lane, Stream
from simulator.program.program import Program
from simulator.program.stage import Stage
from simulator.topology import Topology

Wiring = tuple[Stream, tuple[tuple[int, Lane], ...], Path]
"""Kind, members and path of a medium whose resources are not numbered yet."""


@dataclass(frozen=True, slots=True)
class Medium:
    """A process group or a channel between two ranks.

    Parameters
    ----------
    kind
        Stream of the sender for channels; ``tp`` or ``dp`` for groups.
    members
        (rank, the lane in which it uses the medium).
    path
        Latency and links.
    weights
        Resource -> load of one unit/s of flow.
    on_one_host
        Whether all members share a machine.
    """

    kind: Stream
    members: tuple[tuple[int, Lane], ...]
    path: Path
    weights: Mapping[int, float]
    on_one_host: bool


@dataclass(frozen=True, slots=True)
class System:
    """Everything that takes part in a step.

    Parameters
    ----------
    media
        All groups and channels that the program uses.
    roles
        For each rank, lane -> index of the medium behind it.
    capacities
        Units/s of each resource: bytes/s of a link; for the cores of a host see ``core_weight``.
    cores
        For each rank, the resource of its host's cores, or None where compute shares nothing.
    core_weight
        Core-seconds of a unit of flow. Core time is counted in the bytes that a busy core moves meanwhile, so that
        computing and communicating threads compete for cores as equals.
    """

    media: tuple[Medium, ...]
    roles: tuple[Mapping[Lane, int], ...]
    capacities: tuple[float, ...]
    cores: tuple[int | None, ...]
    core_weight: float


def build_system(program: Program, topology: Topology) -> System:
    """Return the system that a program and a topology make."""
    mesh = program.plan.mesh
    roles: list[dict[Lane, int]] = [{} for _ in range(mesh.world_size)]
    plans: list[Wiring] = []
    for stream, axis in STREAMS_OF_GROUPS.items():
        if axis == "pp" and not program.has_barrier:
            continue
        if stream is Stream.DP_GATHER and not program.plan.is_sharded:
            continue
        for group in program.groups(axis):
            if len(group) > 1:
                plans.append((stream, tuple((rank, (stream, -1)) for rank in group), ring(topology, group)))
    for rank in range(mesh.world_size):
        for stage in program.stages_of(mesh.coordinate(rank, "pp")):
            plans += _channels(program, topology, rank, stage)
    for index, (_, members, _) in enumerate(plans):
        for rank, lane in members:
            roles[rank][lane] = index
    return _with_resources(plans, roles, topology)


def _channels(program: Program, topology: Topology, rank: int, stage: Stage) -> list[Wiring]:
    """Return the channels between a stage on a rank and the next stage, there and back."""
    if not stage.sends or program.hands_over(stage.index, stage.index + 1):
        return []
    here, there = stage.index, stage.index + 1
    after = program.plan.mesh.move(rank, "pp", program.pipeline_rank(there))
    forward = ((rank, (Stream.SEND_F, here)), (after, (Stream.RECV_F, there)))
    backward = ((after, (Stream.SEND_B, there)), (rank, (Stream.RECV_B, here)))
    return [
        (Stream.SEND_F, forward, channel(topology, rank, after)),
        (Stream.SEND_B, backward, channel(topology, after, rank)),
    ]


def _with_resources(
    plans: list[Wiring],
    roles: list[dict[Lane, int]],
    topology: Topology,
) -> System:
    """Number the links in use and the hosts with shared cores; load them."""
    links: dict[int, int] = {}
    capacities: list[float] = []
    for _, _, path in plans:
        for link in path.loads:
            if link not in links:
                links[link] = len(capacities)
                capacities.append(topology.links[link].bandwidth)
    solo = max([1.0, *(_solo(path, links, capacities) for _, _, path in plans)])
    hosts: dict[int, int] = {}
    cores: list[int | None] = []
    for rank in range(len(roles)):
        host = topology.host(rank)
        if host.cores is None:
            cores.append(None)
            continue
        if host.index not in hosts:
            hosts[host.index] = len(capacities)
            capacities.append(float(host.cores))
        cores.append(hosts[host.index])
    media = []
    for kind, members, path in plans:
        weights: dict[int, float] = {links[link]: float(load) for link, load in path.loads.items()}
        rate = _solo(path, links, capacities)
        used = [core for rank, _ in members if (core := cores[rank]) is not None]
        for resource in dict.fromkeys(used):
            # A message that has its host to itself runs at its measured speed, however many threads serve it.
            weights[resource] = min(used.count(resource), capacities[resource]) / rate
        on_one_host = len({topology.node(rank) for rank, _ in members}) == 1
        media.append(Medium(kind, members, path, weights, on_one_host))
    return System(tuple(media), tuple(roles), tuple(capacities), tuple(cores), 1.0 / solo)


def _solo(path: Path, links: Mapping[int, int], capacities: list[float]) -> float:
    """Return the rate of a medium that has its links to itself."""
    return min((capacities[links[link]] / load for link, load in path.loads.items()), default=float("inf"))
