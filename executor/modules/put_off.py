"""Autograd functions that leave the gradients of weights in a queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional

if TYPE_CHECKING:
    from executor.modules.operations import Deferred, View


def _add_to(parameter: Tensor, gradient: Tensor) -> None:
    """Accumulate a gradient as autograd would."""
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad.add_(gradient)


def _saved(ctx: Any) -> list[Any]:
    """Return what forward has saved, without history: it ends in the segment's inputs, and would keep them until W."""
    return [None if tensor is None else tensor.detach() for tensor in ctx.saved_tensors]


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operations: Deferred, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.operations, ctx.weight, ctx.bias = operations, weight, bias
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = _saved(ctx)
        parameter, bias = ctx.weight, ctx.bias

        def later() -> None:
            rows = gradient.flatten(0, -2)
            _add_to(parameter, rows.t() @ x.flatten(0, -2))
            if bias is not None:
                _add_to(bias, rows.sum(0))

        ctx.operations.queue.append(later)
        return None, gradient @ weight if ctx.needs_input_grad[1] else None, None, None


class Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, operations: Deferred, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.operations, ctx.weight, ctx.bias, ctx.stride, ctx.padding = operations, weight, bias, stride, padding
        return functional.conv2d(x, weight, bias, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = _saved(ctx)
        parameter, bias, stride, padding = ctx.weight, ctx.bias, ctx.stride, ctx.padding

        def grads(weight: Tensor, wanted: list[bool]) -> list[Tensor | None]:
            sides = [stride, stride], [padding, padding], [1, 1]
            sizes = [weight.shape[0]] if bias is not None else None
            found: list[Tensor | None] = torch.ops.aten.convolution_backward(
                gradient, x, weight, sizes, *sides, False, [0, 0], 1, wanted
            )
            return found

        def later() -> None:
            # Of the weight only the shape is read; its values may have been let go of.
            shape_alone = gradient.new_empty(1).expand(parameter.shape)
            _, of_weight, of_bias = grads(shape_alone, [False, True, bias is not None])
            assert of_weight is not None
            _add_to(parameter, of_weight)
            if bias is not None and of_bias is not None:
                _add_to(bias, of_bias)

        ctx.operations.queue.append(later)
        of_input = grads(weight, [True, False, False])[0] if ctx.needs_input_grad[1] else None
        return None, of_input, None, None, None, None


class Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operations: Deferred, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        normal, mean, scale = torch.native_layer_norm(x, weight.shape, weight, bias, 1e-5)
        ctx.save_for_backward(x, mean, scale, weight, bias)
        ctx.operations, ctx.parameters = operations, (weight, bias)
        return normal

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, weight, bias = _saved(ctx)
        parameters = [parameter for parameter in ctx.parameters if parameter is not None]

        def grads(weight: Tensor, wanted: list[bool]) -> list[Tensor]:
            found: list[Tensor] = torch.ops.aten.native_layer_norm_backward(
                gradient, x, weight.shape, mean, scale, weight, bias, wanted
            )
            return found

        def later() -> None:
            # As with a convolution: only the shape is read.
            shape_alone = torch.empty_like(parameters[0])
            wanted = [False, True, bias is not None]
            for parameter, value in zip(parameters, grads(shape_alone, wanted)[1:], strict=False):
                _add_to(parameter, value)

        ctx.operations.queue.append(later)
        return None, grads(weight, [True, False, False])[0] if ctx.needs_input_grad[1] else None, None, None


class Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operations: Deferred, ids: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.operations, ctx.weight = operations, weight
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        (ids,) = _saved(ctx)
        weight = ctx.weight
        rows = weight.shape[0]
        ctx.operations.queue.append(
            lambda: _add_to(weight, torch.ops.aten.embedding_dense_backward(gradient, ids, rows, -1, False))
        )
        return None, None, None


class Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operations: Deferred, x: Tensor, parameter: Tensor, view: View) -> Tensor:
        ctx.operations, ctx.parameter, ctx.view = operations, parameter, view
        return x + view(parameter)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parameter, view = ctx.parameter, ctx.view

        def later() -> None:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            part = view(parameter.grad)
            part.add_(gradient.sum_to_size(part.shape))

        ctx.operations.queue.append(later)
        return None, gradient if ctx.needs_input_grad[1] else None, None, None


class BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, operations: Deferred, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        normal, mean, scale = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, 1e-5)
        ctx.save_for_backward(x, mean, scale, weight)
        ctx.operations, ctx.parameters = operations, (weight, bias)
        return normal

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, weight = _saved(ctx)
        parameters = ctx.parameters

        def grads(weight: Tensor, wanted: list[bool]) -> list[Tensor]:
            found: list[Tensor] = torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, None, None, mean, scale, True, 1e-5, wanted
            )
            return found

        def later() -> None:
            for parameter, value in zip(parameters, grads(parameters[0], [False, True, True])[1:], strict=True):
                _add_to(parameter, value)

        ctx.operations.queue.append(later)
        return None, grads(weight, [True, False, False])[0] if ctx.needs_input_grad[1] else None, None, None


