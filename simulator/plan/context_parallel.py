"""Context parallelism as a rewriting of the graph: ranks share each sequence, and attention meets what others have.

All layers but attention work on each token alone, so that a rank runs them on its part of the sequence. Attention meets
the other parts in one of three ways:

- ``all_to_all`` (DeepSpeed Ulysses, arXiv 2309.14509): queries, keys and values of some heads for the whole sequence,
  for those of all heads for a part; the context goes back the same way.
- ``all_gather`` (Llama team 2024, arXiv 2407.21783, section 3.3.2): keys and values of the whole sequence on each
  rank, kept for backward.
- ``ring`` (Liu et al. 2023, arXiv 2310.01889): keys and values are passed on from rank to rank while attention runs
  over those that are there; the partial outputs are merged. Backward passes keys and values around again, and their
  gradients beside them, so that nobody keeps more than its own.

Under a causal mask the last two cut the sequence into two chunks a rank, the one as near to its begin as the other to
its end, so that all have equal work.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from simulator.errors import Problems
from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import (
    Attention,
    BatchNorm,
    BlockAttention,
    Conv2d,
    Exchange,
    FirstToken,
    FirstTokens,
    Flatten,
    LatentAttention,
    Layer,
    MergeBlocks,
    Pool,
    ShapeError,
    Slice,
    Tokens,
)
from simulator.model.layers.exchange import NOTHING
from simulator.plan.divisors import divisors, neighbours
from simulator.plan.plan import Plan

MIXES = (BatchNorm, Conv2d, FirstToken, FirstTokens, Flatten, Pool, Tokens)
"""Layers beside attention that look at several places of the input at once."""


def share_context(graph: LayerGraph, plan: Plan, problems: Problems) -> LayerGraph | None:
    """Return the graph of one context-parallel rank; the same graph for ``cp`` = 1 or a model without attention.

    Parameters
    ----------
    graph
        Of one tensor-parallel rank.
    plan
        Its ``cp`` ranks share each sequence, and meet in attention as ``context_parallel`` says.
    problems
        Told what ``cp`` does not divide.
    """
    cores = [node for node in graph.nodes if isinstance(node.layer, Attention | LatentAttention)]
    if plan.cp == 1 or not cores:
        return graph
    before = len(problems)
    _check_tokens(graph, problems)
    _check_cores(cores, plan, problems)
    if len(problems) == before:
        _check_sequence(graph, cores, plan, problems)
    if len(problems) > before:
        return None
    sequence, *rest = graph.input_shape
    nodes = _rewrite(graph, plan)
    try:
        return replace(graph, input_shape=(sequence // plan.cp, *rest), nodes=nodes, _shapes={})
    except ShapeError as error:
        message = f"cp({plan.cp}) leaves {sequence // plan.cp} of the {sequence} tokens to each rank: {error}"
        problems.add("plan.cp", message, "use a smaller cp or tp, or a longer sequence")
        return None


def _check_tokens(graph: LayerGraph, problems: Problems) -> None:
    """Report models whose input is no sequence of tokens, or that mix tokens outside attention."""
    mixing = [f"{node.name} ({node.layer.kind})" for node in graph.nodes if isinstance(node.layer, MIXES)]
    if mixing or not graph.tokens_per_sample:
        reason = f"{mixing[0]} looks at several places at once" if mixing else "its input is no sequence of tokens"
        problems.add("plan.cp", f"{graph.name} cannot share its input out: {reason}", "leave cp out")


def _check_cores(cores: list[Node], plan: Plan, problems: Problems) -> None:
    """Report heads that cannot be shared out, and attention that cannot be run in pieces."""
    if plan.context_parallel == "ring" and any(isinstance(node.layer, LatentAttention) for node in cores):
        message = "ring: latent attention is not run in pieces"
        problems.add("plan.context_parallel", message, "set context_parallel: all_to_all or all_gather")
    windows = [node for node in cores if isinstance(node.layer, Attention) and node.layer.window]
    if plan.context_parallel != "all_to_all":
        if windows:
            message = f"{plan.context_parallel}: {windows[0].name} has a sliding window, whose parts are not balanced"
            problems.add("plan.context_parallel", message, "set context_parallel: all_to_all")
        return
    heads = {name: number for node in cores for name, number in _heads(node).items()}
    bad = {name: number for name, number in heads.items() if number % plan.cp}
    if bad:
        name, number = next(iter(bad.items()))
        share = f" / tp({plan.tp}) = {number}" if plan.tp > 1 else ""
        legal = [d for d in divisors(plan.replicas) if all(each % d == 0 for each in heads.values())]
        problems.add(
            "plan.cp",
            f"{plan.cp} does not divide {name} = {number * plan.tp}{share} (remainder {number % plan.cp})",
            f"legal neighbour: cp {neighbours(plan.cp, legal)}, or set context_parallel: ring or all_gather",
        )


def _heads(node: Node) -> dict[str, int]:
    """Return the numbers of heads that ranks share out, by name."""
    assert isinstance(node.layer, Attention | LatentAttention)
    found = {f"the heads of {node.name}": node.layer.num_heads}
    if isinstance(node.layer, Attention):
        found[f"the key-value heads of {node.name}"] = node.layer.num_kv_heads
    return found


def _check_sequence(graph: LayerGraph, cores: list[Node], plan: Plan, problems: Problems) -> None:
    """Report a sequence that cannot be cut evenly."""
    causal = any(node.layer.causal for node in cores if isinstance(node.layer, Attention | LatentAttention))
    chunks = 1 if plan.context_parallel == "all_to_all" or not causal else 2
    sequence = graph.input_shape[0]
    if remainder := sequence % (chunks * plan.cp):
        pieces = f"2 * cp({plan.cp}) = {2 * plan.cp} chunks" if chunks == 2 else f"cp({plan.cp}) parts"
        near = neighbours(plan.cp, [d for d in divisors(plan.replicas) if sequence % (chunks * d) == 0])
        shorter = sequence - remainder
        lengths = " or ".join(str(each) for each in (shorter, shorter + chunks * plan.cp) if each)
        problems.add(
            "plan.cp",
            f"the sequence of {sequence} tokens cannot be cut into {pieces} (remainder {remainder})",
            f"legal neighbour: cp {near}; or model.sequence_length {lengths}",
        )


def _rewrite(graph: LayerGraph, plan: Plan) -> tuple[Node, ...]:
    """Return the local nodes: each attention with its exchanges in its place."""
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for each in graph.nodes:
        node = replace(each, inputs=tuple(renamed.get(name, name) for name in each.inputs))
        if not isinstance(node.layer, Attention | LatentAttention):
            nodes.append(node)
            continue
        around = _Around(node, plan.cp)
        match plan.context_parallel:
            case "all_to_all":
                around.exchange_heads()
            case "all_gather":
                around.gather_keys()
            case _:
                around.pass_keys_around()
        nodes += around.nodes
        renamed[node.name] = around.nodes[-1].name
    return tuple(nodes)


class _Around:
    """Builds what takes the place of one attention.

    Attributes
    ----------
    nodes
        So far, in running order.
    """

    def __init__(self, node: Node, cp: int) -> None:
        self.node = node
        self.cp = cp
        self.nodes: list[Node] = []

    def exchange_heads(self) -> None:
        """Append the exchange of a part of the sequence for some of the heads, attention, and the exchange back."""
        node, layer = self.node, self.node.layer
        there = {"shared": 1, "joined": 0}
        if isinstance(layer, Attention):
            own, shared = layer.width, layer.num_kv_heads * layer.head_dim
            inputs = [self._exchange("heads", node.inputs[0], "all_to_all", sections=(own, shared, shared), **there)]
            local: Layer = replace(
                layer, num_heads=layer.num_heads // self.cp, num_kv_heads=layer.num_kv_heads // self.cp
            )
        else:
            assert isinstance(layer, LatentAttention)
            names = zip(("q", "kv"), node.inputs, strict=False)
            inputs = [self._exchange(name, tensor, "all_to_all", **there) for name, tensor in names]
            # All heads share one key's turned part.
            inputs.append(self._exchange("k_rope", node.inputs[2], "all_gather", backward="reduce_scatter"))
            local = replace(layer, num_heads=layer.num_heads // self.cp)
        core = self._add("", local, *inputs)
        self._exchange("sequence", core, "all_to_all", shared=0, joined=1)

    def gather_keys(self) -> None:
        """Append the gathering of keys and values, and attention of the rank's own queries over all of them."""
        node, layer = self.node, self.node.layer
        if isinstance(layer, Attention):
            queries, own = self._slices(layer)
            keys = self._exchange("kv_all", own, "all_gather", backward="reduce_scatter")
            self._add("", _block(layer, None), queries, keys)
            return
        pairs = zip(("kv", "k_rope"), node.inputs[1:], strict=True)
        gathered = [self._exchange(name, tensor, "all_gather", backward="reduce_scatter") for name, tensor in pairs]
        self._add("", layer, node.inputs[0], *gathered)

    def pass_keys_around(self) -> None:
        """Append for each block the shift that brings the next one, then attention over it; then the merging.

        A shift stands before the attention that runs beside it. The next attention is behind a border, an exchange
        that does nothing, so that it waits for its own block alone.
        """
        layer = self.node.layer
        assert isinstance(layer, Attention)
        queries, keys = self._slices(layer)
        parts: list[str] = []
        for distance in range(self.cp):
            arrived = keys
            if distance + 1 < self.cp:
                keys = self._exchange(f"kv{distance + 1}", arrived, "shift", transient=True)
            if distance:
                arrived = self._exchange(f"border{distance}", arrived, NOTHING)
            parts.append(self._add(f"+block{distance}", _block(layer, distance), queries, arrived))
        self._add("", MergeBlocks(num_blocks=self.cp, num_heads=layer.num_heads, flash=layer.flash), *parts)

    def _slices(self, layer: Attention) -> tuple[str, str]:
        """Append the views of queries, and of keys and values; return their names."""
        made, width = self.node.inputs[0], layer.width
        queries = self._add("+q", Slice(start=0, stop=width), made)
        stop = width + 2 * layer.num_kv_heads * layer.head_dim
        return queries, self._add("+kv", Slice(start=width, stop=stop), made)

    def _add(self, suffix: str, layer: Layer, *inputs: str) -> str:
        name, origin = self.node.name + suffix, self.node.origin or self.node.name
        self.nodes.append(replace(self.node, name=name, origin=origin, layer=layer, inputs=inputs))
        return self.nodes[-1].name

    def _exchange(self, name: str, tensor: str, forward: str, **options: Any) -> str:
        """Append an exchange whose backward does what its forward does, unless ``options`` say otherwise."""
        options = {"backward": forward, **options}
        return self._add(f"+{name}", Exchange(axis="cp", forward=forward, num_ranks=self.cp, **options), tensor)


def _block(layer: Attention, distance: int | None) -> BlockAttention:
    """Return a part of an attention."""
    sizes = {field.name: getattr(layer, field.name) for field in fields(Attention)}
    return BlockAttention(**sizes, distance=distance)
