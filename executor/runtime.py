"""The torch interpreter of a Program: one handler an instruction kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from executor.data import Data
from executor.exchange import exchange, exchange_back
from executor.interpreter import Interpreter, border
from executor.lanes import Message
from executor.offload import HostBucket
from executor.optimizer import Gradients, Update, fold_gradients, gradient_of
from executor.places import places_of
from executor.routing import Route, routed_by
from executor.sharding import SharedBucket
from executor.stage import TARGET, Microbatch, StageModule
from executor.tracing.imported import Imported
from executor.transport import Transport
from simulator.load import Inputs
from simulator.model.graph import INPUT
from simulator.model.layers import ExpertExchange, count
from simulator.program.instructions import (
    COLLECTIVE_AXIS,
    EXCHANGES_B,
    EXCHANGES_F,
    EXCHANGES_R,
    PARAMETER_GATHERS,
    REDUCTIONS,
    STREAM_OF,
    UNSHARDS,
    Instruction,
    Kind,
)
from simulator.program.vocabulary_passes import SHARED

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Runtime(Interpreter):
    """Trains: layers as torch modules, data, optimizer."""

    def __init__(self, inputs: Inputs, rank: int, transport: Transport, device: torch.device) -> None:
        super().__init__(inputs, rank, transport, device)
        program, plan = inputs.program, inputs.plan
        mesh = plan.mesh
        self.dtype = DTYPES[plan.dtype]
        splits = any(instruction.kind is Kind.W for instruction in self.instructions)
        tp_rank, ep_rank = mesh.coordinate(rank, "tp"), program.group(rank, "ep").index(rank)
        imported = Imported(inputs.graph, plan, self.dtype, device) if inputs.graph.module else None
        self.place, places = mesh.coordinate(rank, "pp"), places_of(program.graph, plan, mesh.coordinate(rank, "cp"))
        self.stages = {}
        for stage in program.stages_of(self.place):
            shard, shards = (self.place, plan.pp) if program.placement[stage.index] == SHARED else (tp_rank, plan.tp)
            self.stages[stage.index] = StageModule(
                stage, program.graph, plan, shard, self.dtype, device, splits, ep_rank, places, shards, imported
            )
        self.gradients = {
            index: Gradients(module, DTYPES.get(plan.gradient_dtype, self.dtype))
            for index, module in self.stages.items()
            if module.stage.num_parameters
        }
        self.shared: dict[int, list[SharedBucket]] = {}
        if plan.updates_parts or plan.updates_on_host:
            self.shared = {index: self._share(index, gradients) for index, gradients in self.gradients.items()}
        self.hosted: dict[int, list[HostBucket]] = {}
        if plan.updates_on_host:
            self.hosted = {index: [HostBucket(each) for each in buckets] for index, buckets in self.shared.items()}
        self.updated = {index: list(self._updated(index)) for index in self.stages}
        self.updates = {index: Update(parameters, plan.optimizer) for index, parameters in self.updated.items()}
        self.data = Data(inputs.graph, plan, mesh.coordinate(rank, "dp"), self.dtype, device, places)
        self.microbatches: dict[tuple[int, int], Microbatch] = {}
        self.losses: list[Tensor] = []
        self.handlers = {
            Kind.F: self._forward,
            Kind.B: self._backward,
            Kind.I: self._backward,
            Kind.W: self._weights,
            Kind.R: self._recompute,
            **dict.fromkeys((*EXCHANGES_F, *EXCHANGES_R), self._exchange_forward),
            **dict.fromkeys(EXCHANGES_B, self._exchange_backward),
            Kind.SEND_F: self._send_forward,
            Kind.RECV_F: self._receive_forward,
            Kind.SEND_B: self._send_backward,
            Kind.RECV_B: self._receive_backward,
            **dict.fromkeys(UNSHARDS.values(), self._unshard),
            Kind.RESHARD: self._reshard,
            **dict.fromkeys(REDUCTIONS.values(), self._reduce_grad),
            Kind.REDUCE_COPIES: self._reduce_copies,
            Kind.GRAD_TO_HOST: self._gradient_to_host,
            Kind.PARAM_FROM_HOST: self._parameter_from_host,
            **dict.fromkeys(PARAMETER_GATHERS.values(), self._unshard),
            Kind.REDUCE_TP_GRAD: self._reduce_partial,
            Kind.BARRIER: self._barrier,
            Kind.OPTIM: self._optim,
        }

    def _updated(self, stage: int) -> Iterable[nn.Parameter]:
        """Return what is updated of a stage: its parameters, this rank's parts of them, or these on the host."""
        if stage in self.hosted:
            return [bucket.parameter for bucket in self.hosted[stage]]
        if stage in self.shared:
            return [*(bucket.part for bucket in self.shared[stage]), *self.gradients[stage].alone]
        return self.stages[stage].parameters()

    def _share(self, stage: int, gradients: Gradients) -> list[SharedBucket]:
        plan, shared = self.inputs.plan, []
        for index, bucket in enumerate(self.program.stages[stage].buckets):
            replicas: tuple[int, ...] = (self.rank,)
            if plan.updates_parts:
                replicas = self.program.group(self.rank, COLLECTIVE_AXIS[bucket.reduction])
            shared.append(
                SharedBucket(
                    gradients.parameters[index],
                    gradients.buckets[index],
                    len(replicas),
                    replicas.index(self.rank),
                    keeps_whole=not (plan.is_sharded and self.program.is_replicated(bucket)),
                    sums_parts=plan.reduces_each and not plan.updates_on_host,
                )
            )
        return shared

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Make all parameters that are shared out whole for a while; all replicas must do so together."""
        for stage, buckets in self.shared.items():
            for bucket, each in zip(buckets, self.program.stages[stage].buckets, strict=True):
                if not self.inputs.plan.updates_parts or not self.program.is_replicated(each):
                    continue
                bucket.allocate()
                stream = STREAM_OF[PARAMETER_GATHERS[each.axis]]
                self.transport.all_gather(stream, bucket.whole, bucket.part.detach()).wait()
        try:
            yield
        finally:
            for buckets in self.shared.values():
                for bucket in buckets:
                    bucket.release()

    def state(self) -> dict[str, Any]:
        """Return step counter, parameters and what their updates depend on; gradients are zero between steps."""
        tensors = {index: [each.detach() for each in self._kept(index)] for index in self.stages}
        updates = {index: update.state() for index, update in self.updates.items()}
        return {**super().state(), "tensors": tensors, "updates": updates}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        super().restore(state)
        for index, tensors in state["tensors"].items():
            for tensor, kept in zip(self._kept(index), tensors, strict=True):
                tensor.copy_(kept)
        for index, update in state["updates"].items():
            self.updates[index].restore(update)
        for each in (each for buckets in self.hosted.values() for each in buckets):
            each.updated()
            each.give()

    def _kept(self, stage: int) -> list[Tensor]:
        """Return what a stage has between two steps, in an order that is always the same."""
        wholes = [bucket.whole for bucket in self.shared.get(stage, ()) if bucket.keeps_whole]
        return [*wholes, *self.updated[stage], *self.stages[stage].buffers()]

    def replicated(self) -> dict[tuple[int, ...], list[Tensor]]:
        """Return the parameters that other ranks must hold too, by the ranks that do: whole, or as parts."""
        found: dict[tuple[int, ...], list[Tensor]] = {}
        for index, gradients in self.gradients.items():
            for number, bucket in enumerate(self.program.stages[index].buckets):
                kinds = self.program.sums(bucket)
                if index not in self.shared:
                    ranks, tensors = (
                        self.program.group(self.rank, COLLECTIVE_AXIS[kinds[0]]),
                        gradients.parameters[number],
                    )
                elif len(kinds) > 1:
                    part: list[nn.Parameter] = [self.shared[index][number].part]
                    ranks, tensors = self.program.group(self.rank, COLLECTIVE_AXIS[kinds[1]]), part
                else:
                    continue
                found.setdefault(tuple(ranks), []).extend(tensors)
        return found

    def take_loss(self) -> float | None:
        """Return this replica's mean loss of the step that has just ended."""
        losses, self.losses = self.losses, []
        self.microbatches.clear()
        return float(torch.stack(losses).mean()) if losses else None

    def parameters(self) -> dict[str, tuple[str, str, Tensor]]:
        """Return this rank's parameters: name in the whole model -> (local node, parameter, value).

        Where parameters are sharded, all replicas must ask together.
        """
        with self.gathered():
            return {
                module.full_name(name): (module.node.name, name, value.detach().clone())
                for stage in self.stages.values()
                for segment in stage.segments
                for module in segment
                for name, value in module.weights.items()
            }

    def _microbatch(self, instruction: Instruction) -> Microbatch:
        key = (instruction.stage, instruction.microbatch)
        if key not in self.microbatches:
            batch = self.data.microbatch(self.step_index, instruction.microbatch)
            values = {TARGET: batch.targets}
            if not self.program.stages[instruction.stage].receives:
                values[INPUT] = batch.inputs
            samples = self.data.samples(self.step_index, instruction.microbatch)
            self.microbatches[key] = Microbatch(values, samples=samples)
        return self.microbatches[key]

    def _neighbour(self, instruction: Instruction, step: int) -> Microbatch | None:
        """Return the same micro-batch in the stage before or after, if that is on this rank too."""
        index = instruction.stage + step
        if index not in self.stages or not self.program.hands_over(instruction.stage, index):
            return None
        return self._microbatch(instruction._replace(stage=index))

    def _release(self, instruction: Instruction, microbatch: Microbatch) -> None:
        if microbatch.finished:
            self.lanes.keep(microbatch)
            del self.microbatches[(instruction.stage, instruction.microbatch)]

    def _keep_gradients(self, microbatch: Microbatch) -> None:
        """Keep the gradients that are about to be replaced by sums."""
        self.lanes.keep(tuple(microbatch.gradients.values()))

    def _begin_forward(self, instruction: Instruction) -> Microbatch:
        """Return the micro-batch of a forward; the first one of a stage takes over what the stage before made here."""
        stage, microbatch = self.program.stages[instruction.stage], self._microbatch(instruction)
        if instruction.part == stage.forward[0] and (before := self._neighbour(instruction, -1)):
            names = [self.program.graph.values[name] for name in stage.receives]
            microbatch.values.update({name: before.values[name] for name in names})
        return microbatch

    def _forward(self, instruction: Instruction) -> None:
        stage, microbatch = self.stages[instruction.stage], self._begin_forward(instruction)
        stage.forward_segment(microbatch, instruction.part)
        if stage.loss in microbatch.values and instruction.part == stage.stage.forward[-1]:
            self.losses.append(microbatch.values[stage.loss])

    def _recompute(self, instruction: Instruction) -> None:
        self.stages[instruction.stage].forward_segment(self._microbatch(instruction), instruction.part, again=True)

    def _begin_backward(self, instruction: Instruction) -> Microbatch:
        """Return the micro-batch of a backward; the first one of a stage takes over what the next stage made here."""
        stage, microbatch = self.program.stages[instruction.stage], self._microbatch(instruction)
        self._keep_gradients(microbatch)
        if instruction.part == stage.backward[0] and (after := self._neighbour(instruction, +1)):
            for name in (self.program.graph.gradients[each] for each in stage.gradients_in):
                microbatch.add_gradient(name, after.gradients.pop(name))
            after.delivered = True
            self._release(instruction._replace(stage=instruction.stage + 1), after)
        return microbatch

    def _backward(self, instruction: Instruction) -> None:
        microbatch, stage = self._begin_backward(instruction), self.program.stages[instruction.stage]
        self.stages[instruction.stage].backward_segment(microbatch, instruction.part, instruction.kind is Kind.B)
        self._fold(instruction)
        if instruction.part == stage.computing[0]:
            microbatch.delivered = not stage.gradients_out
            self._release(instruction, microbatch)

    def _weights(self, instruction: Instruction) -> None:
        microbatch = self._microbatch(instruction)
        self.stages[instruction.stage].weight_segment(microbatch, instruction.part)
        self._fold(instruction)
        self._release(instruction, microbatch)

    def _fold(self, instruction: Instruction) -> None:
        for module in self.stages[instruction.stage].segments[instruction.part]:
            fold_gradients(module.weights.values())

    def _exchange_forward(self, instruction: Instruction) -> Message:
        segment, microbatch = self.program.segment(instruction), self._begin_forward(instruction)
        node, layer = segment.nodes[0], segment.exchange
        assert layer
        name = self.program.graph.values[node.inputs[0]]
        if name not in microbatch.values:
            # Another rank has it, and hands it to all.
            tensor = self.empty(name)
        else:
            tensor = microbatch.values.pop(name) if segment.consumed else microbatch.values[name]
        self.lanes.keep(tensor)
        if isinstance(layer, ExpertExchange):
            route = self._route(instruction, microbatch)
            handles, result = route.begin(self.transport, instruction.stream, tensor, not layer.returns)
        else:
            handles, result = exchange(self.transport, instruction.stream, layer, tensor)

        def finish() -> None:
            if segment.is_made_again and instruction.kind in EXCHANGES_R:
                self.stages[instruction.stage].restore(microbatch, node.name, result())
                return
            microbatch.values[node.name] = result()
            if self.program.leaves(instruction.stage, node.name, self.place):
                del microbatch.values[node.name]
            if segment.recomputed and instruction.kind in EXCHANGES_F:
                self.stages[instruction.stage].drop(microbatch, instruction.part)

        return handles, finish

    def _exchange_backward(self, instruction: Instruction) -> Message:
        segment, microbatch = self.program.segment(instruction), self._begin_backward(instruction)
        node, layer = segment.nodes[0], segment.exchange
        assert layer
        gradient = microbatch.gradients.pop(node.name, None)
        if gradient is None:
            gradient = self.empty(node.name)
        self.stages[instruction.stage].forget(microbatch, instruction.part)
        self.lanes.keep(gradient)
        if isinstance(layer, ExpertExchange):
            route = self._route(instruction, microbatch)
            handles, result = route.begin(self.transport, instruction.stream, gradient, layer.returns)
        else:
            handles, result = exchange_back(self.transport, instruction.stream, layer, gradient)

        def finish() -> None:
            if self.program.leaves(instruction.stage, node.inputs[0], self.place):
                # The sum is another rank's.
                microbatch.delivered = True
                self._release(instruction, microbatch)
                return
            self._keep_gradients(microbatch)
            microbatch.add_gradient(self.program.graph.gradients[node.inputs[0]], result())

        return handles, finish

    def _route(self, instruction: Instruction, microbatch: Microbatch) -> Route:
        """Return the way of the rows that an exchange moves; the first exchange of a mixture finds it."""
        node = self.program.segment(instruction).nodes[0]
        gates, top_k = routed_by(self.program.graph, node)
        if gates not in microbatch.routes:
            values = microbatch.values[gates]
            microbatch.routes[gates] = Route(self.transport, instruction.stream, values, top_k, self.inputs.plan.ep)
        return microbatch.routes[gates]

    def _send_forward(self, instruction: Instruction) -> Message:
        values = self._microbatch(instruction).values
        names = self.program.stages[instruction.stage].sends
        return self._send(instruction, {name: values[self.program.graph.values[name]] for name in names})

    def _send_backward(self, instruction: Instruction) -> Message:
        microbatch = self._microbatch(instruction)
        names = self.program.stages[instruction.stage].gradients_out
        microbatch.delivered = True
        self._release(instruction, microbatch)
        gradients = {name: microbatch.gradients.pop(self.program.graph.gradients[name]) for name in names}
        return self._send(instruction, gradients)

    def _send(self, instruction: Instruction, tensors: dict[str, Tensor]) -> Message:
        peer = self.peer(instruction)
        # Named, so that the buffers live as long as the handles.
        contiguous = [self._own_part(name, tensor.contiguous()) for name, tensor in tensors.items()]
        self.lanes.keep(tuple(contiguous))
        number = border(instruction)
        handles = [self.transport.send(instruction.stream, tensor, peer, number) for tensor in contiguous]
        return handles, contiguous.clear

    def _receive_forward(self, instruction: Instruction) -> Message:
        names, known = self.program.stages[instruction.stage].receives, self.program.graph.values
        values = self._microbatch(instruction).values
        return self._receive(instruction, {name: known[name] for name in names}, values.__setitem__)

    def _receive_backward(self, instruction: Instruction) -> Message:
        names, known = self.program.stages[instruction.stage].gradients_in, self.program.graph.gradients
        microbatch = self._microbatch(instruction)
        self._keep_gradients(microbatch)
        return self._receive(instruction, {name: known[name] for name in names}, microbatch.add_gradient)

    def _receive(
        self, instruction: Instruction, names: dict[str, str], store: Callable[[str, Tensor], None]
    ) -> Message:
        """Begin to receive some tensors, given with the names under which they are stored."""
        peer = self.peer(instruction)
        buffers = {name: self.empty(name) for name in names}
        self.lanes.keep(buffers)

        def finish() -> None:
            for name, buffer in buffers.items():
                store(names[name], buffer)

        number, stream = border(instruction), instruction.stream
        parts = [self._own_part(name, buffer) for name, buffer in buffers.items()]
        return [self.transport.receive(stream, part, peer, number) for part in parts], finish

    def _own_part(self, name: str, tensor: Tensor) -> Tensor:
        """Return what this rank sends or receives of a tensor: all, or one part where its group shares that out."""
        parts = self.program.parts_of_message(name)
        if parts == 1:
            return tensor
        return tensor.view(-1).chunk(parts)[self.inputs.plan.mesh.coordinate(self.rank, "tp")]

    def empty(self, name: str) -> Tensor:
        """Return a buffer for one micro-batch of a tensor."""
        graph = self.program.graph
        integer = name == INPUT and graph.integer_input
        shape = (self.inputs.plan.microbatch_size, *graph.shape(name))
        assert count(shape) > 0
        return torch.empty(shape, dtype=torch.int64 if integer else self.dtype, device=self.device)

    def _reduce_grad(self, instruction: Instruction) -> Message:
        gradient = self.gradients[instruction.stage].buckets[instruction.part]
        if not self.inputs.plan.updates_parts:
            return [self.transport.all_reduce(instruction.stream, gradient)], None
        bucket = self.shared[instruction.stage][instruction.part]
        last = self.inputs.plan.copies == 1
        handle = self.transport.reduce_scatter(instruction.stream, gradient, bucket.own)
        return [handle], bucket.accumulate if last else None

    def _reduce_copies(self, instruction: Instruction) -> Message:
        bucket = self.shared[instruction.stage][instruction.part]
        return [self.transport.all_reduce(instruction.stream, bucket.own)], bucket.accumulate

    def _gradient_to_host(self, instruction: Instruction) -> None:
        self.hosted[instruction.stage][instruction.part].take(self.inputs.plan.reduces_each)

    def _parameter_from_host(self, instruction: Instruction) -> None:
        self.hosted[instruction.stage][instruction.part].give()

    def _reduce_partial(self, instruction: Instruction) -> Message:
        """Sum what each tensor-parallel rank has of some gradients; of sharded ones, only its own part will be read."""
        stage = self.stages[instruction.stage]
        modules = [stage.module_of(node.name) for node in stage.stage.partial]
        sums = (gradient_of(value) for module in modules for value in module.weights.values())
        gradients = [gradient for gradient in sums if gradient is not None]
        whole = torch.cat([gradient.flatten() for gradient in gradients])
        self.lanes.keep(whole)

        def finish() -> None:
            for gradient, part in zip(gradients, whole.split([each.numel() for each in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

        return [self.transport.all_reduce(instruction.stream, whole)], finish

    def _unshard(self, instruction: Instruction) -> Message:
        bucket = self.shared[instruction.stage][instruction.part]
        bucket.allocate()
        return [self.transport.all_gather(instruction.stream, bucket.whole, bucket.part.detach())], None

    def _reshard(self, instruction: Instruction) -> None:
        self.shared[instruction.stage][instruction.part].release()

    def _barrier(self, instruction: Instruction) -> Message:
        square = torch.zeros(1, device=self.device)
        self.lanes.keep(square)
        return [self.transport.all_reduce(instruction.stream, square)], None

    def _optim(self, instruction: Instruction) -> None:
        hosted = self.hosted.get(instruction.stage, ())
        if hosted and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        for each in hosted:
            each.sum_up()
        if instruction.stage in self.gradients:
            self.updates[instruction.stage].step()
            self.gradients[instruction.stage].zero()
            for bucket in self.shared.get(instruction.stage, ()):
                bucket.zero()
        for each in hosted:
            each.updated()
