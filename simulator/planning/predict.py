"""One prediction: the simulated step, its metrics, its memory, its bounds, and what all that rests on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simulator import __version__
from simulator.collector import paused_collector
from simulator.cost import Calibration, ComputeCost
from simulator.cost.compute import phases
from simulator.cost.jitter import Noise
from simulator.engine.run import simulate
from simulator.errors import Diagnostic, InputError
from simulator.load import Inputs
from simulator.planning.bounds import executed_flops, longest_compute, serial, speed_of_light
from simulator.planning.fit import Fit, fit, worst
from simulator.program.instructions import Kind
from simulator.results.metrics import Metrics, measure
from simulator.results.recording import Recording, read_json
from simulator.results.timeline import Timeline
from simulator.topology import Topology

DRAWS = 25
"""Simulated steps of a machine whose compute times vary; odd, so that the median is one of them."""

NETWORK = "the library's algorithms over the routes: latencies, and bytes that share every link max-min fairly"
"""The network model in words; what it leaves out is said in the documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was found out about one plan; times in seconds.

    Parameters
    ----------
    inputs
        What was predicted.
    timeline, metrics
        The simulated step.
    memory
        One verdict for each pipeline coordinate.
    model_flops, executed_flops
        Matrix-product FLOPs of a global batch, forward and backward, and what the ranks execute in fact.
    peak
        Dense peak of all devices together in the plan's dtype, FLOP/s.
    speed_of_light, serial
        Bounds of the step time.
    basis
        What the prediction rests on.
    step_range
        Step time with every measured time the least that was measured of it, and the most; None where each was
        measured once, or nothing was.
    """

    inputs: Inputs
    timeline: Timeline
    metrics: Metrics
    memory: tuple[Fit, ...]
    model_flops: float
    executed_flops: float
    peak: float
    speed_of_light: float
    serial: float
    basis: dict[str, Any]
    step_range: tuple[float, float] | None = None

    @property
    def fits(self) -> bool:
        """Whether every rank's memory holds what it needs."""
        return all(each.fits for each in self.memory)

    def result(self) -> dict[str, Any]:
        """Return plain values under the names that ``simulate --format json`` prints."""
        plan, metrics, fullest = self.inputs.plan, self.metrics, worst(self.memory)
        step = metrics.step_time
        samples = plan.global_batch_size / step if step else 0.0
        tokens = self.inputs.graph.tokens_per_sample
        available = self.peak * step
        result = {
            "step_time_s": step,
            **({"step_time_range_s": list(self.step_range)} if self.step_range else {}),
            "bubble_fraction": metrics.bubble_fraction,
            "bubble_overhead": metrics.bubble_overhead,
            "device_window_bubble": metrics.device_window_bubble,
            "compute_time_s": metrics.compute_time,
            "exposed_comm_time_s": metrics.exposed_comm_time,
            "overlap_fraction": metrics.overlap_fraction,
            "mfu": self.model_flops / available if available else 0.0,
            "hfu": self.executed_flops / available if available else 0.0,
            **({"tokens_per_second": samples * tokens} if tokens else {}),
            "samples_per_second": samples,
            "peak_memory_bytes": fullest.memory.total,
            "peak_activation_bytes": metrics.peak_activation_bytes,
            "memory": fullest.memory.terms(),
            "memory_capacity_bytes": fullest.capacity,
            "fits": self.fits,
            "speed_of_light_s": self.speed_of_light,
            "serial_s": self.serial,
            "world_size": plan.mesh.world_size,
            "parameters": self.inputs.graph.num_parameters,
            "global_batch_size": plan.global_batch_size,
        }
        if plan.dataset_size:
            result |= {"steps_per_epoch": plan.steps_per_epoch, "updates": plan.updates}
        return result | {"basis": self.basis, "per_rank": self._per_rank()}

    def _per_rank(self) -> list[dict[str, Any]]:
        mesh = self.inputs.plan.mesh
        ranks = [
            {
                "rank": member,
                **mesh.coordinates(member),
                "compute_time_s": rank.compute_time,
                "exposed_comm_time_s": rank.exposed_comm_time,
                "bubble_time_s": rank.bubble_time,
                "window_bubble": rank.window_bubble,
                "peak_activation_bytes": rank.peak_activation_bytes,
                "peak_memory_bytes": self.memory[mesh.coordinate(member, "pp")].memory.total,
            }
            for rank in self.metrics.per_rank
            for member in self.timeline.ranks[rank.rank]
        ]
        return sorted(ranks, key=lambda each: each["rank"])

    def recording(self) -> Recording:
        """Return what ``plancast compare`` takes as its first argument."""
        return Recording(
            source="predicted",
            inputs=self.inputs.resolved(),
            steps=(self.timeline,),
            rounds=(0,),
            about={"plancast": __version__, "basis": self.basis},
        )


