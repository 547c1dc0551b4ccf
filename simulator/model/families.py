"""The small model families: a few sizes in, a layer graph out."""

from __future__ import annotations

from simulator.model.chain import Chain
from simulator.model.graph import LayerGraph
from simulator.model.layers import Activation, Conv2d, CrossEntropy, Flatten, Linear, MeanSquaredError, Pool


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
