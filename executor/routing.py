"""Where the rows of a micro-batch go among expert-parallel ranks: as many to each as its experts were chosen.

The ranks tell each other first how many rows come for each expert, one small all-to-all a mixture and micro-batch, and
wait for it on the host, for the buffers' sizes depend on it. The prediction has neither: there all ranks get equally
many rows, or as ``load_imbalance`` says.
"""

from __future__ import annotations

import torch
from torch import Tensor

from executor.exchange import Exchanged
from executor.modules.experts import rows_of
from executor.transport import Transport
from simulator.errors import ExecutionError
from simulator.model.graph import LayerGraph, Node
from simulator.model.layers import Combine, Dispatch
from simulator.program.instructions import Stream


class Route:
    """The way of the rows of one mixture and micro-batch.

    Parameters
    ----------
    gates
        The router's weights of all experts (batch, sequence, experts).
    top_k
        Experts of each token.
    num_ranks
        Expert-parallel ranks.

    Attributes
    ----------
    sizes
        Rows of each local expert.
    """

    def __init__(self, transport: Transport, stream: Stream, gates: Tensor, top_k: int, num_ranks: int) -> None:
        self._batch, sequence, num_experts = gates.shape
        self._rows = sequence * top_k
        expert, _ = rows_of(gates, top_k)
        sent = torch.bincount(expert, minlength=num_experts).view(num_ranks, -1)
        received = torch.empty_like(sent)
        transport.all_to_all(stream, received, sent).wait()
        self._sent: list[int] = sent.sum(1).tolist()
        self._received: list[int] = received.sum(1).tolist()
        self.sizes: list[int] = received.sum(0).tolist()
        self._blocks: list[int] = received.flatten().tolist()

    def _order(self, device: torch.device) -> Tensor:
        """Return the rows expert by expert: they come rank by rank, each sorted by expert.

        Found again for each exchange, for it is as long as the rows are many, and not kept until backward.
        """
        ends = torch.tensor(self._blocks, device=device).cumsum(0)
        block = torch.searchsorted(ends, torch.arange(sum(self._blocks), device=device), right=True)
        return (block % len(self.sizes)).argsort(stable=True)

    def begin(self, transport: Transport, stream: Stream, tensor: Tensor, to_experts: bool) -> Exchanged:
        """Begin to send rows (batch, rows, hidden) to their experts, or those of the experts (1, rows, hidden) back."""
        rows = tensor.flatten(0, 1)
        if to_experts:
            received = rows.new_empty(sum(self._received), rows.shape[1])
            handle = transport.all_to_all(stream, received, rows.contiguous(), (self._received, self._sent))
            return [handle], lambda: received.index_select(0, self._order(rows.device)).unsqueeze(0)
        received = rows.new_empty(sum(self._sent), rows.shape[1])
        by_rank = torch.empty_like(rows).index_copy_(0, self._order(rows.device), rows)
        handle = transport.all_to_all(stream, received, by_rank, (self._sent, self._received))
        return [handle], lambda: received.view(self._batch, self._rows, -1)


def routed_by(graph: LayerGraph, node: Node) -> tuple[str, int]:
    """Return the tensor that says where the rows of an exchange go, and to how many experts each token."""
    neighbours = (graph.by_name.get(node.inputs[0]), *graph.consumers[node.name])
    for each in neighbours:
        if each and isinstance(each.layer, Dispatch | Combine):
            return graph.values[each.inputs[1]], each.layer.top_k
    raise ExecutionError(f"{node.name} stands neither behind a dispatch nor before a combine, so it cannot be run")
