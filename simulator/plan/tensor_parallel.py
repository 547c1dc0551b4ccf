"""Tensor parallelism as a rewriting of the graph: what is left is the graph of one rank, with ordinary local layers.

Two products are cut as Megatron does (Shoeybi et al. 2019, arXiv 1909.08053): the first by columns (each rank makes
some of the outputs), the second by rows (each rank consumes the outputs it made), so that only one all-reduce forward
(the partial sums) and one backward (the input gradient) is needed for both. What stands between the two must be able to
work on a shard: pointwise layers, attention on some of the heads, pooling and batch normalisation on some channels.
Several products may open a region together, as those of latent attention do, and the experts of a mixture are cut
inside, each like an MLP; their rows are combined before the all-reduce, which is linear and leaves fewer bytes.
Everything else is computed by all ranks of the group. The bias of the last product is taken out and added after the
all-reduce, once. The all-reduces are exchanges, layers between the local ones.
"""

from __future__ import annotations

from dataclasses import replace

from simulator.errors import Problems
from simulator.model.graph import INPUT, LayerGraph, Node, Shard
from simulator.model.layers import (
    Attention,
    BatchNorm,
    Bias,
    Combine,
    Conv2d,
    Exchange,
    Flatten,
    Glu,
    GroupedLinear,
    LatentAttention,
    Layer,
    Linear,
    OwnHeads,
    Qkv,
    QkvShare,
)
from simulator.model.layers.exchange import NOTHING
from simulator.plan.divisors import divisors, neighbours

Region = list[Node]


def shard_graph(graph: LayerGraph, tp: int, problems: Problems, *, whole_experts: bool = False) -> LayerGraph | None:
    """Return the graph of one tensor-parallel rank; the same graph for ``tp`` = 1.

    Parameters
    ----------
    graph
        The whole model.
    tp
        Ranks that share each cut layer.
    whole_experts
        Leave experts as they are.
    problems
        Told which sizes ``tp`` does not divide.
    """
    if tp == 1:
        return graph
    regions = find_regions(graph)
    if whole_experts:
        regions = [region for region in regions if not any(isinstance(node.layer, GroupedLinear) for node in region)]
    if not regions:
        problems.add("plan.tp", f"tp({tp}): {graph.name} has no pair of layers that can be split", "use tp 1")
        return None
    if bad := _uncut(regions, tp):
        name, width = next(iter(bad.items()))
        common = [d for d in divisors(width) if not _uncut(regions, d)]
        problems.add(
            "plan.tp",
            f"{tp} does not divide {name} = {width} (remainder {width % tp})",
            f"legal neighbour: tp {neighbours(tp, common)}",
        )
        return None
    return _rewrite(graph, regions, tp)


def _uncut(regions: list[Region], tp: int) -> dict[str, int]:
    """Return what ``tp`` does not divide, by name."""
    widths = (entry for region in regions for entry in _widths(region, tp).items())
    return {name: width for name, width in widths if width % tp}


def find_regions(graph: LayerGraph) -> list[Region]:
    """Return the sets of nodes that can be split, in order and without overlap; the last product is cut by rows."""
    regions: list[Region] = []
    taken: set[str] = set()
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        names = _before(graph, node, taken) if is_product(node.layer) else set()
        if names:
            readers = graph.consumers[node.name]
            names |= {node.name, *(reader.name for reader in readers if isinstance(reader.layer, Combine))}
            regions.append([graph.by_name[name] for name in sorted(names, key=position.__getitem__)])
            taken |= names
    return regions


def is_product(layer: Layer) -> bool:
    """Return whether a layer has a weight that can be cut; one that is another node's cannot be."""
    return isinstance(layer, Conv2d | Qkv | GroupedLinear) or (isinstance(layer, Linear) and not layer.weight_of)


def _before(graph: LayerGraph, last: Node, taken: set[str]) -> set[str]:
    """Return the nodes that make the shards which ``last`` consumes, back to their products; empty if there are none.

    Flattening keeps the channels of a convolution together, but not the features of several tokens.
    """
    found: set[str] = set()
    waiting = [last.inputs[0]]
    while waiting:
        name = waiting.pop()
        if name == INPUT or name in taken or len(graph.consumers[name]) != 1:
            return set()
        node = graph.by_name[name]
        if is_product(node.layer):
            if not _makes_shards(node.layer, {type(graph.by_name[each].layer) for each in found}):
                return set()
        elif node.layer.shards:
            waiting += [node.inputs[position] for position in node.layer.shards]
        else:
            return set()
        found.add(name)
    return found


def _makes_shards(layer: Layer, between: set[type[Layer]]) -> bool:
    """Return whether what stands behind a product can work on some of its outputs alone."""
    if Flatten in between:
        return isinstance(layer, Conv2d)
    # Each rank needs the gates of the features that it has: both are cut, so the product must know them apart.
    return Glu not in between or (isinstance(layer, Linear | GroupedLinear) and layer.num_parts == 2)


