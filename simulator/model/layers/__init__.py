"""Layer kinds, one file each: the mathematics, its costs, and the YAML keys that describe it."""

from simulator.model.layers.activation import Activation, ActivationSpec
from simulator.model.layers.add import Add, AddSpec
from simulator.model.layers.attention import Attention, AttentionSpec
from simulator.model.layers.base import Kernel, Layer, LayerSpec, Phase, Shape, ShapeError, count
from simulator.model.layers.batch_norm import BatchNorm, BatchNormSpec
from simulator.model.layers.bias import Bias
from simulator.model.layers.block_attention import BlockAttention, MergeBlocks
from simulator.model.layers.conv2d import Conv2d, Conv2dSpec
from simulator.model.layers.dropout import Dropout, DropoutSpec
from simulator.model.layers.embedding import Embedding, EmbeddingSpec
from simulator.model.layers.exchange import Exchange
from simulator.model.layers.expert_exchange import ExpertExchange
from simulator.model.layers.experts import Combine, Dispatch, GroupedLinear, Router
from simulator.model.layers.flatten import Flatten, FlattenSpec
from simulator.model.layers.glu import Glu, GluSpec
from simulator.model.layers.latent_attention import LatentAttention
from simulator.model.layers.linear import Linear, LinearSpec
from simulator.model.layers.loss import CrossEntropy, Loss, MeanSquaredError
from simulator.model.layers.norm import Norm, NormSpec
from simulator.model.layers.pool import Pool, PoolSpec
from simulator.model.layers.qkv import Qkv
from simulator.model.layers.slice import Slice
from simulator.model.layers.tokens import FirstToken, FirstTokens, Tokens
from simulator.model.layers.traced import Operation, Traced, TracedLoss, TracedSpec

AnyLayerSpec = (
    LinearSpec
    | Conv2dSpec
    | AttentionSpec
    | NormSpec
    | BatchNormSpec
    | ActivationSpec
    | GluSpec
    | EmbeddingSpec
    | AddSpec
    | PoolSpec
    | FlattenSpec
    | TracedSpec
    | DropoutSpec
)

__all__ = [
    "Activation",
    "Add",
    "AnyLayerSpec",
    "Attention",
    "BatchNorm",
    "Bias",
    "BlockAttention",
    "Combine",
    "Conv2d",
    "CrossEntropy",
    "Dispatch",
    "Dropout",
    "Embedding",
    "Exchange",
    "ExpertExchange",
    "FirstToken",
    "FirstTokens",
    "Flatten",
    "Glu",
    "GroupedLinear",
    "Kernel",
    "LatentAttention",
    "Layer",
    "LayerSpec",
    "Linear",
    "Loss",
    "MeanSquaredError",
    "MergeBlocks",
    "Norm",
    "Operation",
    "Phase",
    "Pool",
    "Qkv",
    "Router",
    "Shape",
    "ShapeError",
    "Slice",
    "Tokens",
    "Traced",
    "TracedLoss",
    "TracedSpec",
    "count",
]
