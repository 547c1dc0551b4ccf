"""Cutting the layer graph into pipeline stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby, pairwise

from simulator.errors import Problems
from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.model.layers import Attention, Exchange, Layer
from simulator.model.layers.base import Kernel, Phase
from simulator.plan.divisors import divisors, neighbours
from simulator.plan.plan import Plan
from simulator.topology import Device

Cost = Callable[[Node], float]


def cut_stages(graph: LayerGraph, plan: Plan, device: Device, problems: Problems) -> tuple[int, ...] | None:
    """Return the index of the first node of each stage, or None after reporting why there is no such cut.

    Stages are cut between blocks, where exactly one tensor crosses.

    Parameters
    ----------
    graph
        The graph of one tensor-parallel rank.
    plan
        Its ``pp`` and ``stages``.
    device
        Cost of a block is its roofline time on this device.
    """
    if plan.num_stages == 1:
        return (0,)
    blocks = _blocks(graph)
    if not isinstance(plan.stages, str):
        return _by_hand(blocks, plan, problems)
    if plan.num_stages > len(blocks):
        names = ", ".join(name for name, _ in blocks[:8])
        message = f"but {graph.name} can be cut into at most {len(blocks)} blocks ({names}...)"
        _refuse(plan, f"{_number(plan)} stages, {message}", range(1, len(blocks) + 1), problems)
        return None

    def cost(node: Node) -> float:
        return roofline_seconds(graph, node, plan, device)

    run = _repeated(graph, blocks)
    mode = plan.stages
    if mode == "auto":
        mode = "even" if _dominates(graph, blocks, run, cost) else "balanced"
    return _even(blocks, run, plan, problems) if mode == "even" else _balanced(graph, blocks, plan.num_stages, cost)


def roofline_seconds(
    graph: LayerGraph, node: Node, plan: Plan, device: Device, phases: Iterable[Phase] = tuple(Phase)
) -> float:
    """Return forward and backward seconds of a node: each kernel takes the longer of arithmetic and memory traffic."""
    return sum(
        roofline(kernel, plan, device)
        for phase in phases
        for kernel in node.layer.kernels(phase, graph.input_shapes(node), plan.microbatch_size)
    )


def roofline(kernel: Kernel, plan: Plan, device: Device) -> float:
    """Return the longer of a kernel's arithmetic at the peak and its traffic at the full bandwidth."""
    return max(kernel.flops / device.peak[plan.dtype], kernel.elements * plan.itemsize / device.memory_bandwidth)


def _blocks(graph: LayerGraph) -> list[tuple[str, int]]:
    """Return (name, first node) of each part between two legal cuts."""
    nodes = graph.nodes
    position = {node.name: index for index, node in enumerate(nodes)}
    crossing = [0] * (len(nodes) + 1)
    for tensor, readers in graph.consumers.items():
        if readers:
            first = position[tensor] + 1 if tensor != INPUT else 0
            for index in range(first, max(position[node.name] for node in readers) + 1):
                crossing[index] += 1
    blocks = [(nodes[0].block, 0)]
    for index in range(1, len(nodes)):
        before, after = nodes[index - 1], nodes[index]
        if before.block != after.block and crossing[index] == 1:
            blocks.append((after.block, index))
    return blocks


def _repeated(graph: LayerGraph, blocks: list[tuple[str, int]]) -> tuple[int, int]:
    """Return (first, one past last) of the longest run of identical blocks."""
    ends = [start for _, start in blocks[1:]] + [len(graph.nodes)]
    spans = [(start, end) for (_, start), end in zip(blocks, ends, strict=True)]
    # The first of equal blocks may exchange nothing backward, where nothing before it is trained.
    layers = [_unlimited(node.layer) for node in graph.nodes]
    shapes = [tuple(each for each in layers[a:b] if not isinstance(each, Exchange)) for a, b in spans]
    best, index = (0, 0), 0
    for _, group in groupby(shapes):
        length = len(list(group))
        if length > best[1] - best[0]:
            best = (index, index + length)
        index += length
    return best


def _unlimited(layer: Layer) -> Layer:
    """Return a layer without its window: frameworks count blocks that see less as they count the others."""
    return replace(layer, window=None) if isinstance(layer, Attention) else layer


