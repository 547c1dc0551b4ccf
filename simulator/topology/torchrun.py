"""How torchrun starts one process a device of a cluster."""

from simulator.topology.topology import Topology


def on_nodes(topology: Topology) -> list[str]:
    """The torchrun commands that start one process a device: one for all nodes, or one for each run of equal nodes.

    Examples
    --------
    Two nodes of 4 devices and one of 8 give
    ``nodes 0 to 1: torchrun --nnodes 3 --node-rank INDEX --nproc-per-node 4 ...`` and
    ``node 2: torchrun --nnodes 3 --node-rank 2 --nproc-per-node 8 ...``.
    """
    count = topology.num_nodes
    groups = topology.layout.groups
    if len(groups) == 1:
        width = topology.devices_per_node
        return [f"torchrun --nnodes {count} --nproc-per-node {width} --rdzv-backend c10d --rdzv-endpoint HOST:29500"]
    # Ranks fill the nodes in the order of the file, so nodes that differ must say which of them they are.
    lines, first = [], 0
    for nodes, ranks in groups:
        which = f"nodes {first} to {first + nodes - 1}" if nodes > 1 else f"node {first}"
        index = "INDEX" if nodes > 1 else str(first)
        lines.append(
            f"{which}: torchrun --nnodes {count} --node-rank {index} --nproc-per-node {ranks} "
            "--master-addr NODE0 --master-port 29500"
        )
        first += nodes
    return lines