@paused_collector()
def predict(inputs: Inputs, calibration: Calibration | None = None, *, folding: bool = True) -> Prediction:
    """Predict one training step.

    Parameters
    ----------
    inputs
        Model, topology and plan, compiled.
    calibration
        Measured times of layers and messages; without it everything is estimated from the topology's numbers.
    folding
        Simulate one of each class of provably identical ranks.
    """
    calibration = calibration or Calibration()
    program, topology = inputs.program, inputs.topology
    _check_device(topology, calibration)
    nominal, cost = simulate(program, topology, calibration, folding=folding)
    basis = _basis(inputs, calibration, cost, nominal)
    # Only ranks that share a host's cores were seen to vary; a cluster of others is folded, and drawn once.
    varies = calibration.jitter > 0 and any(host.cores for host in topology.hosts)
    timeline = _median_draw(inputs, calibration) if varies else nominal
    basis["draws"] = DRAWS if varies else 1
    metrics = measure(timeline)
    plan = inputs.plan
    flops = executed_flops(program, cost)
    bound = serial(program, topology, calibration)
    if varies:
        bound += longest_compute(program, timeline) - longest_compute(program, nominal)
    return Prediction(
        inputs=inputs,
        timeline=timeline,
        metrics=metrics,
        memory=fit(program, topology),
        model_flops=_model_flops(inputs),
        executed_flops=sum(flops) * plan.replicas * plan.tp,
        peak=sum(device.peak[plan.dtype] for device in topology.devices),
        speed_of_light=speed_of_light(program, topology, flops, metrics),
        serial=bound,
        basis=basis,
    )


def predict_with_range(inputs: Inputs, calibration: Calibration | None, *, folding: bool = True) -> Prediction:
    """Predict, and say between which bounds the spread of the calibration puts the step.

    All times at their least together, then at their most: a machine that drifts does so as a whole.
    """
    central = predict(inputs, calibration, folding=folding)
    if not (calibration and calibration.spread):
        return central
    low, high = (predict(inputs, calibration.at(end), folding=folding).metrics.step_time for end in (0, 1))
    return replace(central, step_range=(low, high))


def _check_device(topology: Topology, calibration: Calibration) -> None:
    """Refuse times that were measured on another kind of device."""
    measured = calibration.about.get("kind")
    others = sorted({device.kind for device in topology.devices} - {measured})
    if measured and others:
        message = f"was measured on {measured}, but {topology.name} has {', '.join(others)}"
        raise InputError([Diagnostic("--calibration", "", message, "calibrate on such a device, or leave it out")])


def _median_draw(inputs: Inputs, calibration: Calibration) -> Timeline:
    """Return the step of median length among draws of varying compute times."""
    draws = (
        simulate(inputs.program, inputs.topology, calibration, noise=Noise(calibration.jitter, seed))[0]
        for seed in range(DRAWS)
    )
    return sorted(draws, key=lambda timeline: timeline.step_time)[DRAWS // 2]


def _model_flops(inputs: Inputs) -> float:
    """Return the matrix-product FLOPs of forward and backward of one global batch, nothing recomputed or repeated.

    Notes
    -----
    The numerator of MFU (Chowdhery et al. 2022, arXiv 2204.02311, appendix B), counted layer by layer.
    """
    graph = inputs.graph
    return sum(
        kernel.flops
        for node in graph.nodes
        for kind in (Kind.F, Kind.B)
        for phase in phases(graph, node, kind)
        for kernel in node.layer.kernels(phase, graph.input_shapes(node), inputs.plan.global_batch_size)
        if kernel.kind != "memory"
    )


def _basis(inputs: Inputs, calibration: Calibration, cost: ComputeCost, timeline: Timeline) -> dict[str, Any]:
    device = inputs.topology.device(0)
    if cost.measured:
        compute = "measured layers" + (", the others scaled from a roofline" if cost.estimated else "")
    else:
        compute = "roofline: dense peak and memory bandwidth times efficiency"
    return {
        "compute": compute,
        "layer_passes_measured": cost.measured,
        "layer_passes_estimated": cost.estimated,
        "calibration": dict(calibration.about),
        "device": device.kind,
        "device_source": device.source,
        "efficiency_source": device.efficiency_source,
        "network": NETWORK,
        "collectives": inputs.topology.collectives.sources(inputs.topology.scopes),
        "messages": "measured inside one host" if calibration.messages else "from the topology",
        "rank_classes": len(timeline.ranks),
        "plancast": __version__,
    }


def load_calibration(path: str | Path) -> Calibration:
    """Read a calibration file.

    Raises
    ------
    InputError
        The file is missing or is something else.
    """
    try:
        return Calibration.from_json(read_json(path))
    except (OSError, ValueError) as error:
        cannot = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else ""
        message = cannot or f"is not a calibration file: {error}"
        raise InputError([Diagnostic(str(path), "", message, "plancast calibrate -o FILE writes one")]) from None
