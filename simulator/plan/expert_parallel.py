"""Expert parallelism as a rewriting of the graph: each rank holds some of the experts, and rows travel to theirs.

One all-to-all takes the rows of each rank's tokens to the ranks that hold their experts, behind ``dispatch``; another
brings them back before ``combine`` (Lepikhin et al. 2020, arXiv 2006.16668; Megatron's all-to-all token dispatcher).
Backward goes the same ways in the other direction. With ``expert_dispatch: deep_ep`` the same rows arrive, but a token
travels once to each node and rank that has some of its experts (`simulator/cost/algorithms/expert_dispatch.py`).

Experts that are cut inside by tensor parallelism are shared out all the same: each tensor-parallel rank exchanges rows,
on their way back partial sums, with those that have its part. With ``expert_tp: 1`` they are whole, and tensor-parallel
ranks, which have a part of the sequence each, are expert-parallel ranks too (Megatron's parallel folding, Liu et al.
2025, arXiv 2504.14960).
"""

from __future__ import annotations

from dataclasses import replace

from simulator.errors import Problems
from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import Combine, Dispatch, ExpertExchange, GroupedLinear
from simulator.plan.divisors import divisors, neighbours
from simulator.plan.plan import Plan


def share_experts(graph: LayerGraph, plan: Plan, problems: Problems) -> LayerGraph | None:
    """Return the graph of one expert-parallel rank; the same graph for ``ep`` = 1 or a model without experts.

    Parameters
    ----------
    graph
        Of one tensor-parallel rank.
    plan
        Its ``ep`` ranks share the experts of each layer.
    problems
        Told which numbers of experts ``ep`` does not divide.
    """
    experts = {node.name: node.layer for node in graph.nodes if isinstance(node.layer, GroupedLinear)}
    if plan.ep == 1 or not experts:
        return graph
    bad = {name: layer.num_experts for name, layer in experts.items() if layer.num_experts % plan.ep}
    if bad:
        name, number = next(iter(bad.items()))
        numbers = (plan.replicas, *(layer.num_experts for layer in experts.values()))
        legal = [d for d in divisors(number) if all(each % d == 0 for each in numbers)]
        problems.add(
            "plan.ep",
            f"{plan.ep} does not divide the experts of {name} = {number} (remainder {number % plan.ep})",
            f"legal neighbour: ep {neighbours(plan.ep, legal)}",
        )
        return None
    return _rewrite(graph, plan)


def _rewrite(graph: LayerGraph, plan: Plan) -> LayerGraph:
    """Return the local graph: an exchange behind each dispatch and before each combine, fewer experts between them."""
    sent: dict[str, str] = {}
    nodes: list[Node] = []
    experts = {node.block: node.layer for node in graph.nodes if isinstance(node.layer, GroupedLinear)}
    for node in graph.nodes:
        layer, inputs = node.layer, tuple(sent.get(name, name) for name in node.inputs)
        if isinstance(layer, GroupedLinear):
            layer = replace(layer, num_local=layer.num_experts // plan.ep)
        if isinstance(layer, Combine):
            nodes.append(_exchange(node, layer, inputs[0], plan, experts[node.block]))
            inputs = (nodes[-1].name, *inputs[1:])
        nodes.append(replace(node, layer=layer, inputs=inputs))
        if isinstance(layer, Dispatch):
            nodes.append(_exchange(node, layer, node.name, plan, experts[node.block]))
            sent[node.name] = nodes[-1].name
    return replace(graph, nodes=tuple(nodes), _shapes={})


def _exchange(node: Node, layer: Dispatch | Combine, tensor: str, plan: Plan, experts: GroupedLinear) -> Node:
    """Return the exchange of some rows, for the node that makes or reads them."""
    once = plan.expert_dispatch == "deep_ep"
    exchange = ExpertExchange(
        axis="ep",
        forward="all_to_all",
        backward="all_to_all",
        num_ranks=plan.ep,
        load_imbalance=experts.load_imbalance,
        returns=isinstance(layer, Combine),
        top_k=layer.top_k if once else 0,
        num_experts=experts.num_experts if once else 0,
    )
    return Node(name=f"{node.name}+ep", layer=exchange, inputs=(tensor,), block=node.block)
