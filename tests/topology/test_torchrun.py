"""Which torchrun commands start one process a device."""

from collections.abc import Callable

from simulator.topology import Topology
from simulator.topology.torchrun import on_nodes

Build = Callable[..., Topology]


def test_equal_nodes_share_a_line(shipped: Build) -> None:
    (line,) = on_nodes(shipped("dgx-a100", {"nodes": "2"}))
    assert line.startswith("torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d")


def test_unequal_nodes_say_which_they_are(shipped: Build) -> None:
    lines = on_nodes(shipped("mixed-a100-h100", {"nodes.1.count": "1", "nodes.1.node.count": "4"}))
    assert [line.partition(" --master")[0] for line in lines] == [
        "nodes 0 to 1: torchrun --nnodes 3 --node-rank INDEX --nproc-per-node 8",
        "node 2: torchrun --nnodes 3 --node-rank 2 --nproc-per-node 4",
    ]
