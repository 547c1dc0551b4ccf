"""Seconds of the instructions that compute: measured layers where there is a calibration, a roofline elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from statistics import median

from simulator.cost.calibration import (
    BACKWARD,
    FORWARD,
    INNER_GRAD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    WEIGHT_ONLY,
    Calibration,
    layer_key,
    update_key,
)
from simulator.cost.kernels import kernel_seconds, stream_seconds
from simulator.cost.overheads import framework_kernels
from simulator.model.graph import LayerGraph, Node
from simulator.model.layers.base import Kernel, Phase, count
from simulator.model.layers.bias import Bias
from simulator.model.layers.experts import Dispatch, GroupedLinear
from simulator.plan.frameworks import FRAMEWORKS
from simulator.plan.plan import MASTER_BYTES, NARROW, Plan
from simulator.program import instructions
from simulator.program.instructions import Instruction, Kind
from simulator.program.program import Program
from simulator.program.vocabulary_passes import SHARED
from simulator.topology import Device

PASSES = (*instructions.FORWARD, *instructions.BACKWARD)
"""Kinds that pass over layers."""


PERSISTENT = 100_000
"""Elements of a parameter that DeepSpeed gathers once a step and keeps: too few to count (stage3.py:
param_persistence_threshold=100000)."""


class ComputeCost:
    """Prices the computing instructions of one program on one kind of device.

    Parameters
    ----------
    program
        Gives the layers behind an instruction.
    device
        Where they run.
    calibration
        Measured times; a layer that is not in it is priced by the roofline, times the median ratio of measured to
        roofline over those that are.
    """

    def __init__(self, program: Program, device: Device, calibration: Calibration) -> None:
        self.program = program
        self.device = device
        self.calibration = calibration
        self.framework = FRAMEWORKS[program.plan.framework]
        self._seconds: dict[tuple[Kind, int, int], float] = {}
        self._alike: dict[tuple[Kind, bool, int], float] = {}
        self._hosts: dict[tuple[Kind, int], float] = {}
        self._flops: dict[tuple[Kind, int], float] = {}
        self._passes: dict[tuple[str, Kind, bool], tuple[float, bool]] = {}
        self._correction = self._median_ratio() if calibration.layers else 1.0

    @property
    def measured(self) -> int:
        """Passes over layers that were priced from measured times."""
        return sum(self._priced_passes().values())

    @property
    def estimated(self) -> int:
        """Passes over layers that were priced by the roofline."""
        return len(self._priced_passes()) - self.measured

    def seconds(self, instruction: Instruction) -> float:
        """Return the time of an instruction on the idle device."""
        key = (instruction.kind, instruction.stage, instruction.part)
        if key not in self._seconds:
            self._seconds[key] = self._price(instruction) / self.device.speed
        return self._seconds[key]

    @cached_property
    def launches(self) -> bool:
        """Whether the framework's host may hold the device up."""
        if self.program.plan.cuda_graphs:
            return False
        mixtures = any(isinstance(node.layer, Dispatch) for node in self.program.graph.nodes)
        return bool(self.framework.host_launch or (self.framework.mixture and mixtures))

    def host_seconds(self, instruction: Instruction) -> float:
        """Return the time in which the framework's host launches an instruction's kernels."""
        kind = instruction.kind
        if not self.launches or kind not in PASSES:
            return 0.0
        key = (kind, self.program.alike[instruction.stage][instruction.part])
        if key not in self._hosts:
            nodes = self.program.segment(instruction).nodes
            mixtures = 0 if kind is Kind.W else sum(isinstance(node.layer, Dispatch) for node in nodes)
            launching = self.framework.host_launch * self._count(nodes, kind) if self.framework.host_launch else 0.0
            self._hosts[key] = launching + self.framework.mixture * mixtures
        return self._hosts[key] + (self.framework.slot if self.begins_slot(instruction) else 0.0)

    def flops(self, instruction: Instruction) -> float:
        """Return the matrix-product FLOPs of an instruction, what MFU counts."""
        graph, batch = self.program.graph, self.program.plan.microbatch_size
        if instruction.kind not in PASSES:
            return 0.0
        key = (instruction.kind, self.program.alike[instruction.stage][instruction.part])
        if key not in self._flops:
            self._flops[key] = sum(
                kernel.flops
                for node in self.program.segment(instruction).nodes
                for phase in phases(graph, node, instruction.kind)
                for kernel in node.layer.kernels(phase, graph.input_shapes(node), batch)
                if kernel.kind != "memory"
            )
        return self._flops[key]

    def _price(self, work: Instruction) -> float:
        if work.kind is Kind.RESHARD:
            return self._listing(work)  # Memory goes back to the allocator, which takes no time.
        if work.kind is Kind.OPTIM:
            return self._update_seconds(work)
        if work.stream in instructions.HOST_LINK:
            return self.program.message(work).size / self.device.host.link
        apart = work.stage in self.program.stages_with_split_backward
        key = (work.kind, apart, self.program.alike[work.stage][work.part])
        if key not in self._alike:
            self._alike[key] = self._price_pass(work, apart)
        return self._alike[key] + (self.framework.slot if self.waits(work) else 0.0)

    def _listing(self, work: Instruction) -> float:
        """Return the time in which a host has listed the parts of what was gathered, while the device waited."""
        if not self.framework.listing:
            return 0.0
        bucket, graph = self.program.stages[work.stage].buckets[work.part], self.program.graph
        shapes = (shape for name in bucket.nodes for shape in graph.by_name[name].layer.parameters().values())
        tensors = sum(count(shape) > PERSISTENT for shape in shapes)
        return self.framework.listing * tensors * self.program.plan.sharers_along(bucket.axis)

    def waits(self, work: Instruction) -> bool:
        """Return whether the host waits for the device or for messages before it launches an instruction.

        The device has run dry then.
        """
        plan = self.program.plan
        if not self.begins_slot(work):
            return False
        if self.framework.asks_sizes and work.kind is Kind.F:
            return True
        if plan.pp == 1 or plan.p2p_overlap:
            return False
        paired = self.framework.pairs_messages and plan.schedule == "interleaved_1f1b"
        return work.kind is Kind.F or not paired

    def begins_slot(self, work: Instruction) -> bool:
        """Return whether an instruction is the first of a forward or a backward of a stage that has messages."""
        if work.kind not in (Kind.F, Kind.B, Kind.I) or self.program.pipeline_rank(work.stage) == SHARED:
            return False
        computing = self.program.stages[work.stage].computing
        return work.part < 0 or work.part == computing[0 if work.kind is Kind.F else -1]

    def _price_pass(self, work: Instruction, apart: bool) -> float:
        nodes = self.program.segment(work).nodes
        layers = max(sum(self._pass(node, work.kind, apart)[0] for node in nodes), self._launching(nodes, work.kind))
        if work.kind not in (Kind.B, Kind.I):
            return layers
        return layers + self.calibration.starts.get(INPUT_GRAD if apart else BACKWARD, 0.0)

    def _launching(self, nodes: Iterable[Node], kind: Kind) -> float:
        """Return the time of the host that launches the kernels of an instruction, while the device runs them."""
        return self.device.host_launch * self._count(nodes, kind) if self.device.host_launch else 0.0

    def _count(self, nodes: Iterable[Node], kind: Kind) -> int:
        """Return the kernels of a pass over some layers; as many with tensor parallelism as without.

        A bias behind an exchange is one more kernel of the device, but frameworks that split their layers add it on
        its own whether there is anybody to exchange with or not.
        """
        own = (node for node in nodes if kind not in instructions.FORWARD or not isinstance(node.layer, Bias))
        return sum(1 for node in own for _ in self._kernels(node, kind))

    def _pass(self, node: Node, kind: Kind, apart: bool) -> tuple[float, bool]:
        """Return the seconds of a pass over a layer, and whether they were measured."""
        key = (self.program.graph.twins[node.name], kind, apart)
        if key not in self._passes:
            found = self._measured(node, kind, apart)
            estimate = self._correction * self._roofline(node, kind) if found is None else found
            self._passes[key] = (estimate, found is not None)
        return self._passes[key]

    def _priced_passes(self) -> dict[tuple[str, Kind, bool], bool]:
        """Return for each pass over a layer that was priced whether it was measured."""
        split = self.program.stages_with_split_backward
        return {
            (node.name, kind, stage in split): self._pass(node, kind, stage in split)[1]
            for kind, stage, part in self._seconds
            if kind in PASSES
            for node in self.program.stages[stage].segments[part].nodes
        }

    def _measured(self, node: Node, kind: Kind, apart: bool) -> float | None:
        """Return what was measured of a layer, None without; ``apart``: for a rank that splits backward."""
        if not self.calibration.layers:
            return None
        graph, plan = self.program.graph, self.program.plan
        key = layer_key(node.layer, graph.input_shapes(node), plan.microbatch_size, plan.dtype)
        times = self.calibration.layers.get(key, {})
        if kind in instructions.FORWARD:
            return times.get(FORWARD)
        needs_input_grad = graph.needs_input_grad(node)
        whole = times.get(BACKWARD if needs_input_grad else WEIGHT_ONLY)
        of_input, of_weights = times.get(INPUT_GRAD if needs_input_grad else INNER_GRAD), times.get(WEIGHT_GRAD)
        if of_input is not None and of_weights is not None and (apart or whole is None):
            return {Kind.I: of_input, Kind.W: of_weights, Kind.B: of_input + of_weights}[kind]
        if whole is None or kind is Kind.B:
            return whole
        # Only the whole backward was measured; its halves share it as the roofline says.
        full = self._roofline(node, Kind.B)
        return whole * self._roofline(node, kind) / full if full else 0.0

    def _roofline(self, node: Node, kind: Kind) -> float:
        plan = self.program.plan
        # A weight gradient's operand was cast for the input gradient, unless there is none to compute.
        casts = {Phase.WEIGHT_GRAD: not self.program.graph.needs_input_grad(node)}
        launched = isinstance(node.layer, GroupedLinear) and plan.dtype in NARROW and not plan.fused_experts
        each = self.framework.expert if launched else 0.0
        return sum(
            each * kernel.batch
            + kernel_seconds(
                kernel,
                self.device,
                plan.dtype,
                plan.itemsize,
                flash=plan.flash_kernel,
                casts=casts.get(phase, True),
            )
            for phase, kernel in self._kernels(node, kind)
        )

    def _kernels(self, node: Node, kind: Kind) -> Iterator[tuple[Phase, Kernel]]:
        graph, plan = self.program.graph, self.program.plan
        apart = kind in (Kind.I, Kind.W)
        for phase in phases(graph, node, Kind.B if apart else kind):
            size, itemsize, sums = plan.microbatch_size, plan.itemsize, plan.gradient_itemsize
            for kernel in framework_kernels(graph, node, phase, size, plan.dtype, itemsize, self.framework, sums):
                deferred = phase is Phase.WEIGHT_GRAD and self.framework.defers(kernel)
                if not apart or deferred is (kind is Kind.W):
                    yield phase, kernel

    def _median_ratio(self) -> float:
        """Return the median of measured / roofline over the layers of this program that were measured."""
        graph = self.program.graph
        times = Counter(graph.twins.values())
        ratios = [
            ratio
            for name, count in times.items()
            for kind in (Kind.F, Kind.B)
            if (found := self._measured(graph.by_name[name], kind, apart=False))
            and (estimate := self._roofline(graph.by_name[name], kind))
            for ratio in [found / estimate] * count
        ]
        return median(ratios) if ratios else 1.0

    def _update_seconds(self, work: Instruction) -> float:
        plan = self.program.plan
        parameters = self.program.updated_parameters(work.stage)
        found = self.calibration.updates.get(update_key(plan.optimizer.kind, plan.dtype))
        if found and not (plan.updates_on_host and self.device.backend == "cuda"):
            return found[0] + found[1] * parameters if parameters else 0.0
        # A rank's host does the rest of a step once, beside the update of its first stage.
        rest = self.framework.step if work.stage == self._first_stage(work.stage) else 0.0
        return rest + (self._update_traffic(plan, parameters) if parameters else 0.0)

    def _first_stage(self, stage: int) -> int:
        """Return the first stage on the rank of a stage."""
        rank = max(0, self.program.pipeline_rank(stage))
        return self.program.stages_of(rank)[0].index

    def _update_traffic(self, plan: Plan, parameters: int) -> float:
        """Read gradient, weight and state once, write weight and state once: one fused, memory-bound pass."""
        values = 2 * (1 + plan.optimizer.states) * MASTER_BYTES + plan.gradient_itemsize
        copy = plan.itemsize if plan.has_master_weights else 0
        if plan.updates_on_host:
            return parameters * (values + copy) / self.device.host.update
        traffic = parameters * (values + copy + self.framework.update)
        return self.device.launch_overhead + stream_seconds(traffic, self.device)


def phases(graph: LayerGraph, node: Node, kind: Kind) -> tuple[Phase, ...]:
    """Return the phases that an action runs of a node: the first layers have no input gradient to compute."""
    if kind in instructions.FORWARD:
        return (Phase.FORWARD,)
    inputs = (Phase.INPUT_GRAD,) if graph.needs_input_grad(node) and kind is not Kind.W else ()
    return inputs if kind is Kind.I else (*inputs, Phase.WEIGHT_GRAD)
