"""One pipeline stage in torch: segments run forward and backward on their own, cut from each other's graphs.

Every tensor at the border of a segment is a fresh leaf on the side that reads it. So forward of a segment can run long
before its backward, other ranks may stand between, and the Program decides when what is communicated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from executor.modules import LayerModule
from executor.modules.dropout import Samples
from executor.modules.operations import PLAIN, Closure, Deferred
from executor.places import Places
from executor.routing import Route
from executor.tracing.imported import Imported
from simulator.errors import ExecutionError
from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.model.layers import GroupedLinear
from simulator.plan.plan import Plan
from simulator.program.stage import Stage

TARGET = "target"
"""Name under which a micro-batch's targets stand beside its tensors."""


@dataclass(slots=True)
class Microbatch:
    """What is alive of one micro-batch.

    Parameters
    ----------
    values
        Tensors at the borders of segments, without history.
    gradients
        Gradients of border tensors, summed over the segments that read them.
    saved
        For each segment whose backward is to come: its input leaves and its outputs with their history; of those that
        an exchange has taken, the history alone.
    weights
        For each segment whose weight gradients are put off: what computes them.
    delivered
        Whether the gradients of the stage's inputs have gone to the stage before.
    routes
        Ways of rows to expert-parallel ranks, by the router's tensor.
    samples
        Which of the step's they are.
    """

    values: dict[str, Tensor]
    gradients: dict[str, Tensor] = field(default_factory=dict)
    saved: dict[int, tuple[dict[str, Tensor], dict[str, Tensor | GradientEdge]]] = field(default_factory=dict)
    weights: dict[int, list[Closure]] = field(default_factory=dict)
    delivered: bool = False
    routes: dict[str, Route] = field(default_factory=dict)
    samples: Samples = field(default_factory=Samples)

    @property
    def finished(self) -> bool:
        """Whether nothing of it is needed any more."""
        return self.delivered and not self.saved and not self.weights

    def add_gradient(self, name: str, gradient: Tensor) -> None:
        """Add a contribution to a border tensor's gradient."""
        known = self.gradients.get(name)
        self.gradients[name] = gradient if known is None else known + gradient