def _dominates(graph: LayerGraph, blocks: list[tuple[str, int]], run: tuple[int, int], cost: Cost) -> bool:
    """Return whether repeated blocks of several layers are most of the model: then equal numbers make equal stages.

    A run of single dense layers is not such a model; it is cut by cost.
    """
    if run[1] - run[0] < 2:
        return False
    first, second = blocks[run[0]][1], blocks[run[0] + 1][1]
    if sum(bool(node.layer.parameters()) for node in graph.nodes[first:second]) < 2:
        return False
    end = blocks[run[1]][1] if run[1] < len(blocks) else len(graph.nodes)
    inside = sum(cost(node) for node in graph.nodes[blocks[run[0]][1] : end])
    return inside >= sum(cost(node) for node in graph.nodes) / 2


def _number(plan: Plan) -> str:
    """Return the number of stages, with its arithmetic if there is any."""
    if plan.num_stages_per_rank == 1:
        return str(plan.pp)
    return f"pp({plan.pp}) * num_stages_per_rank({plan.num_stages_per_rank}) = {plan.num_stages}"


def _refuse(plan: Plan, message: str, legal: Iterable[int], problems: Problems, other: str = "") -> None:
    """Report a number of stages that the model does not allow, at the key that can mend it."""
    virtual = [number // plan.pp for number in legal if number % plan.pp == 0]
    if plan.num_stages_per_rank > 1 and virtual:
        key, near = "num_stages_per_rank", neighbours(plan.num_stages_per_rank, virtual)
    else:
        shares = [number // plan.num_stages_per_rank for number in legal if number % plan.num_stages_per_rank == 0]
        key, near = "pp", neighbours(plan.pp, shares)
    hint = f"legal neighbour: {key} {near}" if near else "use fewer stages"
    problems.add(f"plan.{key}", message, f"{hint}{other}")


def _even(
    blocks: list[tuple[str, int]], run: tuple[int, int], plan: Plan, problems: Problems
) -> tuple[int, ...] | None:
    """Give each stage the same number of repeated blocks; what is before and after them stays at the ends."""
    length = run[1] - run[0]
    if length % plan.num_stages:
        message = f"does not divide the {length} repeated blocks (remainder {length % plan.num_stages})"
        _refuse(plan, f"{_number(plan)} {message}", divisors(length), problems, ", or set stages: balanced")
        return None
    share = length // plan.num_stages
    return (0, *(blocks[run[0] + share * stage][1] for stage in range(1, plan.num_stages)))


def _balanced(graph: LayerGraph, blocks: list[tuple[str, int]], pp: int, cost: Cost) -> tuple[int, ...]:
    """Minimise the dearest stage, then the sum of squares, by dynamic programming over the cuts."""
    starts = [start for _, start in blocks] + [len(graph.nodes)]
    prefix = [0.0]
    for first, end in pairwise(starts):
        prefix.append(prefix[-1] + sum(cost(node) for node in graph.nodes[first:end]))
    count = len(blocks)
    best: dict[int, tuple[float, float, tuple[int, ...]]] = {
        end: (prefix[end], prefix[end] ** 2, (0,)) for end in range(1, count + 1)
    }
    for stage in range(2, pp + 1):
        best = {
            end: min(
                (max(top, part := prefix[end] - prefix[cut]), squares + part**2, (*cuts, cut))
                for cut in range(stage - 1, end)
                for top, squares, cuts in (best[cut],)
            )
            for end in range(stage, count + 1)
        }
    return tuple(starts[cut] for cut in best[count][2])


def _by_hand(blocks: list[tuple[str, int]], plan: Plan, problems: Problems) -> tuple[int, ...] | None:
    """Return the cut at the blocks that the plan names."""
    starts = dict(reversed(blocks))
    legal = ", ".join(name for name, _ in blocks)
    if len(plan.stages) != plan.num_stages:
        wanted = _number(plan) if plan.num_stages_per_rank > 1 else f"pp({plan.pp})"
        message = f"{len(plan.stages)} blocks named for {wanted} stages"
        problems.add("plan.stages", message, "name one for each stage")
        return None
    unknown = [name for name in plan.stages if name not in starts]
    repeated = [name for name, times in Counter(plan.stages).items() if times > 1]
    if unknown or repeated:
        name = (unknown or repeated)[0]
        problems.add("plan.stages", f"{name!r} is not a block where another stage can begin", f"legal: {legal}")
        return None
    cuts = tuple(starts[name] for name in plan.stages)
    if cuts[0] != 0 or list(cuts) != sorted(cuts):
        message = "the blocks must begin with the first and follow the model's order"
        problems.add("plan.stages", message, f"legal: {legal}")
        return None
    return cuts
