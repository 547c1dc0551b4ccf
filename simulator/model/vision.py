"""Models of images: vision transformers and residual networks."""

from __future__ import annotations

from typing import Literal

from simulator.errors import Problems
from simulator.inputs.fields import Name, PositiveInt, StrictModel
from simulator.model.chain import Chain
from simulator.model.graph import LayerGraph
from simulator.model.layers import (
    Activation,
    Add,
    BatchNorm,
    Conv2d,
    CrossEntropy,
    FirstToken,
    Flatten,
    Linear,
    Norm,
    Pool,
    Tokens,
)
from simulator.model.transformer import add_block
from simulator.model.transformer_sizes import Heads, Transformer

STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Bottleneck blocks of each stage (He et al. 2016, arXiv 1512.03385, table 1)."""

EXPANSION = 4
"""Channels behind a bottleneck over those inside it (the same paper, section 4.1)."""


class VitSchema(StrictModel):
    """A vision transformer: patches and a class token through GPT's blocks without a mask (arXiv 2010.11929)."""

    name: Name
    description: str = ""
    family: Literal["vit"]
    image_size: PositiveInt = 224
    patch_size: PositiveInt = 16
    num_hidden_layers: PositiveInt
    hidden_size: PositiveInt
    num_attention_heads: PositiveInt
    intermediate_size: PositiveInt | None = None
    num_classes: PositiveInt = 1000
    flash: bool = False

    def check(self, problems: Problems) -> None:
        """Report sizes that do not divide."""
        for key, divisor, whole_key, whole in (
            ("patch_size", self.patch_size, "image_size", self.image_size),
            ("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size),
        ):
            if whole % divisor:
                below = whole - whole % divisor
                near = " or ".join(str(size) for size in (below, below + divisor) if size)
                message = f"{divisor} does not divide {whole_key} {whole} (remainder {whole % divisor})"
                problems.add(f"model.{key}", message, f"nearest {whole_key}: {near}")


class ResnetSchema(StrictModel):
    """A residual network of bottleneck blocks."""

    name: Name
    description: str = ""
    family: Literal["resnet"]
    depth: Literal[50, 101, 152]
    image_size: PositiveInt = 224
    width: PositiveInt = 64
    num_classes: PositiveInt = 1000

    def check(self, problems: Problems) -> None:
        """Report an image that nothing is left of."""
        if self.image_size < 32:
            message = f"{self.image_size} halved five times leaves no pixel"
            problems.add("model.image_size", message, "use 32 or more")


def vit(spec: VitSchema) -> LayerGraph:
    """Return patches as a strided convolution, tokens, blocks, and a classifier on the class token."""
    side, hidden, heads = spec.image_size // spec.patch_size, spec.hidden_size, spec.num_attention_heads
    norm = Norm(features=hidden)
    sizes = Transformer(
        num_layers=spec.num_hidden_layers,
        hidden=hidden,
        inner=spec.intermediate_size or 4 * hidden,
        vocab_size=spec.num_classes,
        sequence=side * side + 1,
        attention=Heads(num_heads=heads, num_kv_heads=heads, head_dim=hidden // heads),
        norm=norm,
        causal=False,
        flash=spec.flash,
    )
    chain = Chain((3, spec.image_size, spec.image_size))
    patches = Conv2d(in_channels=3, out_channels=hidden, kernel=spec.patch_size, stride=spec.patch_size)
    chain.add("patches", patches, block="embedding")
    chain.add("tokens", Tokens(hidden=hidden, sequence=sizes.sequence), block="embedding")
    for index in range(sizes.num_layers):
        add_block(chain, sizes, index)
    chain.add("norm", norm, block="head")
    chain.add("class", FirstToken(), block="head")
    chain.add("head", Linear(in_features=hidden, out_features=spec.num_classes))
    chain.add("loss", CrossEntropy(), block="head")
    return chain.graph(spec.name)


def resnet(spec: ResnetSchema) -> LayerGraph:
    """Return stem, four stages of bottlenecks, global average and classifier.

    The 3 x 3 convolution of a stage's first block has the stride ("v1.5", as torchvision and NVIDIA train it).
    """
    chain = Chain((3, spec.image_size, spec.image_size))
    _convolution(chain, "stem", 3, spec.width, 7, 2, "stem")
    chain.add("stem.pool", Pool(kernel=3, stride=2, padding=1), block="stem")
    channels = spec.width
    for stage, blocks in enumerate(STAGES[spec.depth]):
        inner = spec.width * 2**stage
        for index in range(blocks):
            _bottleneck(chain, f"stage{stage}.block{index}", channels, inner, 2 if stage and not index else 1)
            channels = EXPANSION * inner
    side = chain.graph("body").shape(chain.last)[1]
    chain.add("average", Pool(kernel=side, function="average"), block="head")
    chain.add("flatten", Flatten(), block="head")
    chain.add("head", Linear(in_features=channels, out_features=spec.num_classes))
    chain.add("loss", CrossEntropy(), block="head")
    return chain.graph(spec.name)


def _bottleneck(chain: Chain, block: str, channels: int, inner: int, stride: int) -> None:
    """Append 1 x 1, 3 x 3 and 1 x 1 convolutions and the way around them, which has one too where the shape changes."""
    stream = chain.last
    _convolution(chain, f"{block}.conv1", channels, inner, 1, 1, block)
    _convolution(chain, f"{block}.conv2", inner, inner, 3, stride, block)
    out = EXPANSION * inner
    made = _convolution(chain, f"{block}.conv3", inner, out, 1, 1, block, activated=False)
    if stride > 1 or channels != out:
        chain.last = stream
        stream = _convolution(chain, f"{block}.around", channels, out, 1, stride, block, activated=False)
    chain.add(f"{block}.add", Add(), stream, made, block=block)
    chain.add(f"{block}.relu", Activation(function="relu"), block=block)


def _convolution(
    chain: Chain, name: str, into: int, out: int, kernel: int, stride: int, block: str, *, activated: bool = True
) -> str:
    """Append a convolution without bias, its batch norm and, if asked for, a ReLU; return the last one's name."""
    conv = Conv2d(in_channels=into, out_channels=out, kernel=kernel, stride=stride, padding=kernel // 2, bias=False)
    chain.add(name, conv, block=block)
    last = chain.add(f"{name}.norm", BatchNorm(channels=out), block=block)
    return chain.add(f"{name}.relu", Activation(function="relu"), block=block) if activated else last
