"""Costs of layers: small cases by hand, and torch's own count of the products."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulator.model import Layer, Phase, Shape
from simulator.model.layers import (
    Activation,
    Add,
    Attention,
    BatchNorm,
    Bias,
    Combine,
    Conv2d,
    CrossEntropy,
    Dispatch,
    Dropout,
    Embedding,
    FirstToken,
    FirstTokens,
    Flatten,
    Glu,
    GroupedLinear,
    LatentAttention,
    Linear,
    MeanSquaredError,
    Norm,
    Pool,
    Qkv,
    ShapeError,
    Slice,
    Tokens,
)

F, I, W = Phase.FORWARD, Phase.INPUT_GRAD, Phase.WEIGHT_GRAD  # noqa: E741  (the letters of the instruction set)


def products(layer: Layer, phase: Phase, inputs: tuple[Shape, ...], batch: int) -> float:
    """FLOPs of the matrix products alone."""
    return sum(kernel.flops for kernel in layer.kernels(phase, inputs, batch) if kernel.kind == "matmul")


def test_linear() -> None:
    layer, inputs = Linear(in_features=3, out_features=5), ((7, 3),)
    assert layer.output_shape(inputs) == (7, 5)
    assert layer.num_parameters == 3 * 5 + 5
    # 2 samples of 7 tokens: 14 rows, 2 x 14 x 3 x 5 in each of the three products.
    assert [products(layer, phase, inputs, 2) for phase in (F, I, W)] == [420.0] * 3
    assert layer.bytes_moved(F, inputs, 2, 4) == 4 * (14 * 3 + 3 * 5 + 14 * 5)
    assert layer.bytes_moved(W, inputs, 2, 2) == 2 * (5 * 14 + 14 * 3 + 5 * 3 + 14 * 5)


def test_conv2d_is_a_product_over_unfolded_patches() -> None:
    layer, inputs = Conv2d(in_channels=2, out_channels=3, kernel=3, padding=1, bias=False), ((2, 4, 4),)
    pixels, patch = 4 * 4, 2 * 3 * 3
    assert layer.output_shape(inputs) == (3, 4, 4)
    assert layer.num_parameters == 3 * patch
    assert [products(layer, phase, inputs, 5) for phase in (F, I, W)] == [2 * 5 * pixels * patch * 3] * 3
    # Every input element stands in nine patches; those at the border are counted with the padding.
    assert layer.duplication(inputs) == 9.0
    unfolded = 5 * pixels * patch
    assert unfolded == 9 * 5 * 2 * 4 * 4
    moved = 5 * 2 * 4 * 4 + unfolded + unfolded + patch * 3 + 5 * pixels * 3
    assert layer.bytes_moved(F, inputs, 5, 4) == 4 * moved
    # The kernel that libraries run gathers patches on the chip.
    for phase in (F, I, W):
        (kernel,) = layer.kernels(phase, inputs, 5)
        assert kernel.elements == moved - 2 * unfolded


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 1, 0, 6), (3, 2, 1, 4), (2, 2, 0, 4), (8, 1, 0, 1)]
)
def test_conv2d_shapes(kernel: int, stride: int, padding: int, side: int) -> None:
    layer = Conv2d(in_channels=1, out_channels=1, kernel=kernel, stride=stride, padding=padding)
    assert layer.output_shape(((1, 8, 8),)) == (1, side, side)
    assert layer.duplication(((1, 8, 8),)) == side * side * kernel**2 / 64


def test_attention() -> None:
    layer, inputs = Attention(num_heads=2, num_kv_heads=2, head_dim=4), ((5, 24),)
    square = 2 * 2 * 5 * 5 * 4
    assert products(layer, F, inputs, 1) == 2 * square
    # Two products backward for each of the two forward: towards either factor.
    assert products(layer, I, inputs, 1) == 4 * square
    assert products(layer, W, inputs, 1) == 0
    # q, k, v: 5 x 8 each; the probabilities: 2 x 5 x 5; the mask, once for all samples.
    assert layer.extra_saved_bytes(inputs, 3, 4) == 4 * 3 * (3 * 5 * 8 + 2 * 5 * 5) + 5 * 5


def test_dropped_scores_are_kept_twice_with_a_mask_unless_attention_is_fused() -> None:
    layer, inputs = Attention(num_heads=2, num_kv_heads=2, head_dim=4), ((5, 24),)
    dropping = replace(layer, dropout=0.1)
    square = 3 * 2 * 5 * 5
    assert dropping.extra_saved_bytes(inputs, 3, 4) - layer.extra_saved_bytes(inputs, 3, 4) == (4 + 1) * square
    for phase, passes in ((F, 2.5), (I, 2.5), (W, 0)):
        moved = [each.bytes_moved(phase, inputs, 3, 2) for each in (dropping, layer)]
        assert moved[0] - moved[1] == 2 * passes * square
    assert layer.gradient_bytes_inside(inputs, 3, 2) == 2 * 2 * square
    fused, dropped = replace(layer, flash=True), replace(dropping, flash=True)
    assert fused.gradient_bytes_inside(inputs, 3, 2) == 0
    assert dropped.extra_saved_bytes(inputs, 3, 2) == fused.extra_saved_bytes(inputs, 3, 2)


def test_dropout_keeps_a_byte_an_element() -> None:
    assert Dropout(rate=0.1).extra_saved_bytes(((3, 4),), 2, 2) == 2 * 3 * 4


def test_flash_attention_keeps_its_sums_alone_and_computes_the_scores_again() -> None:
    layer, inputs = Attention(num_heads=4, num_kv_heads=2, head_dim=4, flash=True), ((5, 32),)
    (forward,), (backward,) = layer.kernels(F, inputs, 3), layer.kernels(I, inputs, 3)
    assert forward.kind == backward.kind == "attention"
    square = 2 * 3 * 4 * 5 * 5 * 4
    assert (forward.flops, forward.repeated_flops) == (2 * square, 0)
    assert (backward.flops, backward.repeated_flops) == (4 * square, square)
    # q and the output have 4 heads of 4, k and v 2; backward moves each and its gradient.
    assert forward.elements == 3 * 5 * (16 + 8 + 8 + 16)
    assert backward.elements == 2 * forward.elements
    assert layer.saves_input and layer.saves_output
    assert layer.extra_saved_bytes(inputs, 3, 2) == 4 * 3 * 4 * 5


def test_a_window_is_a_band_of_the_square_where_attention_is_fused() -> None:
    """16 queries of 4 heads see 4 keys of size 8 each; scores in memory are the whole square all the same."""
    sizes = {"num_heads": 4, "num_kv_heads": 4, "head_dim": 8}
    fused = Attention(**sizes, flash=True, window=4)
    (band,) = fused.kernels(Phase.FORWARD, ((16, 96),), 1)
    assert (band.flops, band.n, band.causal) == (2 * 2 * 4 * 16 * 4 * 8, 4, False)
    (square,) = Attention(**sizes, flash=True).kernels(Phase.FORWARD, ((16, 96),), 1)
    assert band.elements == square.elements
    assert Attention(**sizes, flash=True, window=16).kernels(Phase.FORWARD, ((16, 96),), 1) == (square,)
    assert Attention(**sizes, window=4).flops(Phase.FORWARD, ((16, 96),)) == Attention(**sizes).flops(
        Phase.FORWARD, ((16, 96),)
    )


def test_qkv() -> None:
    layer, inputs = Qkv(hidden=8, num_heads=4, num_kv_heads=2, head_dim=3, qk_norm=True, rope=True), ((5, 8),)
    assert layer.output_shape(inputs) == (5, (4 + 2 + 2) * 3)
    assert layer.parts("weight") == (12, 6, 6)
    assert layer.num_parameters == 24 * 8 + 24 + 2 * 3
    assert [products(layer, phase, inputs, 2) for phase in (F, I, W)] == [2 * 2 * 5 * 8 * 24] * 3
    # What the norms read, and one number for each of 4 + 2 heads; for the weights the gradients of q, k and v too.
    assert layer.extra_saved_bytes(inputs, 2, 4) == 2 * 5 * 6 * (3 * 4 + 4)
    assert layer.extra_weight_bytes(inputs, 2, 4) == 2 * 5 * 6 * (3 * 4 + 4) + 2 * 5 * 24 * 4


def test_experts_multiply_their_rows_wherever_they_go() -> None:
    layer = GroupedLinear(in_features=8, out_features=6, num_experts=4, num_local=4, load_imbalance=1.5)
    inputs = ((10, 8), (5, 4))
    assert layer.num_parameters == 4 * 6 * 8
    assert [products(layer, phase, inputs, 3) for phase in (F, I, W)] == [2 * 30 * 8 * 6] * 3
    (kernel,) = layer.kernels(F, inputs, 3)
    assert (kernel.m, kernel.n, kernel.k, kernel.batch) == (8, 6, 8, 4), "30 rows over 4 experts, rounded up"
    assert kernel.elements == 30 * (8 + 6) + 4 * 8 * 6
    # A rank that holds one of the four multiplies what comes, which is the busiest rank's share (tests/plan).
    (alone,) = replace(layer, num_local=1).kernels(F, inputs, 3)
    assert (alone.flops, alone.m, alone.batch) == (kernel.flops, 30, 1)


def test_latent_attention_has_wider_keys_than_values() -> None:
    layer = LatentAttention(num_heads=2, nope_dim=4, rope_dim=2, value_dim=3, flash=True)
    inputs = ((5, 2 * 6), (5, 2 * 7), (5, 2))
    scores, context = 2 * 2 * 5 * 5 * 6, 2 * 2 * 5 * 5 * 3
    _, forward = layer.kernels(F, inputs, 1)
    backward, _ = layer.kernels(I, inputs, 1)
    assert (forward.flops, backward.flops) == (scores + context, 2 * (scores + context))
    assert backward.repeated_flops == scores
    assert layer.extra_saved_bytes(inputs, 1, 2) == 2 * 5 * 2 * (6 + 6 + 3) + 4 * 5 * 2
    plain = replace(layer, flash=False)
    assert [products(plain, phase, inputs, 1) for phase in (F, I)] == [scores + context, 2 * (scores + context)]


@pytest.mark.parametrize(
    ("layer", "inputs", "output", "parameters", "moved"),
    [
        (Norm(features=4), ((3, 4),), (3, 4), 8, {F: 2 * 12, I: 3 * 12, W: 2 * 12}),
        (Activation(function="relu"), ((3, 4),), (3, 4), 0, {F: 2 * 12, I: 3 * 12, W: 0}),
        (Dropout(rate=0.1), ((3, 4),), (3, 4), 0, {F: 2.5 * 12, I: 2.5 * 12, W: 0}),
        (Add(), ((3, 4), (3, 4)), (3, 4), 0, {F: 3 * 12, I: 3 * 12, W: 0}),
        (Bias(features=4), ((3, 4),), (3, 4), 4, {F: 2 * 12, I: 0, W: 12}),
        (Embedding(vocab_size=9, hidden=4), ((3,),), (3, 4), 36, {F: 2 * 12, I: 0, W: 3 * 12 + 36}),
        (Embedding(vocab_size=9, hidden=4, positions=3), ((3,),), (3, 4), 36 + 12, {I: 0}),
        (Pool(kernel=2), ((1, 4, 5),), (1, 2, 2), 0, {F: 20 + 4, I: 20 + 4, W: 0}),
        (Flatten(), ((2, 3, 4),), (24,), 0, {F: 0, I: 0, W: 0}),
        (Norm(features=4, function="rms"), ((3, 4),), (3, 4), 4, {F: 2 * 12, I: 3 * 12, W: 2 * 12}),
        (Glu(), ((3, 8),), (3, 4), 0, {F: 3 * 12, I: 5 * 12, W: 0}),
        (Slice(start=1, stop=4), ((3, 8),), (3, 3), 0, {F: 0, I: 9 + 24, W: 0}),
        (Dispatch(top_k=2), ((3, 4), (3, 5)), (6, 4), 0, {F: 2 * 24, I: 24 + 12, W: 0}),
        (Combine(top_k=2), ((6, 4), (3, 5)), (3, 4), 0, {F: 24 + 12, I: 3 * 24, W: 0}),
        (BatchNorm(channels=2), ((2, 3, 4),), (2, 3, 4), 4, {F: 3 * 24, I: 3 * 24, W: 2 * 24}),
        (Tokens(hidden=2, sequence=13), ((2, 3, 4),), (13, 2), 2 + 26, {F: 4 * 24, I: 0, W: 24}),
        (FirstToken(), ((3, 4),), (4,), 0, {F: 2 * 4, I: 4 + 12, W: 0}),
        (FirstTokens(number=2), ((3, 4),), (2, 4), 0, {F: 2 * 8, I: 8 + 12, W: 0}),
        (Pool(kernel=3, stride=2, padding=1), ((1, 8, 8),), (1, 4, 4), 0, {F: 64 + 16, I: 64 + 16, W: 0}),
        (CrossEntropy(), ((3, 4),), (), 0, {F: 3 * 12, I: 2 * 12, W: 0}),
        (MeanSquaredError(), ((4,),), (), 0, {F: 2 * 4, I: 3 * 4, W: 0}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else "",
)
def test_memory_bound_layers(
    layer: Layer, inputs: tuple[Shape, ...], output: Shape, parameters: int, moved: dict[Phase, float]
) -> None:
    assert layer.output_shape(inputs) == output
    assert layer.num_parameters == parameters
    for phase, elements in moved.items():
        assert layer.bytes_moved(phase, inputs, 1, 1) == elements
        assert layer.bytes_moved(phase, inputs, 6, 4) >= 4 * elements
        assert products(layer, phase, inputs, 1) == 0


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (Linear(in_features=3, out_features=5), ((4,),)),
        (Conv2d(in_channels=3, out_channels=1, kernel=3), ((2, 8, 8),)),
        (Conv2d(in_channels=3, out_channels=1, kernel=9), ((3, 8, 8),)),
        (Conv2d(in_channels=3, out_channels=1, kernel=3), ((3, 8),)),
        (Attention(num_heads=2, num_kv_heads=2, head_dim=4), ((5, 6),)),
        (Norm(features=4), ((3, 5),)),
        (Add(), ((3, 4), (4, 3))),
        (Pool(kernel=5), ((1, 4, 4),)),
        (Embedding(vocab_size=9, hidden=4, positions=3), ((4,),)),
        (CrossEntropy(), ((),)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else "",
)
def test_shapes_that_do_not_fit(layer: Layer, inputs: tuple[Shape, ...]) -> None:
    with pytest.raises(ShapeError):
        layer.output_shape(inputs)


def torch_count(run: Callable[[], object]) -> int:
    counting = pytest.importorskip("torch.utils.flop_counter")
    with counting.FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Linear(in_features=12, out_features=20), (7, 12)),
        (Linear(in_features=12, out_features=20, bias=False), (12,)),
        (Conv2d(in_channels=3, out_channels=5, kernel=3, padding=1), (3, 8, 8)),
        (Conv2d(in_channels=4, out_channels=2, kernel=5, stride=2, bias=False), (4, 11, 9)),
        (Qkv(hidden=24, num_heads=4, num_kv_heads=2, head_dim=6), (10, 24)),
        (Attention(num_heads=4, num_kv_heads=4, head_dim=6), (10, 72)),
        (Attention(num_heads=4, num_kv_heads=2, head_dim=6, causal=False), (10, 48)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else "",
)
def test_products_as_torch_counts_them(layer: Layer, shape: Shape) -> None:
    torch = pytest.importorskip("torch")
    executor = pytest.importorskip("executor.modules")
    operations = pytest.importorskip("executor.modules.operations")
    batch = 3
    x = torch.randn(batch, *shape, requires_grad=True)
    parameters = {name: torch.randn(*size, requires_grad=True) for name, size in layer.parameters().items()}
    output = []
    forward = torch_count(lambda: output.append(executor.forward_of(layer)(operations.PLAIN, layer, parameters, x)))
    assert products(layer, F, (shape,), batch) == forward
    backward = torch_count(lambda: output[0].sum().backward())
    assert products(layer, I, (shape,), batch) + products(layer, W, (shape,), batch) == backward
