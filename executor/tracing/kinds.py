"""Groups that are layers which the simulator knows: their costs are its own, and tensor parallelism can cut them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from executor.tracing.groups import ATEN, Grouping
from executor.tracing.layers import TracedLayer
from executor.tracing.parameters import argument, packet
from simulator.model.layers.activation import ActivationSpec
from simulator.model.layers.add import AddSpec
from simulator.model.layers.base import LayerSpec, Shape, ShapeError
from simulator.model.layers.batch_norm import BatchNormSpec
from simulator.model.layers.conv2d import Conv2dSpec
from simulator.model.layers.embedding import EmbeddingSpec
from simulator.model.layers.linear import LinearSpec
from simulator.model.layers.norm import NormSpec
from simulator.model.layers.pool import PoolSpec

ACTIVATIONS = {ATEN.relu: "relu", ATEN.gelu: "gelu", ATEN.tanh: "tanh", ATEN.sigmoid: "sigmoid", ATEN.silu: "silu"}


def known(grouping: Grouping, layer: TracedLayer, inputs: Sequence[Shape], shape: Shape) -> LayerSpec | None:
    """Return the entry of a layer that the simulator knows, None if it is none.

    Parameters
    ----------
    inputs, shape
        Per-sample shapes of what it reads and of its output.
    """
    group = layer.group
    operators = [node for node in group.nodes if grouping.is_standing(node)]
    if operators != [group.root] or group.root not in group.nodes:
        return None
    entry = _entry(group.root, layer.owner)
    if entry is None:
        return None
    try:
        built = entry.build(tuple(inputs))
        fits = built.output_shape(tuple(inputs)) == shape
    except (ShapeError, ValueError):
        return None
    own = {name: tuple(grouping.values[node].shape) for name, node in layer.parameters.items()}
    if layer.owner:
        del own["weight"]
    return entry if fits and own == built.parameters() else None


def _entry(node: fx.Node, owner: str) -> LayerSpec | None:
    """Return the entry that an operator would have, None if there is none."""
    kind, meta = packet(node), node.meta
    if kind in ACTIVATIONS:
        return ActivationSpec(kind="activation", function=ACTIVATIONS[kind])  # type: ignore[arg-type]
    if kind is ATEN.add:
        return AddSpec(kind="add")
    if kind is ATEN.linear:
        biased = isinstance(argument(node, 2), fx.Node)
        return LinearSpec(kind="linear", out_features=meta["val"].shape[-1], bias=biased, weight_of=owner)
    if owner:
        return None
    if kind is ATEN.layer_norm:
        biased = isinstance(argument(node, 3), fx.Node)
        return NormSpec(kind="norm", bias=biased) if len(argument(node, 1, ())) == 1 else None
    if kind is ATEN.batch_norm:
        return BatchNormSpec(kind="batch_norm") if argument(node, 5, False) else None
    if kind is ATEN.embedding:
        table = node.args[0]
        assert isinstance(table, fx.Node)
        rows, hidden = table.meta["val"].shape
        return EmbeddingSpec(kind="embedding", vocab_size=rows, hidden_size=hidden)
    if kind is ATEN.conv2d:
        return _convolution(node)
    return _pool(node) if kind is ATEN.max_pool2d else None


def _convolution(node: fx.Node) -> Conv2dSpec | None:
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    out_channels, _, *kernel = weight.meta["val"].shape
    stride, padding, dilation = (argument(node, place, default) for place, default in ((3, 1), (4, 0), (5, 1)))
    if isinstance(padding, str) or argument(node, 6, 1) != 1 or _side(dilation) != 1:
        return None
    sides = [_side(each) for each in (kernel, stride, padding)]
    if None in sides:
        return None
    biased = isinstance(argument(node, 2), fx.Node)
    side, step, margin = (each for each in sides if each is not None)
    return Conv2dSpec(kind="conv2d", out_channels=out_channels, kernel=side, stride=step, padding=margin, bias=biased)


def _pool(node: fx.Node) -> PoolSpec | None:
    kernel = _side(argument(node, 1))
    stride, padding, dilation = (
        _side(argument(node, 2, []) or kernel),
        _side(argument(node, 3, 0)),
        _side(argument(node, 4, 1)),
    )
    if None in (kernel, stride, padding) or dilation != 1 or argument(node, 5, False):
        return None
    return PoolSpec(kind="pool", kernel=kernel, stride=stride, padding=padding)  # type: ignore[arg-type]


def _side(sizes: Any) -> int | None:
    """Return the one size of a square, None if it is none."""
    if isinstance(sizes, int):
        return sizes
    return int(sizes[0]) if len(set(sizes)) == 1 else None
