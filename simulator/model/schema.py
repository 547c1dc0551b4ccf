"""YAML keys of a model file: a family with its sizes, a Hugging Face configuration, or an explicit list of layers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from simulator.inputs.fields import Name, PositiveInt, PositiveNumber, StrictModel, Text
from simulator.model.language import BertSchema, GptSchema, LlamaSchema, MoeSchema
from simulator.model.layers import AnyLayerSpec, Operation
from simulator.model.module import ModuleLoss
from simulator.model.vision import ResnetSchema, VitSchema

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


class ModuleSchema(StrictModel):
    """A ``torch.nn.Module`` as ``plancast model import`` wrote it down; ``inputs`` and ``target`` in its notation."""

    name: Name
    description: str = ""
    module: Text
    inputs: Annotated[list[Text], Field(min_length=1)]
    target: Text | None = None
    loss: ModuleLoss = "cross_entropy"
    operations: dict[str, Operation] = Field(default_factory=dict)
    layers: Annotated[list[LayerEntry], Field(min_length=1)]


class ConfigSchema(StrictModel):
    """A Hugging Face ``config.json`` and what it does not say."""

    name: Name | None = None
    description: str = ""
    config: Text
    sequence_length: PositiveInt
    flash: bool = False
    load_imbalance: PositiveNumber | None = None


FORMS: dict[str, type[StrictModel]] = {
    "linear_regression": LinearRegressionSchema,
    "mlp": MlpSchema,
    "cnn": CnnSchema,
    "resnet": ResnetSchema,
    "vit": VitSchema,
    "gpt": GptSchema,
    "bert": BertSchema,
    "llama": LlamaSchema,
    "moe": MoeSchema,
    "layers": LayersSchema,
    "config": ConfigSchema,
    "module": ModuleSchema,
}
"""Families, and the three forms that name none."""

FAMILIES = tuple(form for form in FORMS if form not in ("layers", "config", "module"))


def _form(value: Any) -> str:
    """Return which form a mapping is, so that errors speak of that form alone."""
    has = value if isinstance(value, dict) else vars(value)
    family = has.get("family")
    return str(family) if family in FAMILIES else next((form for form in ("config", "module") if form in has), "layers")


ModelSchema = Annotated[
    Annotated[LinearRegressionSchema, Tag("linear_regression")]
    | Annotated[MlpSchema, Tag("mlp")]
    | Annotated[CnnSchema, Tag("cnn")]
    | Annotated[ResnetSchema, Tag("resnet")]
    | Annotated[VitSchema, Tag("vit")]
    | Annotated[GptSchema, Tag("gpt")]
    | Annotated[BertSchema, Tag("bert")]
    | Annotated[LlamaSchema, Tag("llama")]
    | Annotated[MoeSchema, Tag("moe")]
    | Annotated[LayersSchema, Tag("layers")]
    | Annotated[ConfigSchema, Tag("config")]
    | Annotated[ModuleSchema, Tag("module")],
    Discriminator(_form),
]


def schema_for(data: dict[str, Any]) -> type[StrictModel] | None:
    """Return the schema that a model file asks for, or None when ``family`` names none."""
    return FORMS.get(str(data["family"])) if data.get("family") is not None else FORMS[_form(data)]
