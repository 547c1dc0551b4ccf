"""A node of the local graph becomes an ``nn.Module`` with its shard of the model's parameters."""

from __future__ import annotations

import math
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from executor.modules.dropout import Draws
from executor.modules.functions import FORWARD, PLACED, RANKED, Forward
from executor.modules.operations import PLAIN, Operations
from executor.places import Places
from simulator.errors import ExecutionError
from simulator.model.graph import Node, Shard
from simulator.model.layers import GroupedLinear, Layer, Linear, Qkv, Shape
from simulator.model.layers.vocabulary import Positions

if TYPE_CHECKING:
    from executor.tracing.imported import Imported

WHOLE = ("q_norm", "k_norm")
"""Parameters of cut layers that every rank has whole."""


class LayerModule(nn.Module):
    """One layer with its local parameters.

    Parameters
    ----------
    node
        The node of the local graph.
    tp_rank, tp
        Which shard, of how many.
    dtype, device
        Of the parameters.
    ep_rank
        Which of the expert-parallel ranks.
    places
        Of the sequence, where this rank has only some.
    imported
        The module that the layer is a part of, if it is somebody else's.
    """

    def __init__(
        self,
        node: Node,
        tp_rank: int,
        tp: int,
        dtype: torch.dtype,
        device: torch.device,
        ep_rank: int = 0,
        places: Places | None = None,
        imported: Imported | None = None,
    ) -> None:
        super().__init__()
        check_runnable(node)
        if places and isinstance(node.layer, Positions) and node.layer.positions:
            raise ExecutionError(
                f"{node.name}: learned positions of a shared sequence cannot be run beside a shared vocabulary yet; "
                "set vocab_parallel: false and sequence_parallel: false, or cp 1"
            )
        self._ep_rank = ep_rank
        self._context: dict[str, Any] = {"places": places} if places and node.layer.kind in PLACED else {}
        if node.layer.draws:
            self._context["draws"] = Draws.of(node, tp_rank, places)
        self.node = node
        self._imported = imported if imported and imported.has(node) else None
        run = self._imported.forward_of(node) if self._imported else forward_of(node.layer)
        self.run = partial(run, rank=tp_rank) if node.layer.kind in RANKED else run
        self.operations: Operations = PLAIN
        self.weights = nn.ParameterDict(
            {
                # Contiguous, because fused optimizers walk parameter, gradient and state side by side in memory; and
                # copied, because a view of the whole would keep the other ranks' parts alive.
                name: nn.Parameter(
                    self._initial(name, shape, tp_rank, tp).to(
                        device, dtype, copy=True, memory_format=torch.contiguous_format
                    )
                )
                for name, shape in node.layer.parameters().items()
            }
        )
        # A plain dict is many times faster to read than a ParameterDict, and this is read in every forward.
        self.local = dict(self.weights.items())

    def forward(self, *inputs: Any) -> Tensor:
        """Run the layer."""
        return self.run(self.operations, self.node.layer, self.local, *inputs, **self._context)

    def full_name(self, parameter: str) -> str:
        """Return a parameter's name in the whole model; in somebody else's module, what it is called there."""
        return self._imported.full_name(self.node, parameter) if self._imported else self.node.parameter_name(parameter)

    def _initial(self, name: str, shape: Shape, tp_rank: int, tp: int) -> Tensor:
        if self._imported:
            return self._imported.value(self.node, name)
        full = list(shape)
        axis = shard_axis(self.node, name)
        if axis is not None:
            full[axis] = self.node.whole or full[axis] * tp
        layer = self.node.layer
        if isinstance(layer, GroupedLinear):
            full[0] = layer.num_experts
        whole = take_shard(self.node, name, initial_value(self.node.parameter_name(name), tuple(full)), tp_rank, tp)
        return whole.split(layer.num_local)[self._ep_rank] if isinstance(layer, GroupedLinear) else whole


def check_runnable(node: Node) -> None:
    """Raise ExecutionError for a node whose gradients would need a sum over ranks that no instruction makes."""
    layer = node.layer
    if isinstance(layer, Qkv) and layer.qk_norm and node.shard is not Shard.NONE:
        raise ExecutionError(
            f"{node.name}: norms of queries and keys are whole on every rank of tp; their gradients would have "
            "to be summed over the ranks, which cannot be run yet; set tp 1 or qk_norm: false"
        )
    if isinstance(layer, Linear) and layer.copies:
        raise ExecutionError(
            f"{node.name}: its weight is that of {layer.weight_of} in another pipeline stage; their gradients would "
            "have to be summed, which cannot be run yet; set pp 1 or tie_embeddings: false"
        )


def forward_of(layer: Layer) -> Forward:
    """Return the function that computes a layer."""
    return FORWARD[layer.kind]


def initial_value(name: str, shape: Shape) -> Tensor:
    """Return a parameter's first value, from its name and shape alone: every plan starts from the same model.

    Weights are normal with standard deviation 1 / sqrt(fan in), norms start at 1, and biases are small but not zero,
    so that a bias that is forgotten or counted twice shows.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    value = torch.randn(shape, generator=generator)
    kind = name.rpartition(".")[2]
    if kind.endswith("bias"):
        return 0.02 * value
    if len(shape) == 1:
        return 1 + 0.02 * value
    if kind == "position_weight":
        return 0.1 * value
    if kind == "expert_weight":
        return value / math.sqrt(shape[-1])
    return value / torch.tensor(shape[1:]).prod().sqrt()


def shard_axis(node: Node, parameter: str) -> int | None:
    """Return the axis along which a parameter is cut, or None."""
    if parameter in WHOLE:
        return None
    first = 1 if node.layer.kind == "grouped_linear" else 0
    match node.shard:
        case Shard.COLUMN | Shard.HEADS | Shard.VOCABULARY:
            return first
        case Shard.ROW:
            return first + 1
    return None


def take_shard(node: Node, parameter: str, whole: Tensor, tp_rank: int, tp: int) -> Tensor:
    """Return one rank's part of a whole parameter."""
    axis = shard_axis(node, parameter)
    if axis is None:
        return whole
    if node.shard is Shard.ROW:
        return whole.chunk(tp, axis)[tp_rank]
    if node.whole:
        (local,) = node.layer.parts(parameter)
        return _filled_up(whole, local * tp).chunk(tp)[tp_rank]
    # Matrices that stand below each other, as queries, keys and values do, are each cut on their own.
    rows = [size * tp for size in node.layer.parts(parameter)]
    return torch.cat([part.chunk(tp, axis)[tp_rank] for part in whole.split(rows, axis)], axis)


def _filled_up(whole: Tensor, rows: int) -> Tensor:
    """Return a parameter with zeros behind its rows."""
    return functional.pad(whole, (0, 0) * (whole.dim() - 1) + (0, rows - len(whole)))


def join_shards(node: Node, parameter: str, shards: list[Tensor]) -> Tensor:
    """Return the whole parameter from the parts of all tensor-parallel ranks; the inverse of ``take_shard``."""
    axis = shard_axis(node, parameter)
    if axis is None:
        return shards[0]
    if node.shard is Shard.ROW:
        return torch.cat(shards, axis)
    if node.whole:
        return torch.cat(shards)[: node.whole]
    parts = zip(*(shard.split(list(node.layer.parts(parameter)), axis) for shard in shards), strict=True)
    return torch.cat([piece for part in parts for piece in part], axis)
