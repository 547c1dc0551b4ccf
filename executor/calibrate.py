"""Measures layers, updates and messages in the state of load that training has: all ranks busy at once.

Nothing here runs a plan. Layers are timed one by one on one micro-batch; messages between bursts of computation,
because a message right after computing takes longer than one in an idle loop (the thread that receives it must be
woken).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from executor.calibrate_device import DeviceMeter
from executor.calibrate_samples import Samples
from executor.lanes import Arrivals, RawSpan
from executor.layer_times import random_borders, time_segment
from executor.optimizer import Update
from executor.runtime import Runtime
from simulator.cost.calibration import layer_key, update_key
from simulator.model.graph import Node
from simulator.plan.plan import Optimizer, Plan
from simulator.program.instructions import ALONE, STREAMS_OF_GROUPS, Instruction, Kind, Stream
from simulator.program.stage import Stage
from simulator.units import parse_bytes, parse_seconds

BURST = parse_seconds("3 ms")
"""Computation before a timed message: the length of a layer of the models that two cores can train."""

SETTLING = parse_seconds("60 ms")
"""Time in which Linux spreads processes that woke up over the cores, some ticks of its load balancer."""

MESSAGES = 4
"""Messages of each size in one sample."""

SWEEP = tuple(parse_bytes(text) for text in ("4 KiB", "64 KiB", "512 KiB", "4 MiB", "16 MiB"))
"""Sizes that are measured beside those of the plans at hand."""


class Calibrator:
    """Takes samples beside a runtime, on its modules and its process groups.

    Parameters
    ----------
    runtime
        Whose layers and messages to measure.
    control
        Group of all ranks, for taking turns.
    offset
        To rank 0's clock.
    meter
        Measures the device itself; with it standard sizes of messages are measured too.
    """

    def __init__(
        self, runtime: Runtime, control: dist.ProcessGroup, offset: float, meter: DeviceMeter | None = None
    ) -> None:
        self.runtime = runtime
        self.control = control
        self.offset = offset
        self.meter = meter
        self.sizes = self._sizes(SWEEP if meter else ())
        self.samples = Samples()
        self._arrivals = Arrivals()
        self._between: list[tuple[Stream, str, float]] = []
        self._sent: Counter[tuple[Stream, str, float]] = Counter()
        self._buffers: dict[float, Tensor] = {}
        plan = runtime.inputs.plan
        self._scratch = {index: _scratch_update(each, plan.optimizer) for index, each in runtime.updated.items()}
        side = 384
        self._burst = torch.randn(side, side, device=runtime.device)

    def sample(self) -> None:
        """Measure everything once."""
        with self.runtime.gathered():
            self._sample()

    def _sample(self) -> None:
        topology, rank = self.runtime.inputs.topology, self.runtime.rank
        cores = topology.host(rank).cores
        local = topology.local_rank(rank)
        # Every rank takes part in every turn's barrier, whatever its own host has.
        narrowest = min((host.cores for host in topology.hosts if host.cores), default=0)
        # More ranks than cores: take turns, so that a layer's time is that of a whole core.
        waves = math.ceil(topology.devices_per_node / narrowest) if narrowest else 1
        # Training alternates between computing and communicating, and a core computes slower after it has moved bytes:
        # so messages of groups whose members all time the same layers go between the layers.
        together = [stream for stream, axis in STREAMS_OF_GROUPS.items() if axis != "pp"]
        self._between = [entry for entry in self.sizes if entry[0] in together] if waves == 1 else []
        self._sent.clear()
        for wave in range(waves):
            dist.barrier(group=self.control)
            if not cores or local // cores == wave:
                if waves > 1:
                    self._wake_up()
                self._sample_layers()
                self._sample_updates()
                if self.meter:
                    self._note_device(self.meter.alone())
        dist.barrier(group=self.control)
        if self.meter and waves == 1:  # Ranks that share cores are slowed by each other, with messages or without.
            self._note_device(self.meter.beside_message())
        for entry in self.sizes:
            for _ in range(MESSAGES - self._sent[entry]):
                self._compute_a_burst()
                self._sample_message(*entry)

    def _wake_up(self) -> None:
        """Run the layers for nothing: after waiting for other ranks' turns caches are cold, cores badly shared."""
        samples, self.samples = self.samples, Samples()
        end = time.perf_counter() + SETTLING
        while time.perf_counter() < end:
            self._sample_layers()
        self.samples = samples

    def _communicate(self) -> None:
        """Time one message of a group, each size in its turn."""
        if self._between:
            entry = self._between[sum(self._sent.values()) % len(self._between)]
            self._sent[entry] += 1
            self._sample_message(*entry)

    def take(self) -> Samples:
        """Return the samples and begin anew."""
        samples, self.samples = self.samples, Samples()
        return samples

    def _sizes(self, sweep: Iterable[float]) -> list[tuple[Stream, str, float]]:
        """Return the distinct messages of the program, the same on all ranks: (stream, operation, bytes)."""
        program = self.runtime.program
        found: dict[tuple[Stream, str, float], None] = {}
        streams: dict[tuple[Stream, str], None] = {}
        for instructions in program.lists:
            for instruction in instructions:
                if instruction.stream not in (*ALONE, Stream.RECV_F, Stream.RECV_B):
                    message = program.message(instruction)
                    found[(instruction.stream, message.operation, message.size)] = None
                    streams[(instruction.stream, message.operation)] = None
        for stream, operation in streams:
            for size in sweep:
                found.setdefault((stream, operation, size), None)
        return list(found)

    def _sample_layers(self) -> None:
        for index, stage in self.runtime.stages.items():
            borders = random_borders(self.runtime, index)
            for part in stage.stage.computing:
                pause = self._communicate if message_follows(stage.stage, part, self.runtime.inputs.plan) else _go_on
                times = time_segment(stage, part, self.runtime.program.graph, borders, self._clock, pause)
                for node, name, seconds in times.layers:
                    self._note(node, name, seconds)
                for name, seconds in times.passes.items():
                    self.samples.passes[(index, part, name)].append(seconds)
                for name, seconds in times.starts.items():
                    self.samples.starts[name].append(seconds)
            if index in self.runtime.gradients:
                self.runtime.gradients[index].zero()

    def _note(self, node: Node, part: str, seconds: float) -> None:
        plan, graph = self.runtime.inputs.plan, self.runtime.program.graph
        key = layer_key(node.layer, graph.input_shapes(node), plan.microbatch_size, plan.dtype)
        self.samples.layers[(key, part)].append(seconds)

    def _note_device(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self.samples.device[name].append(value)

    def _sample_updates(self) -> None:
        plan = self.runtime.inputs.plan
        kind = update_key(plan.optimizer.kind, plan.dtype)
        for index, (update, gradients) in self._scratch.items():
            parameters = self.runtime.program.updated_parameters(index)
            if not parameters:
                continue
            # The first time wakes memory that training, which has just summed its gradients, has at hand.
            for _ in range(2):
                start = self._clock()
                update.step()
                for gradient in gradients:
                    gradient.zero_()
                seconds = self._clock() - start
            self.samples.updates[(kind, parameters)].append(seconds)

    def _sample_message(self, stream: Stream, operation: str, size: float) -> None:
        """Time a message between the ranks of each group, or of each pair of neighbours in the pipeline."""
        mesh, rank, transport = self.runtime.inputs.plan.mesh, self.runtime.rank, self.runtime.transport
        if operation != "send":
            ranks = self.runtime.program.group(rank, STREAMS_OF_GROUPS[stream])
        else:
            place = mesh.coordinate(rank, "pp")
            partner = place ^ 1
            if partner >= mesh.size("pp"):
                return
            pair = (rank, mesh.shift(rank, "pp", partner - place))
            forward = stream is Stream.SEND_F
            ranks = (min(pair), max(pair)) if forward else (max(pair), min(pair))
        share = max(1, int(size) // 4 // len(ranks))
        buffer = self._buffers.setdefault(size, torch.zeros(share * len(ranks), device=self.runtime.device))
        arrival = self._clock()
        if operation == "all_reduce":
            handle = transport.all_reduce(stream, buffer)
        elif operation == "all_gather":
            handle = transport.all_gather(stream, buffer, buffer[:share].clone())
        elif operation == "reduce_scatter":
            handle = transport.reduce_scatter(stream, buffer, buffer[:share].clone())
        elif operation == "all_to_all":
            handle = transport.all_to_all(stream, torch.empty_like(buffer), buffer)
        elif operation == "shift":
            handle, arriving = transport.shift(stream, torch.empty_like(buffer), buffer, +1)
            arriving.wait()
        elif rank == ranks[0]:
            handle = transport.send(stream, buffer, ranks[1])
        else:
            handle = transport.receive(stream, buffer, ranks[0])
        # What comes long before it is needed has a thread that notes its time and wakes the one that computes.
        awaited = operation == "all_gather" or (operation == "send" and rank != ranks[0])
        if awaited and self.runtime.device.type == "cpu":
            span = RawSpan(Instruction(Kind.RECV_F, 0), arrival)
            self._arrivals.wait(self._arrivals.expect(span, ([handle], None)))
        else:
            handle.wait()
        end = self._clock()
        self.samples.messages[(operation, ranks, size)].append((arrival + self.offset, end + self.offset))

    def _compute_a_burst(self) -> None:
        end = time.perf_counter() + BURST
        while time.perf_counter() < end:
            torch.mm(self._burst, self._burst)

    def _clock(self) -> float:
        if self.runtime.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def message_follows(stage: Stage, part: int, plan: Plan) -> bool:
    """Return whether training communicates behind a segment; not where it was only cut to be recomputed alone.

    There a core computes on with what it has in its caches.
    """
    parts = stage.segments
    if part + 1 == len(parts) or parts[part + 1].exchange or plan.is_sharded:
        return True
    return not (parts[part].recomputed or parts[part + 1].recomputed)


def _go_on() -> None:
    """Do nothing between two segments."""


def _scratch_update(parameters: Sequence[nn.Parameter], optimizer: Optimizer) -> tuple[Update, list[Tensor]]:
    """Return an update of copies: measuring must not train the model."""
    copies = []
    for parameter in parameters:
        copy = nn.Parameter(parameter.detach().clone())
        copy.grad = torch.zeros_like(copy)
        copies.append(copy)
    return Update(copies, optimizer), [copy.grad for copy in copies if copy.grad is not None]
