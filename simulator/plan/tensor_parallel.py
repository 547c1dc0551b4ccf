"""Tensor parallelism as a rewriting of the graph: what is left is the graph of one rank, with ordinary local layers.

Two neighbouring products are cut as Megatron does (Shoeybi et al. 2019, arXiv 1909.08053): the first by columns (each
rank makes some of the outputs), the second by rows (each rank consumes the outputs it made), so that only one
all-reduce forward (the partial sums) and one backward (the input gradient) is needed for both. Attention is such a
pair by itself, cut by heads; two convolutions are cut by channels. Layers between the two must act on each channel
alone. Everything else is computed by all ranks of the group. The bias of the second product is taken out and
added after the all-reduce, once. The all-reduces are exchanges, layers between the local ones.
"""

from __future__ import annotations

from dataclasses import replace

from simulator.errors import Problems
from simulator.model.graph import LayerGraph, Node, Shard
from simulator.model.layers import Attention, Bias, Conv2d, Exchange, Flatten, Linear
from simulator.model.layers.exchange import NOTHING
from simulator.plan.resolve import divisors, neighbours


def shard_graph(graph: LayerGraph, tp: int, problems: Problems) -> LayerGraph | None:
    """Return the graph of one tensor-parallel rank; the same graph for ``tp`` = 1.

    Parameters
    ----------
    graph
        The whole model.
    tp
        Ranks that share each cut layer.
    problems
        Told which sizes ``tp`` does not divide.
    """
    if tp == 1:
        return graph
    regions = _regions(graph)
    if not regions:
        problems.add("plan.tp", f"tp({tp}): {graph.name} has no pair of layers that can be split", "use tp 1")
        return None
    widths = {_width_name(region): _width(region[0]) for region in regions}
    bad = {name: width for name, width in widths.items() if width % tp}
    if bad:
        name, width = next(iter(bad.items()))
        common = [d for d in divisors(width) if all(w % d == 0 for w in widths.values())]
        problems.add(
            "plan.tp",
            f"{tp} does not divide {name} = {width} (remainder {width % tp})",
            f"legal neighbour: tp {neighbours(tp, common)}",
        )
        return None
    return _rewrite(graph, regions, tp)


def _width(node: Node) -> int:
    layer = node.layer
    if isinstance(layer, Attention):
        return layer.num_heads
    assert isinstance(layer, Linear | Conv2d)
    return layer.out_features if isinstance(layer, Linear) else layer.out_channels


def _width_name(region: list[Node]) -> str:
    layer = region[0].layer
    noun = {"attention": "heads", "conv2d": "channels"}.get(layer.kind, "features")
    return f"the {noun} of {region[0].name}"


def _regions(graph: LayerGraph) -> list[list[Node]]:
    """Return the runs of nodes that can be split, in order and without overlap."""
    regions: list[list[Node]] = []
    taken: set[str] = set()
    for node in graph.nodes:
        if node.name in taken:
            continue
        if isinstance(node.layer, Attention):
            region = [node]
        elif isinstance(node.layer, Linear | Conv2d):
            region = _pair(graph, node)
        else:
            continue
        if region:
            regions.append(region)
            taken.update(member.name for member in region)
    return regions


def _pair(graph: LayerGraph, first: Node) -> list[Node]:
    """Return first product, channelwise layers, second product; empty when the chain does not go like that."""
    region = [first]
    while True:
        readers = graph.consumers[region[-1].name]
        if len(readers) != 1:
            return []
        node = readers[0]
        region.append(node)
        if isinstance(node.layer, Linear | Conv2d):
            return region
        if not node.layer.channelwise or (isinstance(first.layer, Linear) and isinstance(node.layer, Flatten)):
            return []


def _rewrite(graph: LayerGraph, regions: list[list[Node]], tp: int) -> LayerGraph:
    """Return the local graph: each region contiguous at the place of its last node, its exchanges around it."""
    last = {region[-1].name: region for region in regions}
    inside = {node.name for region in regions for node in region}
    blocks = _joined_blocks(graph, regions)
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in last:
            nodes += _local_region(graph, last[node.name], tp, renamed)
        elif node.name not in inside:
            nodes.append(replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs)))
    return LayerGraph(
        name=graph.name,
        input_shape=graph.input_shape,
        nodes=tuple(replace(node, block=blocks[node.block]) for node in nodes),
        tokens_per_sample=graph.tokens_per_sample,
    )


def _joined_blocks(graph: LayerGraph, regions: list[list[Node]]) -> dict[str, str]:
    """Return the local block of each block: those that share a region are one, called like the first of them."""
    blocks = {node.block: node.block for node in graph.nodes}
    for region in regions:
        joined = {blocks[node.block] for node in region}
        first = blocks[region[0].block]
        blocks = {block: first if found in joined else found for block, found in blocks.items()}
    return blocks


def _local_region(graph: LayerGraph, region: list[Node], tp: int, renamed: dict[str, str]) -> list[Node]:
    """Return the local nodes of one region between its exchanges and, behind them, the bias that was taken out.

    Megatron calls the exchanges f (nothing forward, all-reduce backward) and g (the other way round). Without an f the
    region reads what depends on no parameter.
    """
    first, last = region[0], region[-1]
    (source,) = (renamed.get(name, name) for name in first.inputs)
    inputs, local = (source,), list[Node]()
    if graph.needs_input_grad(first):
        f = Exchange(axis="tp", forward=NOTHING, backward="all_reduce", num_ranks=tp)
        local.append(Node(name=f"{first.name}+f", layer=f, inputs=inputs, block=first.block))
        inputs = (local[-1].name,)
    bias: Bias | None = None
    for node in region:
        layer, shard = node.layer, Shard.NONE
        if isinstance(layer, Attention):
            bias = Bias(features=layer.hidden, parameter="out_bias") if layer.out_bias else None
            layer = replace(layer, num_heads=layer.num_heads // tp, out_bias=False)
            shard = Shard.HEADS
        elif node is first:
            layer, shard = _column(layer, tp), Shard.COLUMN
        elif node is last:
            bias = _taken_bias(layer)
            layer, shard = _row(layer, tp), Shard.ROW
        local.append(replace(node, layer=layer, inputs=inputs, shard=shard))
        inputs = (node.name,)
    g = Exchange(axis="tp", forward="all_reduce", backward=NOTHING, num_ranks=tp)
    local.append(Node(name=f"{last.name}+g", layer=g, inputs=inputs, block=last.block))
    if bias:
        inputs = (local[-1].name,)
        local.append(Node(name=f"{last.name}+bias", layer=bias, inputs=inputs, block=last.block, origin=last.name))
    renamed[last.name] = local[-1].name
    return local


def _column(layer: object, tp: int) -> Linear | Conv2d:
    if isinstance(layer, Linear):
        return replace(layer, out_features=layer.out_features // tp)
    assert isinstance(layer, Conv2d)
    return replace(layer, out_channels=layer.out_channels // tp)


def _row(layer: object, tp: int) -> Linear | Conv2d:
    if isinstance(layer, Linear):
        return replace(layer, in_features=layer.in_features // tp, bias=False)
    assert isinstance(layer, Conv2d)
    return replace(layer, in_channels=layer.in_channels // tp, bias=False)


def _taken_bias(layer: object) -> Bias | None:
    if isinstance(layer, Linear):
        return Bias(features=layer.out_features) if layer.bias else None
    assert isinstance(layer, Conv2d)
    return Bias(features=layer.out_channels, channel_axis=0) if layer.bias else None
