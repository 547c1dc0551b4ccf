"""Predict, run and compare plans in a netlab that is there for as long as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simulator.cost import Calibration
from simulator.launch import Launch
from simulator.load import Inputs
from simulator.netlab.build import built
from simulator.netlab.network import missing_latency, seen
from simulator.netlab.wire import Wire, measure
from simulator.planning.validate import Validation, validate
from simulator.results.recording import write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class LabValidation:
    """What came of a launch in a netlab.

    Parameters
    ----------
    results
        One a job.
    wire
        What was measured of messages, on which predictions rest.
    missing_latency
        Seconds by which links are faster than the topology says, because the kernel cannot hold frames back.
    """

    results: Sequence[Validation]
    wire: Wire
    missing_latency: float


def validate_in_netlab(launch: Launch, earlier: Calibration | None = None) -> LabValidation:
    """Build the launch's topology, measure messages between two hosts, run and compare all jobs, remove it all.

    Each prediction takes the links' rates from the topology and the latency of a message from the measured ones; the
    plans' own steps are not looked at.
    """
    topology = next(iter(launch.jobs().values())).topology
    with built(topology) as lab:
        wire = measure(lab, topology)
        launch.out.mkdir(parents=True, exist_ok=True)
        write_json(launch.out / "netlab.json", wire.to_json())

        def as_seen(inputs: Inputs) -> Inputs:
            return replace(inputs, topology=seen(inputs.topology, lab, wire))

        results = validate(replace(launch, lab=lab.name), earlier, as_seen)
        return LabValidation(results=results, wire=wire, missing_latency=missing_latency(lab))
