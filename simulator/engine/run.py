"""Predict a step: build the system, fold it, price devices, walk the tasks of one step or of some in a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simulator.collector import paused_collector
from simulator.cost.calibration import Calibration
from simulator.cost.compute import ComputeCost
from simulator.cost.jitter import Noise
from simulator.engine.fold import fold
from simulator.engine.prices import Prices
from simulator.engine.record import Memory
from simulator.engine.system import System, build_system
from simulator.engine.walk import Walk
from simulator.plan.frameworks import FRAMEWORKS, Framework
from simulator.program.program import Program
from simulator.results.timeline import Timeline
from simulator.topology import Device, Topology

WARMUP_STEPS, MAX_STEPS = 3, 8
"""How many steps in a row are simulated at least, and at most, if they are not apart."""


@paused_collector()
def simulate(
    program: Program,
    topology: Topology,
    calibration: Calibration,
    *,
    folding: bool = True,
    noise: Noise | None = None,
) -> tuple[Timeline, ComputeCost]:
    """Predict one training step.

    Parameters
    ----------
    program
        The compiled plan.
    topology
        Where it runs.
    calibration
        Measured times, possibly none.
    folding
        Simulate one of each class of identical ranks; False simulates all.
    noise
        Varies compute times; then no two ranks are identical, and all are simulated.

    Returns
    -------
    Timeline
        Starts at 0 with all ranks ready; without a barrier between steps, at the end of the step before.
    ComputeCost
        Prices on rank 0's device, and how many of them were measured.
    """
    prices, cost = _kept_prices(program, topology, calibration, folding=folding and not noise, varies=bool(noise))

    def run(steps: int) -> Timeline:
        return Walk(prices, noise, steps).timeline()

    timeline = _one_step(program, run)
    return replace(timeline, memory=Memory(program, timeline)), cost


def kept_system(program: Program, topology: Topology) -> System:
    """Return the system that a program and a topology make, once for both."""
    # The topology is kept too, so that no other one can come to have its id.
    _, system = program.keep(("system", id(topology)), lambda: (topology, build_system(program, topology)))
    return system


def _kept_prices(
    program: Program, topology: Topology, calibration: Calibration, *, folding: bool, varies: bool
) -> tuple[Prices, ComputeCost]:
    """Return what everything costs, worked out once for a program, a topology and a calibration; see `simulate`.

    And for a framework: fits try its constants one after the other.
    """
    kept: list[tuple[tuple[Calibration, Framework], Prices, ComputeCost]]
    kept = program.keep(("prices", id(topology), folding, varies), list)
    given = calibration, FRAMEWORKS[program.plan.framework]
    if not kept or kept[0][0] != given:
        system = kept_system(program, topology)
        costs, devices = _priced_devices(program, topology, calibration)
        folded = fold(system, _labels(program, costs, devices), enabled=folding)
        own = [costs[devices[rank_class.representative]] for rank_class in folded.ranks]
        kept[:] = [(given, Prices(program, system, folded, own, calibration, varies=varies), costs[devices[0]])]
    _, prices, cost = kept[0]
    return prices, cost


def _labels(program: Program, costs: Sequence[ComputeCost], devices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for what each rank runs and on what."""
    return program.plan.mesh.along("pp") * len(costs) + devices


def _one_step(program: Program, run: Callable[[int], Timeline]) -> Timeline:
    """Return a step from rest if all ranks wait for each other before the update, else one of many in a row.

    Without the barrier a rank is in the next step while others finish this one. Steps in a row soon take equal times;
    the one after which they do, to rounding, is returned, or the last that was tried.
    """
    if program.has_barrier or program.plan.pp == 1:
        return run(1)
    shorter = run(WARMUP_STEPS)
    for steps in range(WARMUP_STEPS + 1, MAX_STEPS + 1):
        longer = run(steps)
        if math.isclose(longer.step_time, shorter.step_time, rel_tol=1e-9):
            return longer
        shorter = longer
    return shorter


def _priced_devices(
    program: Program, topology: Topology, calibration: Calibration
) -> tuple[list[ComputeCost], NDArray[np.int64]]:
    """Return the prices on each kind of device, and for each rank which of them is its own."""
    costs: dict[tuple[str, float], ComputeCost] = {}
    known: dict[int, int] = {}
    for device in {id(each): each for each in topology.devices}.values():
        cost = costs.setdefault(device_key(device), ComputeCost(program, device, calibration))
        known[id(device)] = list(costs.values()).index(cost)
    numbers = map(known.__getitem__, map(id, topology.devices))
    return list(costs.values()), np.fromiter(numbers, np.int64, topology.world_size)


def device_key(device: Device) -> tuple[str, float]:
    """Return what tells devices of one topology apart: kind and speed."""
    return (device.kind, device.speed)
