"""``plancast schema``: what the YAML files may hold, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def schema(
    document: Literal["model", "plan", "topology"],
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o", help="Write to a file.")] = None,
) -> None:
    """Print the JSON Schema of an input file.

    Parameters
    ----------
    document
        Which kind of file.
    """
    text = json_schema(document)
    if output:
        from simulator.results.recording import write_bytes

        write_bytes(output, text.encode())
    else:
        print(text, end="")


def json_schema(document: Literal["model", "plan", "topology"]) -> str:
    """Return the JSON Schema of a kind of file, as committed beside the YAML files."""
    import json

    from pydantic import TypeAdapter

    from simulator.model.schema import ModelSchema
    from simulator.plan.schema import PlanSchema
    from simulator.topology import TopologySchema

    types: dict[str, Any] = {"model": ModelSchema, "plan": PlanSchema, "topology": TopologySchema}
    adapter: TypeAdapter[object] = TypeAdapter(types[document])
    body = {"$schema": "https://json-schema.org/draft/2020-12/schema", **adapter.json_schema()}
    return json.dumps(body, indent=2) + "\n"
