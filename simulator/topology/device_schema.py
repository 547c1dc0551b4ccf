"""The key `devices:` of a topology file, and a file of `topologies/devices`, which has the same keys."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from simulator.errors import InputError
from simulator.inputs.fields import (
    Bandwidth,
    Bytes,
    FlopRate,
    Name,
    NonNegativeNumber,
    OverlapFraction,
    PositiveFraction,
    PositiveNumber,
    Seconds,
    StrictModel,
    Text,
)
from simulator.topology.device_library import with_library
from simulator.topology.fabrics.schema import SOURCE

Dtype = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp4"]


class AttentionSchema(StrictModel):
    """Fused (flash) attention."""

    forward: PositiveFraction = Field(description="Of the dense peak FLOP/s, by endless sequences.")
    backward: PositiveFraction = Field(description="Likewise; what backward computes again is not counted.")
    edge: NonNegativeNumber = Field(default=0.0, description="n keys take as long as n + edge at the full rate.")
    rows: NonNegativeNumber = Field(default=0.0, description="q queries of all heads take as long as q + rows.")
    over_flash2: PositiveNumber = Field(default=1.0, description="How many times as fast as FlashAttention-2 here.")


class EfficiencySchema(StrictModel):
    """Fractions of the peaks that kernels reach, and what small shapes lose."""

    matmul: PositiveFraction = Field(description="Of the dense peak FLOP/s, by an endless matrix product.")
    dtypes: dict[Dtype, PositiveFraction] = Field(default={}, description="What replaces matmul in some dtypes.")
    edge: NonNegativeNumber = Field(default=0.0, description="m x n results take as long as (m + edge) x (n + edge).")
    depth: NonNegativeNumber = Field(default=0.0, description="Sums of k products take as long as those of k + depth.")
    cast: Bytes | None = Field(default=None, description="Traffic for each element that is cast for an fp8 product.")
    attention: AttentionSchema | None = Field(default=None, description="Default: as matmul, whatever the shape.")
    memory: PositiveFraction = Field(description="Of the memory bandwidth, by a streaming kernel.")
    source: Text = SOURCE


class OverlapSchema(StrictModel):
    """What communication takes from computing that goes on meanwhile: memory bandwidth, and cores that copy and sum."""

    fraction: OverlapFraction = Field(description="By which computing is slower beside one message at full speed.")
    source: Text = SOURCE


class HostLinkSchema(StrictModel):
    """Copies between pinned memory of the host and the device."""

    bandwidth: Bandwidth = Field(description="Each direction, while all devices of the node copy.")
    source: Text = SOURCE


def _from_or_all(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema that `from` stands for whatever is not written."""
    schema["anyOf"] = [{"required": ["from"]}, {"required": schema.pop("required")}]


class DeviceSchema(StrictModel):
    """One kind of device: a GPU, a CPU process, or a timer in place of either."""

    model_config = ConfigDict(json_schema_extra=_from_or_all)

    origin: Name | None = Field(
        default=None, alias="from", description="A file of topologies/devices; keys beside this one replace its keys."
    )
    backend: Literal["cuda", "cpu", "emulated"] = Field(
        default="cuda", description="What the executor runs on; emulated waits for the predicted time of computations."
    )
    memory: Bytes = Field(description="Capacity.")
    memory_bandwidth: Bandwidth = Field(description="Peak, reads and writes together.")
    peak: dict[Dtype, FlopRate] = Field(min_length=1, description="Dense peak (no structured sparsity) by dtype.")
    efficiency: EfficiencySchema | None = Field(default=None, description="Default: matmul 60%, memory 80%.")
    launch_overhead: Seconds = Field(description="Of the device, for each kernel besides its work.")
    host_launch: Seconds = Field(
        default="0 us", validate_default=True, description="Of the host; kernels cannot follow each other faster."
    )
    speed: PositiveFraction = Field(default="100%", validate_default=True, description="80% is a slow device.")
    overlap_slowdown: OverlapSchema | None = Field(
        default=None, description="Default: none. Not for devices that share a host's cores, which say it themselves."
    )
    host_link: HostLinkSchema | None = Field(default=None, description="For what a plan offloads.")
    source: Text = SOURCE

    @model_validator(mode="before")
    @classmethod
    def _take_from_library(cls, given: Any) -> Any:
        try:
            return with_library(given)
        except InputError as error:
            found = error.diagnostics[0]
            raise ValueError(f"{found.message}; {found.hint}") from None
