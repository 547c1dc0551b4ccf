"""The key `collectives:`, and the switches that sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol as Shape

from pydantic import Field

from simulator.errors import Problems, quote
from simulator.inputs.fields import (
    Bandwidth,
    Name,
    PositiveFraction,
    PositiveInt,
    PositiveScale,
    Seconds,
    StrictModel,
    Text,
)
from simulator.topology.protocols import AlgorithmName, OperationName, Scope


class ProtocolSchema(StrictModel):
    """What an algorithm costs in one protocol of the communication library, beside the links."""

    algorithm: AlgorithmName
    name: Name = Field(description="The library's name: Simple, LL, LL128.")
    operations: list[OperationName] = Field(default=[], description="Default: all that the algorithm does.")
    scope: Scope = Field(default="any", description="node: groups within a node; cluster: over several nodes.")
    min_ranks: PositiveInt = Field(default=2, description="The library does not use it for smaller groups.")
    overhead: Seconds = Field(default="0 s", validate_default=True, description="What each call costs.")
    latency: PositiveScale = Field(
        default="100%", validate_default=True, description="What a step takes, of its route's latency."
    )
    efficiency: PositiveFraction = Field(
        default="100%", validate_default=True, description="Of the links' bandwidth, what payload gets."
    )
    own_part: Bandwidth | None = Field(
        default=None, alias="copy", description="Rate at which a rank copies its own part; default: no time."
    )
    source: Text = Field(description="Where the numbers come from.")


class CollectivesSchema(StrictModel):
    """How the communication library runs collectives here."""

    origin: Name | None = Field(
        default=None,
        alias="from",
        description="A shipped topology whose protocols hold here for each algorithm and scope without own ones.",
    )
    source: Text | None = Field(default=None, description="Why these protocols, or why none.")
    choice: dict[OperationName, AlgorithmName] = Field(
        default={}, description="Operation: algorithm, whatever the size. Default: the fastest."
    )
    protocols: list[ProtocolSchema] = Field(
        default=[], description="The library's; without any, algorithms run at the links' own speed."
    )


class _Switched(Shape):
    """What has switches: a node, or a graph."""

    @property
    def switches(self) -> Sequence[str]: ...
    @property
    def reduces(self) -> Sequence[str]: ...


def build_reducers(parts: Mapping[str, _Switched | None], problems: Problems) -> frozenset[str]:
    """Return the switches that sum what passes; say which of the names are no switches, at the parts' keys."""
    found: set[str] = set()
    for key, part in parts.items():
        for i, name in enumerate(part.reduces if part else ()):
            if part and name not in part.switches:
                hint = f"there are: {', '.join(part.switches)}" if part.switches else "name it under switches too"
                problems.add(f"topology.{key}.reduces.{i}", f"{quote(name)} is not under switches", hint)
            found.add(name)
    return frozenset(found)
