"""A mixture of experts as torch computes it: real routing, no token dropped, shapes that do not depend on it.

Every token visits exactly ``top_k`` experts, so there are always tokens x top_k rows; which expert has how many is read
on the host, as the loop over the experts needs it. Router and combine are differentiated through the weights of the
chosen experts, as in Mixtral. The order of the rows follows from the router's output alone, so that each layer finds it
again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from executor.modules.operations import Operations
from simulator.model.layers import Combine, Dispatch, Router

Parameters = Mapping[str, Tensor]


def router(ops: Operations, layer: Router, parameters: Parameters, x_BSH: Tensor) -> Tensor:
    """Weights of the chosen experts, zeros for the others."""
    logits_BSE = ops.linear(x_BSH, parameters["weight"], None).float()
    scores_BSE = logits_BSE.softmax(-1) if layer.scoring == "softmax" else logits_BSE.sigmoid()
    best_BSK, chosen_BSK = scores_BSE.topk(layer.top_k, -1)
    weights_BSK = best_BSK / best_BSK.sum(-1, keepdim=True)
    return torch.zeros_like(scores_BSE).scatter(-1, chosen_BSK, weights_BSK).to(x_BSH.dtype)


def dispatch(ops: Operations, layer: Dispatch, parameters: Parameters, x_BSH: Tensor, gates_BSE: Tensor) -> Tensor:
    """A row for each token and each of its experts, sorted by expert."""
    _, token = rows_of(gates_BSE, layer.top_k)
    return x_BSH.flatten(0, 1).index_select(0, token).view(len(x_BSH), -1, x_BSH.shape[-1])


def grouped_linear(
    ops: Operations,
    layer: Any,
    parameters: Parameters,
    rows_BRH: Tensor,
    gates_BSE: Tensor,
    sizes: list[int] | None = None,
) -> Tensor:
    """Each expert's product over its rows; ``sizes`` of the local ones are told where others' tokens come too."""
    rows = rows_BRH.flatten(0, 1)
    if sizes is None and layer.num_local < layer.num_experts:
        # Nothing has been routed here, as when layers are timed: as many rows for each.
        sizes = [len(part) for part in rows.tensor_split(layer.num_local)]
    if sizes is None:
        expert, _ = rows_of(gates_BSE, rows_BRH.shape[1] // gates_BSE.shape[1])
        sizes = torch.bincount(expert, minlength=layer.num_experts).tolist()
    made = ops.grouped_linear(rows, parameters["expert_weight"], sizes)
    return made.view(*rows_BRH.shape[:2], layer.out_features)


def combine(ops: Operations, layer: Combine, parameters: Parameters, rows_BRH: Tensor, gates_BSE: Tensor) -> Tensor:
    """The weighted sum of each token's rows."""
    result: Tensor = _Combine.apply(rows_BRH, gates_BSE, layer.top_k)
    return result


class _Combine(torch.autograd.Function):
    """One fused kernel: autograd by itself would keep the weighted rows beside the rows."""

    @staticmethod
    def forward(ctx: Any, rows_BRH: Tensor, gates_BSE: Tensor, top_k: int) -> Tensor:
        expert, token = rows_of(gates_BSE, top_k)
        ctx.save_for_backward(rows_BRH, gates_BSE, expert, token)
        weights = gates_BSE.flatten(0, 1)[token, expert]
        weighted = rows_BRH.flatten(0, 1) * weights.unsqueeze(-1)
        sums = weighted.new_zeros(gates_BSE.shape[0] * gates_BSE.shape[1], rows_BRH.shape[-1])
        return sums.index_add_(0, token, weighted).view(*gates_BSE.shape[:2], -1)

    @staticmethod
    def backward(ctx: Any, gradient_BSH: Tensor) -> tuple[Tensor, Tensor, None]:
        rows_BRH, gates_BSE, expert, token = ctx.saved_tensors
        copied = gradient_BSH.flatten(0, 1).index_select(0, token)
        of_gates = torch.zeros_like(gates_BSE.flatten(0, 1))
        of_gates[token, expert] = (copied * rows_BRH.flatten(0, 1)).sum(-1)
        weights = gates_BSE.flatten(0, 1)[token, expert]
        return (copied * weights.unsqueeze(-1)).view_as(rows_BRH), of_gates.view_as(gates_BSE), None


def rows_of(gates_BSE: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the expert and the token of each row, sorted by expert."""
    with torch.no_grad():
        expert, order = gates_BSE.topk(top_k, -1).indices.flatten().sort(stable=True)
    return expert, order // top_k


FORWARD: dict[str, Callable[..., Tensor]] = {
    "router": router,
    "dispatch": dispatch,
    "grouped_linear": grouped_linear,
    "combine": combine,
}
