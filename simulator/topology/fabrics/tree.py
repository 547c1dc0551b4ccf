"""Leaves, spines above them, and cores above pods: fat trees and rail-optimised fabrics."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil

from simulator.topology.fabrics.base import Columns, Index, Landmark
from simulator.topology.links import Ends, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Messages go up as far as they must and down again.

    Parameters
    ----------
    num_nodes, nodes_per_leaf : int
        Consecutive nodes share a leaf; with rails, each rail's cards of them do.
    rails : int
        Leaves that each node plugs into; card c goes to rail c.
    leaves_per_pod : int
        Leaves under the same spines; where they are all leaves, there are no cores.
    spines, cores : int
        Parallel ways from a leaf up, and from each spine of a pod up; 1 where they are one trunk of their capacity.
    trunk, pod_trunk : float
        Bytes/s, per direction: of all ways out of a leaf together, and out of a pod.
    latency : float
        Seconds that each switch adds, with the cable behind it.
    hashed : bool
        Whether spines and cores carry numbers.
    proxies : bool
        Whether messages change rails inside the sender's node.

    Notes
    -----
    Leiserson, Fat-Trees (IEEE Trans. Computers 1985). Rails: NVIDIA DGX SuperPOD reference architecture; PXN: NVIDIA
    developer blog, Doubling all2all performance with NCCL 2.12.
    """

    num_nodes: int
    nodes_per_leaf: int
    rails: int
    leaves_per_pod: int
    spines: int
    cores: int
    trunk: float
    pod_trunk: float
    latency: float
    hashed: bool
    proxies: bool
    direct = False

    @property
    def num_leaves(self) -> int:
        """Leaves of all rails."""
        return ceil(self.num_nodes / self.nodes_per_leaf) * self.rails

    @property
    def num_pods(self) -> int:
        """Pods, 1 without cores."""
        return ceil(self.num_leaves / self.leaves_per_pod)

    def sections(self) -> list[Section]:
        """Leaf up, leaf down, pod up, pod down; a single leaf needs no spine, a single pod no core."""
        up = self.num_leaves * self.spines * (self.num_leaves > 1)
        over = self.num_pods * self.spines * self.cores * (self.num_pods > 1)
        trunk = [(self.trunk / self.spines, self.latency)]
        pod_trunk = [(self.pod_trunk / self.spines / self.cores, self.latency)]
        return [
            Section(up, trunk, partial(self._ends, False)),
            Section(up, trunk, partial(self._ends, True)),
            Section(over, pod_trunk, partial(self._pod_ends, False)),
            Section(over, pod_trunk, partial(self._pod_ends, True)),
        ]

    def _leaf(self, index: int) -> str:
        if self.rails == 1:
            return f"leaf{index}"
        pod, rail = divmod(index, self.rails)
        return f"pod{pod}/rail{rail}"

    def _spine(self, pod: int, way: int) -> str:
        return f"pod{pod}/" * (self.num_pods > 1) + "spine" + str(way) * self.hashed

    def _ends(self, down: bool, index: int) -> Ends:
        leaf, way = divmod(index, self.spines)
        ends = self._leaf(leaf), self._spine(leaf // self.leaves_per_pod, way)
        return Ends(*reversed(ends)) if down else Ends(*ends)

    def _pod_ends(self, down: bool, index: int) -> Ends:
        above, core = divmod(index, self.cores)
        pod, way = divmod(above, self.spines)
        ends = self._spine(pod, way), "core" + f"{way}.{core}" * self.hashed
        return Ends(*reversed(ends)) if down else Ends(*ends)

    def attach(self, node: int, card: int) -> str:
        """The leaf that a card plugs into."""
        return self._leaf(self._leaf_of(node, card))

    def _leaf_of(self, node: Index, card: Index) -> Index:
        return node // self.nodes_per_leaf * self.rails + card % self.rails

    def columns(self, src: Index, src_card: Index, dst: Index, dst_card: Index, draw: Index) -> Columns:
        """Up to a spine if the leaves differ, up to a core if the pods do, and down on the other side."""
        leaf, goal = self._leaf_of(src, src_card), self._leaf_of(dst, dst_card)
        pod, goal_pod = leaf // self.leaves_per_pod, goal // self.leaves_per_pod
        way, core = draw % self.spines, draw // self.spines % self.cores
        wide, over = self.num_leaves * self.spines, self.num_pods * self.spines * self.cores
        apart, far = leaf != goal, pod != goal_pod
        return [
            (leaf * self.spines + way, apart),
            (2 * wide + (pod * self.spines + way) * self.cores + core, far),
            (2 * wide + over + (goal_pod * self.spines + way) * self.cores + core, far),
            (wide + goal * self.spines + way, apart),
        ]

    def bisection(self) -> float:
        """Trunks of half of the pods, else of half of the leaves."""
        leaves = self.num_pods // 2 * self.leaves_per_pod * self.trunk
        if self.num_pods > 1:
            return min(self.num_pods // 2 * self.pod_trunk, leaves)
        units = self.num_leaves // self.rails
        return units // 2 * self.rails * self.trunk if units > 1 else float("inf")

    def landmarks(self) -> Iterator[Landmark]:
        """Same leaf, other leaf or rail, other pod."""
        rails, near = self.rails > 1, self.nodes_per_leaf
        if min(near, self.num_nodes) > 1:
            yield Landmark("same rail" if rails else "same leaf", 1)
            if rails:
                yield Landmark("other rail", 1, 1)
        if self.num_nodes > near:
            yield Landmark("other pod" if rails else "other leaf", near)
        above = self.leaves_per_pod // self.rails * near
        if self.num_pods > 1 and self.num_nodes > above:
            yield Landmark("other pod", above)
