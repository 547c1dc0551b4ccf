"""Model families: a few sizes in, a layer graph out."""

from __future__ import annotations

from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.model.layers import (
    Activation,
    Add,
    Attention,
    Conv2d,
    CrossEntropy,
    Embedding,
    Flatten,
    Layer,
    Linear,
    MeanSquaredError,
    Norm,
    Pool,
    Qkv,
    Shape,
)


class Chain:
    """Collects nodes one after the other; each reads the last one unless told otherwise."""

    def __init__(self, input_shape: Shape) -> None:
        self.input_shape = input_shape
        self.nodes: list[Node] = []
        self.last = INPUT

    def add(self, name: str, layer: Layer, *inputs: str, block: str = "") -> str:
        """Append a layer and return its name."""
        self.nodes.append(Node(name=name, layer=layer, inputs=inputs or (self.last,), block=block or name))
        self.last = name
        return name

    def graph(self, name: str, tokens_per_sample: int = 0) -> LayerGraph:
        """Return the finished graph."""
        return LayerGraph(
            name=name, input_shape=self.input_shape, nodes=tuple(self.nodes), tokens_per_sample=tokens_per_sample
        )


def linear_regression(name: str, in_features: int) -> LayerGraph:
    """Return one neuron, a = w x + b, with the squared error: the smallest thing that can be trained."""
    chain = Chain((in_features,))
    chain.add("neuron", Linear(in_features=in_features, out_features=1))
    chain.add("loss", MeanSquaredError())
    return chain.graph(name)


def mlp(name: str, in_features: int, hidden_sizes: list[int], num_classes: int) -> LayerGraph:
    """Return dense layers with ReLU between them and a cross entropy at the end."""
    chain = Chain((in_features,))
    width = in_features
    for index, size in enumerate(hidden_sizes):
        block = f"hidden{index}"
        chain.add(f"fc{index}", Linear(in_features=width, out_features=size), block=block)
        chain.add(f"relu{index}", Activation(function="relu"), block=block)
        width = size
    chain.add("head", Linear(in_features=width, out_features=num_classes))
    chain.add("loss", CrossEntropy(), block="head")
    return chain.graph(name)


def cnn(
    name: str, image_size: int, in_channels: int, channels: list[int], hidden_size: int, num_classes: int
) -> LayerGraph:
    """Return units of two 3x3 convolutions and a 2x2 max pool, then a two-layer classifier (VGG's shape)."""
    chain = Chain((in_channels, image_size, image_size))
    width, side = in_channels, image_size
    for index, size in enumerate(channels):
        block = f"unit{index}"
        for half in ("a", "b"):
            conv = Conv2d(in_channels=width, out_channels=size, kernel=3, padding=1)
            chain.add(f"conv{index}{half}", conv, block=block)
            chain.add(f"relu{index}{half}", Activation(function="relu"), block=block)
            width = size
        chain.add(f"pool{index}", Pool(kernel=2), block=block)
        side //= 2
    chain.add("flatten", Flatten(), block="classifier")
    chain.add("fc", Linear(in_features=width * side * side, out_features=hidden_size), block="classifier")
    chain.add("relu", Activation(function="relu"), block="classifier")
    chain.add("head", Linear(in_features=hidden_size, out_features=num_classes), block="classifier")
    chain.add("loss", CrossEntropy(), block="classifier")
    return chain.graph(name)


def gpt(
    name: str,
    *,
    num_hidden_layers: int,
    hidden_size: int,
    num_attention_heads: int,
    vocab_size: int,
    sequence_length: int,
    intermediate_size: int = 0,
) -> LayerGraph:
    """Return a GPT: learned positions, pre-norm blocks of attention and a GELU MLP, an untied output projection."""
    chain = Chain((sequence_length,))
    inner = intermediate_size or 4 * hidden_size
    stream = chain.add("embedding", Embedding(vocab_size=vocab_size, hidden=hidden_size, positions=sequence_length))
    heads, size = num_attention_heads, hidden_size // num_attention_heads
    qkv = Qkv(hidden=hidden_size, num_heads=heads, num_kv_heads=heads, head_dim=size)
    attention = Attention(num_heads=heads, num_kv_heads=heads, head_dim=size)
    for index in range(num_hidden_layers):
        block = f"block{index}"
        chain.add(f"{block}.norm1", Norm(features=hidden_size), stream, block=block)
        chain.add(f"{block}.qkv", qkv, block=block)
        chain.add(f"{block}.attention", attention, block=block)
        attended = chain.add(f"{block}.out", Linear(in_features=heads * size, out_features=hidden_size), block=block)
        stream = chain.add(f"{block}.add1", Add(), stream, attended, block=block)
        chain.add(f"{block}.norm2", Norm(features=hidden_size), block=block)
        chain.add(f"{block}.fc1", Linear(in_features=hidden_size, out_features=inner), block=block)
        chain.add(f"{block}.gelu", Activation(function="gelu"), block=block)
        widened = chain.add(f"{block}.fc2", Linear(in_features=inner, out_features=hidden_size), block=block)
        stream = chain.add(f"{block}.add2", Add(), stream, widened, block=block)
    chain.add("norm", Norm(features=hidden_size), block="head")
    chain.add("head", Linear(in_features=hidden_size, out_features=vocab_size, bias=False))
    chain.add("loss", CrossEntropy(), block="head")
    return chain.graph(name, tokens_per_sample=sequence_length)