class StageModule(nn.Module):
    """The modules of one stage.

    Parameters
    ----------
    stage, graph, plan
        From the Program.
    tp_rank, shards
        Which shard this rank holds, of how many; of a stage that a pipeline shares, one for each of its ranks.
    dtype, device
        Of parameters and activations.
    splits
        Whether input and weight gradients run apart.
    ep_rank, places
        Which experts, and which places of the sequence, this rank has.
    imported
        The module that the graph is one of, if it is somebody else's.
    """

    def __init__(
        self,
        stage: Stage,
        graph: LayerGraph,
        plan: Plan,
        tp_rank: int,
        dtype: torch.dtype,
        device: torch.device,
        splits: bool = False,
        ep_rank: int = 0,
        places: Places | None = None,
        shards: int = 0,
        imported: Imported | None = None,
    ) -> None:
        super().__init__()
        self.deferred = Deferred(weights_leave=plan.is_sharded) if splits else None
        self.stage = stage
        self.loss = graph.loss.name
        # Every micro-batch and replica contributes its mean; together they must be the mean of the global batch.
        self.loss_scale = 1.0 / (plan.num_microbatches * plan.replicas)
        # Exchanges change no value by themselves: they have names of their own, and messages.
        self.value_of, self.gradient_of = graph.values, graph.gradients
        nodes = [node for part in stage.computing for node in stage.segments[part].nodes]
        _check_experts(nodes, plan)
        of_rank = (shards or plan.tp, dtype, device, ep_rank, places, imported)
        modules = [LayerModule(node, tp_rank, *of_rank) for node in nodes]
        self.layers = nn.ModuleList(modules)
        for module in self.layers:
            assert isinstance(module, LayerModule)
            module.local = dict(module.weights.items())
            module.operations = self.deferred or PLAIN
        each = iter(modules)
        self.segments = [[] if segment.exchange else [next(each) for _ in segment.nodes] for segment in stage.segments]
        self._consumed = {name for segment in stage.segments for name in segment.consumed}
        self._emptied = {name for part in stage.last_readers for name in stage.segments[part].outputs}
        self._tie(plan)
        trainable = graph.trainable_inputs
        self._wants_gradient = {
            name: any(trainable[node.name] for node in segment.nodes if name in node.inputs) and name != INPUT
            for segment in stage.segments
            for name in segment.inputs
        }

    def _tie(self, plan: Plan) -> None:
        """Let heads use the weights that they are tied to; autograd sums what both add to the gradient."""
        for module in self.layers:
            assert isinstance(module, LayerModule)
            owner = getattr(module.node.layer, "weight_of", "")
            if owner and plan.is_sharded:
                message = f"{module.node.name} is tied to {owner}, which sharded plans gather at another time"
                raise ExecutionError(f"{message}; set sharding: none or tie_embeddings: false")
            if owner:
                module.local["weight"] = self.module_of(owner).local["weight"]

    def module_of(self, node: str) -> LayerModule:
        """Return the module of a node by name."""
        return next(module for segment in self.segments for module in segment if module.node.name == node)

    def forward_segment(self, microbatch: Microbatch, part: int, again: bool = False) -> None:
        """Run one segment forward; its outputs become border tensors.

        What is recomputed keeps nothing but the inputs of its unit until it runs ``again``, and draws the same random
        numbers then.
        """
        keeps = again or not self.stage.segments[part].recomputed
        with torch.set_grad_enabled(keeps):
            leaves, outputs = self._run(microbatch, part)
        if keeps:
            microbatch.saved[part] = leaves, {name: self._history(name, tensor) for name, tensor in outputs.items()}
        microbatch.values.update({name: tensor.detach() for name, tensor in outputs.items()})
        if not again:
            self.drop(microbatch, part)

    def _history(self, name: str, tensor: Tensor) -> Tensor | GradientEdge:
        """Return what backward of an output starts from."""
        return get_gradient_edge(tensor) if name in self._consumed and tensor.requires_grad else tensor

    def drop(self, microbatch: Microbatch, part: int) -> None:
        """Let go of what is not kept beyond a forward: of what an exchange made, the memory alone.

        Autograd holds that tensor, so it stays; if backward reads it, what it held comes back into it.
        """
        for name in self.stage.drops[part]:
            if name in self._emptied:
                microbatch.values[name].untyped_storage().resize_(0)
            else:
                microbatch.values.pop(name, None)

    def restore(self, microbatch: Microbatch, name: str, tensor: Tensor) -> None:
        """Bring back what was let go of; ``data``, so that autograd does not see a change."""
        kept = microbatch.values[name]
        kept.untyped_storage().resize_(kept.numel() * kept.element_size())
        kept.data.copy_(tensor)

    def _run(self, microbatch: Microbatch, part: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the input leaves of a segment and its outputs with their history."""
        segment = self.stage.segments[part]
        leaves = {
            name: microbatch.values[self.value_of[name]].detach().requires_grad_(self._wants_gradient[name])
            for name in segment.inputs
        }
        tensors = dict(leaves)
        for module in self.segments[part]:
            inputs: list[Any] = [tensors[name] for name in module.node.inputs]
            if isinstance(module.node.layer, GroupedLinear) and microbatch.routes:
                inputs.append(microbatch.routes[self.value_of[module.node.inputs[1]]].sizes)
            if module.node.layer.reads_targets:
                inputs.append(microbatch.values[TARGET])
            if module.node.layer.draws:
                inputs.append(microbatch.samples)
            tensors[module.node.name] = module(*inputs)
        return leaves, {name: tensors[name] for name in segment.outputs}

    def backward_segment(self, microbatch: Microbatch, part: int, whole: bool = True) -> None:
        """Run one segment backward: input gradients go to the border, parameter gradients accumulate in place.

        With ``whole`` false the parameter gradients are left for ``weight_segment``.
        """
        queue: list[Closure] = []
        if self.deferred:
            self.deferred.queue = queue
        else:
            assert whole, "the modules were not built for a split backward"
        leaves, outputs = microbatch.saved.pop(part)
        roots, gradients = self._roots(microbatch, outputs)
        torch.autograd.backward(roots, gradients)
        for name, leaf in leaves.items():
            if leaf.grad is None:
                continue
            microbatch.add_gradient(self.gradient_of[name], leaf.grad)
            # Put-off weight gradients keep the leaf, which must not keep what has long been sent.
            leaf.grad = None
        self.forget(microbatch, part)
        if self.deferred:
            # Nothing else may land in this queue, or keep it alive.
            self.deferred.queue = []
            microbatch.weights[part] = queue
            if whole:
                self.weight_segment(microbatch, part)

    def _roots(
        self, microbatch: Microbatch, outputs: dict[str, Tensor | GradientEdge]
    ) -> tuple[list[Any], list[Tensor]]:
        """Return what backward of a segment starts from, and the gradients there."""
        roots, gradients = list[Any](), list[Tensor]()
        for name, output in outputs.items():
            if isinstance(output, Tensor) and not output.requires_grad:
                continue
            if isinstance(output, Tensor) and name == self.loss:
                roots.append(output)
                gradients.append(torch.full_like(output, self.loss_scale))
            elif (gradient := microbatch.gradients.get(self.gradient_of[name])) is not None:
                roots.append(output)
                gradients.append(gradient)
        return roots, gradients

    def forget(self, microbatch: Microbatch, part: int) -> None:
        """Let go of what nobody reads after backward of a segment: outputs, their gradients, the stage's inputs."""
        for index in self.stage.segments[part].ends:
            for name in self.stage.segments[index].outputs:
                microbatch.values.pop(name, None)
        for name in self.stage.segments[part].outputs:
            microbatch.gradients.pop(self.gradient_of[name], None)
        if part == self.stage.computing[0]:
            microbatch.values.clear()

    @torch.no_grad()
    def weight_segment(self, microbatch: Microbatch, part: int) -> None:
        """Compute the parameter gradients that backward of a segment put off."""
        for compute in microbatch.weights.pop(part):
            compute()


def _check_experts(nodes: Iterable[Node], plan: Plan) -> None:
    """Raise ExecutionError where experts would read tokens that each tensor-parallel rank has sorted by itself."""
    cut = [node.name for node in nodes if isinstance(node.layer, GroupedLinear)]
    if cut and plan.sequence_parallel and not plan.folds_experts:
        raise ExecutionError(
            f"{cut[0]}: its parts on the ranks of tp would read tokens that each rank has sorted by itself, which "
            "cannot be run yet; set expert_tp: 1, or sequence_parallel: false"
        )
