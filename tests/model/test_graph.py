"""Families and explicit lists: what they expand to and how large they are."""

import pytest

from simulator.load import load
from simulator.model import LayerGraph, Phase
from simulator.model.build import preset_graph
from simulator.model.flash import with_flash
from simulator.model.graph import order


def graph(model: str, *changes: str) -> LayerGraph:
    return load(model, "pcie-box", "single", ["topology.node.count=1", *changes]).graph


def test_one_neuron() -> None:
    neuron = graph("linear-regression")
    assert [node.name for node in neuron.nodes] == ["neuron", "loss"]
    assert neuron.num_parameters == 2
    assert neuron.flops(Phase.INPUT_GRAD) == neuron.loss.layer.flops(Phase.INPUT_GRAD, ((1,),))


def test_mlp_parameters() -> None:
    assert graph("mlp-tiny").num_parameters == (784 + 1) * 1024 + 3 * (1024 + 1) * 1024 + (1024 + 1) * 10


def test_gpt_parameters() -> None:
    layers, hidden, vocabulary, sequence = 4, 256, 1024, 128
    block = 12 * hidden**2 + 13 * hidden  # 4 h^2 + 4 h attention, 8 h^2 + 5 h MLP, two norms of 2 h
    embeddings = vocabulary * hidden + sequence * hidden
    assert graph("gpt-tiny").num_parameters == layers * block + embeddings + 2 * hidden + hidden * vocabulary


def test_gpt3_has_175_billion_parameters_and_6_flops_a_parameter_and_token() -> None:
    settings = ["topology.nodes=16"]
    gpt3 = load("gpt3-175b", "dgx-a100", "gpt3-tp8-pp8", [*settings, "plan.attention=math"]).graph
    assert gpt3.num_parameters == pytest.approx(175e9, rel=0.01)
    # Narayanan et al. 2021 (arXiv 2104.04473), equation 2, without its factor 4/3 for recomputation.
    layers, hidden, vocabulary, sequence = 96, 12288, 51200, 2048
    tokens = sequence
    expected = 72 * tokens * layers * hidden**2 * (1 + sequence / (6 * hidden) + vocabulary / (12 * layers * hidden))
    total = sum(
        kernel.flops
        for node in gpt3.nodes
        for phase in Phase
        for kernel in node.layer.kernels(phase, gpt3.input_shapes(node), 1)
        if kernel.kind == "matmul"
    )
    assert total == pytest.approx(expected, rel=1e-6)


# Narayanan et al. 2021 (arXiv 2104.04473), table 1: parameters in billions to what is printed.
SC21 = ["1.7b", "3.6b", "7.5b", "18.4b", "39.1b", "76.1b", "145.6b", "310.1b", "530b", "1t"]


@pytest.mark.parametrize("size", SC21)
def test_megatron_parameters_and_flops(size: str) -> None:
    """Equations 2 (parameters, exactly) and 3 (FLOPs of the products, without its 4/3 for recomputation)."""
    megatron = preset_graph(f"megatron-{size}")
    layers = sum(node.name.endswith(".attention") for node in megatron.nodes)
    sequence, hidden = megatron.shape("embedding")
    vocabulary = megatron.num_classes
    # Equation 2 leaves out the last norm; the position table and the biases are in it.
    parameters = 12 * layers * hidden**2 + 13 * layers * hidden + (vocabulary + sequence) * hidden
    assert megatron.num_parameters == parameters + 2 * hidden
    expected = 72 * sequence * layers * hidden**2
    expected += 12 * layers * hidden * sequence**2 + 6 * sequence * hidden * vocabulary
    total = sum(
        kernel.flops
        for node in megatron.nodes
        for phase in Phase
        for kernel in node.layer.kernels(phase, megatron.input_shapes(node), 1)
        if kernel.kind == "matmul"
    )
    assert total == expected


def test_cnn_shapes() -> None:
    cnn = graph("cnn-tiny")
    assert cnn.shape("conv0b") == (32, 32, 32)
    assert cnn.shape("pool2") == (128, 4, 4)
    assert cnn.shape("flatten") == (128 * 4 * 4,)
    assert cnn.shape("head") == (10,)
    assert cnn.shape("loss") == ()


def test_a_residual_edge() -> None:
    residual = graph("residual-list")
    assert [node.name for node in residual.consumers["stem_relu"]] == ["conv1", "add"]
    assert not residual.needs_input_grad(residual.nodes[0])
    assert all(residual.needs_input_grad(node) for node in residual.nodes[1:])


def test_order_keeps_what_is_written_where_it_can() -> None:
    assert order({"a": ("input",), "c": ("b",), "b": ("a",), "d": ("a",)}) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match=r"a -> b -> a|b -> a -> b"):
        order({"a": ("b",), "b": ("a",)})


def test_the_order_of_writing_does_not_matter() -> None:
    """A list may name a layer before it is written; the same graph comes out."""
    late = "{name: b, kind: linear, out_features: 3, inputs: [a]}"
    early = "{name: a, kind: linear, out_features: 5, inputs: [input]}"
    built = graph("residual-list", "model.input.shape=[7]", f"model.layers=[{late}, {early}]")
    assert [node.name for node in built.nodes] == ["a", "b", "loss"]
    assert built.num_parameters == 7 * 5 + 5 + 5 * 3 + 3


@pytest.mark.parametrize("preset", ["llama3-8b", "deepseek-v2-lite"])
def test_flash_attention_is_a_choice_that_changes_the_core_alone(preset: str) -> None:
    plain = preset_graph(preset)
    fused = with_flash(plain, True)
    assert [a.name for a, b in zip(plain.nodes, fused.nodes, strict=True) if a != b] == [
        node.name for node in plain.nodes if node.name.endswith(".attention")
    ]
    assert with_flash(fused, False) == plain
    for phase in (Phase.FORWARD, Phase.WEIGHT_GRAD):
        products = [
            sum(
                kernel.flops
                for node in graph.nodes
                for kernel in node.layer.kernels(phase, graph.input_shapes(node), 1)
                if kernel.kind != "memory"
            )
            for graph in (plain, fused)
        ]
        assert products[0] == products[1]
