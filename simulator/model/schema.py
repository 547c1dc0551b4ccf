"""YAML keys of a model file: a family with its sizes, or an explicit list of layers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from simulator.inputs.fields import Name, PositiveInt, StrictModel
from simulator.model.layers import AnyLayerSpec

LayerEntry = Annotated[AnyLayerSpec, Field(discriminator="kind")]


class LinearRegressionSchema(StrictModel):
    """One neuron."""

    name: Name
    description: str = ""
    family: Literal["linear_regression"]
    in_features: PositiveInt = 1


class MlpSchema(StrictModel):
    """Dense layers with ReLU."""

    name: Name
    description: str = ""
    family: Literal["mlp"]
    in_features: PositiveInt
    hidden_sizes: Annotated[list[PositiveInt], Field(min_length=1)]
    num_classes: PositiveInt


class CnnSchema(StrictModel):
    """Convolution units and a classifier."""

    name: Name
    description: str = ""
    family: Literal["cnn"]
    image_size: PositiveInt
    in_channels: PositiveInt = 3
    channels: Annotated[list[PositiveInt], Field(min_length=1)]
    hidden_size: PositiveInt
    num_classes: PositiveInt


class GptSchema(StrictModel):
    """A GPT; names as in Hugging Face configurations."""

    name: Name
    description: str = ""
    family: Literal["gpt"]
    num_hidden_layers: PositiveInt
    hidden_size: PositiveInt
    num_attention_heads: PositiveInt
    vocab_size: PositiveInt
    sequence_length: PositiveInt
    intermediate_size: PositiveInt | None = None


class InputSchema(StrictModel):
    """Per-sample shape of the input, without the batch."""

    shape: Annotated[list[PositiveInt], Field(min_length=1)]


class LayersSchema(StrictModel):
    """An explicit list of layers; each reads the one before it unless ``inputs`` names others."""

    name: Name
    description: str = ""
    input: InputSchema
    layers: Annotated[list[LayerEntry], Field(min_length=1)]
    loss: Literal["mse", "cross_entropy"] = "cross_entropy"


def _form(value: Any) -> str:
    """Return which form a mapping is, so that errors speak of that form alone."""
    family = value.get("family") if isinstance(value, dict) else getattr(value, "family", None)
    return str(family) if family in ("linear_regression", "mlp", "cnn", "gpt") else "layers"


ModelSchema = Annotated[
    Annotated[LinearRegressionSchema, Tag("linear_regression")]
    | Annotated[MlpSchema, Tag("mlp")]
    | Annotated[CnnSchema, Tag("cnn")]
    | Annotated[GptSchema, Tag("gpt")]
    | Annotated[LayersSchema, Tag("layers")],
    Discriminator(_form),
]

FORMS: dict[str, type[StrictModel]] = {
    "linear_regression": LinearRegressionSchema,
    "mlp": MlpSchema,
    "cnn": CnnSchema,
    "gpt": GptSchema,
    "layers": LayersSchema,
}


def schema_for(data: dict[str, Any]) -> type[StrictModel] | None:
    """Return the schema that a model file asks for, or None when ``family`` names none."""
    family = data.get("family")
    return FORMS["layers"] if family is None else FORMS.get(str(family))