def _shares_heads(layer: Layer, tp: int) -> bool:
    """Return whether several ranks use one head of keys and values, of which each makes an equal part."""
    if not isinstance(layer, Attention | Qkv) or tp <= layer.num_kv_heads or tp % layer.num_kv_heads:
        return False
    normed = isinstance(layer, Qkv) and layer.qk_norm
    return layer.head_dim % (tp // layer.num_kv_heads) == 0 and not normed


def _widths(region: Region, tp: int) -> dict[str, int]:
    """Return what a region is cut along, by name: heads where there is attention, else the outputs of a product."""
    shared = all(_shares_heads(node.layer, tp) for node in region if isinstance(node.layer, Attention | Qkv))
    found: dict[str, int] = {}
    for node in region:
        layer = node.layer
        if isinstance(layer, Attention | LatentAttention):
            found[f"the heads of {node.name}"] = layer.num_heads
            if isinstance(layer, Attention) and layer.num_kv_heads != layer.num_heads and not shared:
                found[f"the key-value heads of {node.name}"] = layer.num_kv_heads
    if found:
        return found
    name, first = region[0].name, region[0].layer
    if isinstance(first, Conv2d):
        return {f"the channels of {name}": first.out_channels}
    assert isinstance(first, Linear | GroupedLinear)
    return {f"the features of {name}": first.out_features // first.num_parts}


def _rewrite(graph: LayerGraph, regions: list[Region], tp: int) -> LayerGraph:
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
        module=graph.module,
    )


def _joined_blocks(graph: LayerGraph, regions: list[Region]) -> dict[str, str]:
    """Return the local block of each block: those that share a region are one, called like the first of them."""
    blocks = {node.block: node.block for node in graph.nodes}
    for region in regions:
        joined = {blocks[node.block] for node in region}
        if len(joined) > 1:
            first = blocks[region[0].block]
            blocks = {block: first if found in joined else found for block, found in blocks.items()}
    return blocks


def _local_region(graph: LayerGraph, region: Region, tp: int, renamed: dict[str, str]) -> Region:
    """Return the local nodes of one region between its exchanges and, behind them, the bias that was taken out.

    Megatron calls the exchanges f (nothing forward, all-reduce backward), one for each tensor that the region reads,
    and g (the other way round). What depends on no parameter has no f.
    """
    inside = {node.name for node in region}
    end = region[-1]
    last = next(node for node in reversed(region) if is_product(node.layer))
    read = dict.fromkeys(name for node in region for name in node.inputs if name not in inside)
    f = Exchange(axis="tp", forward=NOTHING, backward="all_reduce", num_ranks=tp)
    g = Exchange(axis="tp", forward="all_reduce", backward=NOTHING, num_ranks=tp)
    own = {name: renamed.get(name, name) for name in read}
    local: Region = []
    for name in read:
        if graph.trainable[name]:
            number = len(local) or ""
            local.append(Node(name=f"{region[0].name}+f{number}", layer=f, inputs=(own[name],), block=region[0].block))
            own[name] = local[-1].name
    for node in region:
        layer, shard = (_row(node.layer, tp), Shard.ROW) if node is last else _column(node.layer, tp)
        local.append(replace(node, layer=layer, inputs=tuple(own.get(name, name) for name in node.inputs), shard=shard))
        if isinstance(node.layer, Qkv) and isinstance(layer, QkvShare):
            local += _own_heads(node, node.layer, tp)
            own[node.name] = local[-1].name
    local.append(Node(name=f"{end.name}+g", layer=g, inputs=(end.name,), block=end.block))
    if bias := _taken_bias(end.layer):
        inputs = (local[-1].name,)
        local.append(Node(name=f"{end.name}+bias", layer=bias, inputs=inputs, block=end.block, origin=end.name))
    renamed[end.name] = local[-1].name
    return local


def _own_heads(node: Node, whole: Qkv, tp: int) -> list[Node]:
    """Return what makes a rank's heads of the parts of heads that the ranks have made.

    As in Megatron where ``num_query_groups`` is less than tp: the product is cut evenly, all ranks gather all of it
    along the features, and take what they need (SelfAttention.get_query_key_value_tensors).
    """
    gather = Exchange(axis="tp", forward="all_gather", backward="reduce_scatter", num_ranks=tp, joined=1, shared=1)
    joined = Node(name=f"{node.name}+all", layer=gather, inputs=(node.name,), block=node.block)
    heads = OwnHeads(whole=whole, num_ranks=tp)
    return [
        joined,
        Node(name=f"{node.name}+own", layer=heads, inputs=(joined.name,), block=node.block, shard=Shard.HEADS),
    ]


def _column(layer: Layer, tp: int) -> tuple[Layer, Shard]:
    """Return a rank's part of a layer that makes shards or works on them, and how it was cut."""
    match layer:
        case Linear() | GroupedLinear():
            return replace(layer, out_features=layer.out_features // tp), Shard.COLUMN
        case Conv2d():
            return replace(layer, out_channels=layer.out_channels // tp), Shard.COLUMN
        case BatchNorm():
            return replace(layer, channels=layer.channels // tp), Shard.COLUMN
        case Qkv() if _shares_heads(layer, tp):
            return QkvShare(whole=layer, num_ranks=tp), Shard.COLUMN
        case Attention() | Qkv():
            heads, shared = layer.num_heads // tp, max(1, layer.num_kv_heads // tp)
            return replace(layer, num_heads=heads, num_kv_heads=shared), Shard.HEADS
        case LatentAttention():
            return replace(layer, num_heads=layer.num_heads // tp), Shard.HEADS
    return layer, Shard.NONE


def _row(layer: Layer, tp: int) -> Layer:
    if isinstance(layer, Linear):
        return replace(layer, in_features=layer.in_features // tp, bias=False)
    if isinstance(layer, GroupedLinear):
        return replace(layer, in_features=layer.in_features // tp)
    assert isinstance(layer, Conv2d)
    return replace(layer, in_channels=layer.in_channels // tp, bias=False)


def _taken_bias(layer: Layer) -> Bias | None:
    if not isinstance(layer, Linear | Conv2d) or not layer.bias:
        return None
    if isinstance(layer, Conv2d):
        return Bias(features=layer.out_channels, channel_axis=0)
    return Bias(features=layer.out_features)
