"""Collective algorithms against closed forms, by hand."""

from collections import Counter
from itertools import combinations
from typing import get_args

import pytest

from simulator.cost.algorithms import ALGORITHMS, OPERATIONS, GroupShape, algorithms_of
from simulator.cost.algorithms.expert_dispatch import PROTOCOLS, reached
from simulator.cost.algorithms.ring import channels
from simulator.cost.algorithms.ring_search import rings_over
from simulator.cost.algorithms.tree import depth, parents, trees, twin
from simulator.cost.group import Group, collective_seconds
from simulator.cost.repertoire import shape_of
from simulator.topology import Topology
from simulator.topology.protocols import AlgorithmName, OperationName

S = 64e6
ALPHA, BETA = 2e-6, 1 / 20e9
"""A hop of the star: seconds, seconds a byte."""


def box(count: int, nodes: int = 1) -> GroupShape:
    return GroupShape(tuple(rank // count for rank in range(count * nodes)), tuple(range(count)) * nodes)


def test_the_schema_knows_every_name() -> None:
    assert {name for _, name in ALGORITHMS} == set(get_args(AlgorithmName))
    assert set(OPERATIONS) == set(get_args(OperationName)) == {operation for operation, _ in ALGORITHMS}


@pytest.mark.parametrize(
    ("operation", "algorithm", "seconds"),
    [
        # 2 (n - 1) (alpha + S / n beta) around a ring; half of it for either half.
        ("all_reduce", "ring", 14 * (ALPHA + S / 8 * BETA)),
        ("all_gather", "ring", 7 * (ALPHA + S / 8 * BETA)),
        ("reduce_scatter", "ring", 7 * (ALPHA + S / 8 * BETA)),
        # A chain of 7 hops fills, then the last bytes leave it.
        ("broadcast", "ring", 7 * ALPHA + S * BETA),
        # 3 exchanges of S / 2, S / 4, S / 8, and back.
        ("all_reduce", "halving_doubling", 6 * ALPHA + 2 * 7 / 8 * S * BETA),
        ("all_gather", "halving_doubling", 3 * ALPHA + 7 / 8 * S * BETA),
        # 7 messages of S / 8 leave each card, at once or one by one.
        ("all_to_all", "direct", ALPHA + 7 / 8 * S * BETA),
        ("all_to_all", "pairwise", 7 * (ALPHA + S / 8 * BETA)),
        ("all_reduce", "direct", 2 * (ALPHA + 7 / 8 * S * BETA)),
    ],
)
def test_closed_forms_on_a_switch(star: Topology, operation: str, algorithm: str, seconds: float) -> None:
    assert collective_seconds(star, range(8), operation, S, algorithm) == pytest.approx(seconds)


def brute_force(places: int, top_k: int, experts: int) -> float:
    """Mean number of places that hold some of a token's experts, over all choices."""
    choices = list(combinations(range(experts), top_k))
    return sum(len({expert * places // experts for expert in choice}) for choice in choices) / len(choices)


@pytest.mark.parametrize(("places", "top_k", "experts"), [(2, 2, 8), (4, 2, 8), (4, 3, 12), (8, 2, 8), (2, 8, 12)])
def test_a_token_reaches_as_many_places_as_all_choices_say(places: int, top_k: int, experts: int) -> None:
    assert places * reached(places, top_k, experts) == pytest.approx(brute_force(places, top_k, experts))


def test_tokens_travel_once_to_each_rank_of_a_node(star: Topology) -> None:
    """To 2 of 64 experts: 7 x P(rank) leave a card of the star."""
    inside, _ = PROTOCOLS
    seconds = inside.overhead + ALPHA + 7 * reached(8, 2, 64) * S * BETA / inside.efficiency
    assert collective_seconds(star, range(8), "dispatch:2/64", S) == pytest.approx(seconds)


def test_tokens_travel_once_to_each_node_on_their_rail(boxes: Topology) -> None:
    """To all of 64 experts, so to the other 3 boxes: one copy to each, over a card of 2 GB/s and 5 us."""
    _, between = PROTOCOLS
    ranks = range(boxes.world_size)
    (phase,) = algorithms_of("dispatch:64/64")[0].phases(shape_of(boxes, ranks))
    local = boxes.world_size // 4
    assert (phase.sources % local == phase.destinations % local).all()
    seconds = between.overhead + 5e-6 + 3 * S / 2e9 / between.efficiency
    assert collective_seconds(boxes, ranks, "dispatch:64/64", S) == pytest.approx(seconds)


def test_there_is_no_dispatch_without_its_numbers(star: Topology) -> None:
    with pytest.raises(ValueError, match="is no operation"):
        collective_seconds(star, range(8), "dispatch", S)


def test_a_message(star: Topology) -> None:
    assert collective_seconds(star, (3, 5), "send", S) == pytest.approx(ALPHA + S * BETA)


def test_two_trees(star: Topology) -> None:
    # Places 0 to 3: tree [-, 2, 0, 2] and its mirror image [1, 3, 1, -], 2 levels. Places 1 and 2 have two children in
    # one tree and none in the other: 1 + 2 hops leave them in one, 1 in the other, each with S / 2.
    assert parents(4) == [None, 2, 0, 2]
    assert twin(4) == [1, 3, 1, None]
    expected = 2 * 2 * ALPHA + 4 * S / 2 * BETA
    assert collective_seconds(star, range(4), "all_reduce", S, "tree") == pytest.approx(expected)


@pytest.mark.parametrize("size", [2, 3, 5, 8, 12, 31, 64])
def test_trees_reach_everyone_in_few_levels(size: int) -> None:
    for tree in (parents(size), twin(size)):
        assert sum(parent is None for parent in tree) == 1
        assert depth(tree) <= size.bit_length()  # a place more than a balanced tree would need
    if size % 2 == 0:
        inner = [{parent for parent in tree if parent is not None} for tree in (parents(size), twin(size))]
        assert not inner[0] & inner[1]


def test_trees_over_nodes_use_every_card() -> None:
    plans = trees(box(4, nodes=2))
    heads = {
        member for plan in plans for member, above in enumerate(plan) if above is not None and member // 4 != above // 4
    }
    assert len(plans) == 2 * 4
    assert heads == set(range(8))


def test_halving_doubling_on_a_full_mesh(mesh: Topology) -> None:
    # Distance 1 with S / 2, distance 2 with S / 4, and back: each pair has its own link.
    expected = 4 * 1e-6 + 2 * (S / 2 + S / 4) / 10e9
    assert collective_seconds(mesh, range(4), "all_reduce", S, "halving_doubling") == pytest.approx(expected)


def test_rings_use_all_links_of_a_mesh(mesh: Topology) -> None:
    # Three cycles in both directions meet each of the 12 links twice: S / 4 in each of 6 steps, over 6 rings.
    expected = 6 * (1e-6 + 2 * S / 4 / 6 / 10e9)
    assert collective_seconds(mesh, range(4), "all_reduce", S, "ring") == pytest.approx(expected)


def test_a_ring_over_nodes_uses_every_card(boxes: Topology) -> None:
    # 8 rings of S / 8; each crosses each card once a step and each GPU's link 7 times: 7 / 20 < 1 / 2.
    expected = 2 * 31 * (5e-6 + S / 32 / 8 / 2e9)
    assert collective_seconds(boxes, range(32), "all_reduce", S, "ring") == pytest.approx(expected)


def test_channels_stay_on_their_rail() -> None:
    for order in channels(box(8, nodes=4)):
        crossings = [(a, b) for a, b in zip(order, order[1:] + order[:1], strict=True) if a // 8 != b // 8]
        assert len(crossings) == 4
        assert all(a % 8 == b % 8 for a, b in crossings)


def test_hierarchical(boxes: Topology) -> None:
    inside = 7 * (2e-6 + S / 8 / 20e9)
    between = 2 * 3 * (5e-6 + S / 32 / 2e9)
    expected = 2 * inside + between
    assert collective_seconds(boxes, range(32), "all_reduce", S, "hierarchical") == pytest.approx(expected)
    gathered = collective_seconds(boxes, range(32), "all_gather", S, "hierarchical")
    assert gathered == pytest.approx(inside + between / 2)
    assert collective_seconds(boxes, range(32), "reduce_scatter", S, "hierarchical") == pytest.approx(gathered)


def test_in_network_sums(built) -> None:  # type: ignore[no-untyped-def]
    from tests.cost.conftest import STAR

    summing = built(STAR + "  reduces: [switch]\n")
    expected = 2 * ALPHA + 9 / 8 * S * BETA
    assert collective_seconds(summing, range(8), "all_reduce", S, "in_network") == pytest.approx(expected)


def test_in_network_sums_over_nodes_go_up_trees(built) -> None:  # type: ignore[no-untyped-def]
    from tests.cost.conftest import BOXES

    summing = built(BOXES.replace("  links:", "  reduces: [switch]\n  links:").replace("nodes: 4", "nodes: 2"))
    # Two trees of two nodes: on each rail S / 8 / 2 up in one and down in the other, each way. The links inside take
    # S 9 / 8 at ten times the speed.
    expected = 2 * 2e-6 + 2 * 5e-6 + S / 8 / 2e9
    assert collective_seconds(summing, range(16), "all_reduce", S, "in_network") == pytest.approx(expected)


def test_in_network_sums_need_a_summing_switch_in_every_node(built) -> None:  # type: ignore[no-untyped-def]
    def node(switch: str, reduces: str) -> str:
        link = f"{{between: [device, {switch}], bandwidth: 20 GB/s, latency: 1 us, source: made up}}"
        card = "{from: device, bandwidth: 2 GB/s, latency: 2 us, source: made up}"
        switches = f"switches: [{switch}], reduces: [{reduces}], links: [{link}], uplinks: [{card}]"
        return f"  - {{count: 2, node: {{device: gpu, count: 8, {switches}}}}}\n"

    fabric = "fabric: {kind: switch, latency: 1 us, source: made up}\n"
    topology = built(f"nodes:\n{node('sums', 'sums')}{node('forwards', '')}{fabric}")
    found = [
        {each.name for each in Group(topology, ranks).algorithms("all_reduce")} for ranks in (range(16), range(32))
    ]
    assert ["in_network" in names for names in found] == [True, False]


def test_an_oversubscribed_leaf(leaves: Topology) -> None:
    # One hop of the ring crosses between the pairs, each way; of the exchange four messages do, 4 x S / 4.
    assert collective_seconds(leaves, range(4), "all_reduce", S, "ring") == pytest.approx(6 * (3e-6 + S / 4 / 10e9))
    assert collective_seconds(leaves, range(4), "all_to_all", S, "direct") == pytest.approx(3e-6 + S / 10e9)


@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 8])
def test_rings_meet_every_link_of_a_full_mesh_equally_often(size: int) -> None:
    cables = tuple((one, other, 1.0) for one in range(size) for other in range(one + 1, size))
    met: Counter[tuple[int, int]] = Counter()
    for order in rings_over(cables, size):
        assert sorted(order) == list(range(size))
        met.update(zip(order, (*order[1:], order[0]), strict=True))
    assert set(met.values()) == {1 if size % 2 else 2}
    assert len(met) == size * (size - 1)


HYBRID_CUBE = {(0, 1): 1, (0, 2): 1, (0, 3): 2, (0, 4): 2, (1, 2): 2, (1, 3): 1, (1, 5): 2, (2, 3): 2, (2, 6): 1}
HYBRID_CUBE |= {(3, 7): 1, (4, 5): 1, (4, 6): 1, (4, 7): 2, (5, 6): 2, (5, 7): 1, (6, 7): 2}


@pytest.mark.parametrize(("size", "rings"), [(2, 1), (3, 2), (4, 4), (5, 0), (6, 2), (7, 4), (8, 6)])
def test_rings_of_a_hybrid_cube_mesh(size: int, rings: int) -> None:
    """As many as published busbw / 22.5 GB/s of the first GPUs of a DGX-1 (vTrain); 5 have no ring over NVLink."""
    cables = tuple((one, other, 25e9 * width) for (one, other), width in HYBRID_CUBE.items() if other < size)
    found = rings_over(cables, size)
    assert len(found) == rings
    met = Counter(pair for order in found for pair in zip(order, (*order[1:], order[0]), strict=True))
    assert all(count <= HYBRID_CUBE[min(pair), max(pair)] for pair, count in met.items())
