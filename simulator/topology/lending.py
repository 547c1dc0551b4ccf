"""From the key `collectives:` to the communication library's protocols, with those taken over from another machine."""

from __future__ import annotations

from functools import cache
from math import inf

from pydantic import ConfigDict

from simulator.errors import Diagnostic, InputError, Problems, quote
from simulator.inputs.fields import StrictModel
from simulator.inputs.presets import preset_path
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import read_document
from simulator.topology.library import CollectivesSchema
from simulator.topology.protocols import Collectives, Protocol


class _LenderSchema(StrictModel):
    """Of a topology file, what others can take over."""

    model_config = ConfigDict(extra="ignore")

    collectives: CollectivesSchema = CollectivesSchema()


def build_collectives(spec: CollectivesSchema | None, problems: Problems) -> Collectives:
    """Return what a file says about the communication library, over what its lender says.

    Parameters
    ----------
    spec
        The key `collectives:`.
    problems
        Gets what is wrong with the lender, at `topology.collectives.from`.
    """
    if spec is None:
        return Collectives()
    try:
        return _complete(spec, ())
    except InputError as error:
        for each in error.diagnostics:
            problems.add("topology.collectives.from", _in_its_place(each), each.hint)
        return _own(spec)


@cache
def _lender(name: str, borrowers: tuple[str, ...]) -> Collectives:
    """Return what a shipped topology says, asked for by ``borrowers``, the last one directly; raises InputError."""
    if name in borrowers:
        circle = ", which takes over from ".join([*borrowers[borrowers.index(name) :], name])
        hint = "give one of them protocols and leave out its from"
        raise InputError([Diagnostic("", "", f"{circle}: nobody has them", hint)])
    document = read_document(str(preset_path("topologies", name)), "topology")
    problems = Problems(document.locate)
    spec = validate(document, _LenderSchema, problems)
    problems.raise_if_any()
    assert spec is not None
    lender = _complete(spec.collectives, (*borrowers, name))
    if not lender.protocols:
        hint = "name a machine that has some, as dgx-h100"
        raise InputError([Diagnostic("", "", f"{quote(name)} has no protocols to take over", hint)])
    return lender


def _complete(spec: CollectivesSchema, borrowers: tuple[str, ...]) -> Collectives:
    own = _own(spec)
    return own.above(_lender(spec.origin, borrowers), spec.origin) if spec.origin else own


def _own(spec: CollectivesSchema) -> Collectives:
    return Collectives(
        choice={str(operation): str(algorithm) for operation, algorithm in spec.choice.items()},
        protocols=tuple(
            Protocol(
                algorithm=each.algorithm,
                name=each.name,
                operations=tuple(each.operations),
                scope=each.scope,
                min_ranks=each.min_ranks,
                overhead=each.overhead,
                latency=each.latency,
                efficiency=each.efficiency,
                copy=inf if each.own_part is None else each.own_part,
                source=each.source,
            )
            for each in spec.protocols
        ),
        source=spec.source or "",
    )


def _in_its_place(found: Diagnostic) -> str:
    """Return what is wrong, with its place where that is in the lender's file."""
    return f"{found.location}: {found.key}: {found.message}" if found.location else found.message