class RmsNorm(torch.autograd.Function):
    """One fused kernel in either form: keeps its input and a number a row, as the layer says."""

    @staticmethod
    def forward(ctx: Any, operations: Deferred | None, x: Tensor, weight: Tensor) -> Tensor:
        """Normalise in fp32, scale in the weight's dtype."""
        scale = (x.float().square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        ctx.save_for_backward(x, scale, weight)
        ctx.operations, ctx.weight = operations, weight
        return (x * scale).to(x.dtype) * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the input's gradient, and the weight's unless it is put off."""
        x, scale, weight = _saved(ctx)

        def of_weight() -> Tensor:
            return (gradient * (x * scale)).sum_to_size(weight.shape).to(weight.dtype)

        inner = (gradient * weight).float()
        normal = x * scale
        of_input = ((inner - normal * (inner * normal).mean(-1, keepdim=True)) * scale).to(x.dtype)
        return None, of_input, _now_or_later(ctx, of_weight)


class GroupedLinear(torch.autograd.Function):
    """A loop over the experts, each on its own rows."""

    @staticmethod
    def forward(ctx: Any, operations: Deferred | None, rows: Tensor, weight: Tensor, sizes: list[int]) -> Tensor:
        """Multiply."""
        ctx.save_for_backward(rows, weight)
        ctx.operations, ctx.weight, ctx.sizes = operations, weight, sizes
        made = [part @ matrix.t() for part, matrix in zip(rows.split(sizes), weight, strict=True)]
        return torch.cat(made)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the rows' gradients, and the weights' unless they are put off."""
        rows, weight = _saved(ctx)
        sizes = ctx.sizes

        def of_weight() -> Tensor:
            pairs = zip(gradient.split(sizes), rows.split(sizes), strict=True)
            return torch.stack([left.t() @ right for left, right in pairs])

        pairs = zip(gradient.split(sizes), weight, strict=True)
        of_rows = torch.cat([part @ matrix for part, matrix in pairs]) if ctx.needs_input_grad[1] else None
        return None, of_rows, _now_or_later(ctx, of_weight), None


def _now_or_later(ctx: Any, of_weight: Callable[[], Tensor]) -> Tensor | None:
    """Return a weight's gradient, or leave it in the queue of deferred operations."""
    if ctx.operations is None:
        return of_weight()
    parameter = ctx.weight
    ctx.operations.queue.append(lambda: _add_to(parameter, of_weight()))
    return None


class Beginning(torch.autograd.Function):
    """A tensor with a history of its own that does not keep its values, as a leaf would."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, x: Tensor) -> Tensor:
        """Return the tensor."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        """Return nothing: gradients are taken where they arrive here."""
        return None, None


class Whole(torch.autograd.Function):
    """Any function of tensors and weights; its own graph stays until the weights' gradient is computed."""

    @staticmethod
    def forward(ctx: Any, operations: Deferred, function: Callable[..., Tensor], reads: int, *given: Tensor) -> Tensor:
        """Run the function with a graph of its own."""
        ctx.operations, ctx.weights = operations, given[reads:]
        ctx.wanted = ctx.needs_input_grad[3 : 3 + reads]
        anchor = torch.zeros((), requires_grad=True)
        with torch.enable_grad():
            begun = [
                Beginning.apply(anchor, each.detach()) if wanted else each.detach()
                for each, wanted in zip(given, ctx.wanted, strict=False)
            ]
            ctx.own = [weight.detach().requires_grad_() for weight in ctx.weights]
            output = function(*begun, *ctx.own)
        # Of tensors the history alone: whoever needs the values keeps them.
        ctx.begun = [get_gradient_edge(each) for each, wanted in zip(begun, ctx.wanted, strict=True) if wanted]
        ctx.ended = get_gradient_edge(output)
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of what was read; leave those of the weights in the queue."""
        ended, begun, own, weights = ctx.ended, ctx.begun, ctx.own, ctx.weights
        del ctx.ended, ctx.begun, ctx.own, ctx.weights
        now = own if ctx.operations.weights_leave else []
        wanted, options = [*begun, *now], {"retain_graph": True, "allow_unused": True}
        made = torch.autograd.grad(ended, wanted, gradient, **options) if wanted else ()
        found, known = iter(made), made[len(begun) :]

        def later() -> None:
            of_weights = known or torch.autograd.grad(ended, own, gradient, allow_unused=True)
            for weight, each in zip(weights, of_weights, strict=True):
                if each is not None:
                    _add_to(weight, each)

        ctx.operations.queue.append(later)
        of_reads = [next(found) if wanted else None for wanted in ctx.wanted]
        return None, None, None, *of_reads, *([None] * len(weights))
