"""``plancast models``: which models are known, and how large they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from simulator.commands.options import print_csv, print_json

ModelFormat = Annotated[
    Literal["table", "json", "csv", "markdown"], Parameter(name="--format", help="How to print the result.")
]


def models(*, format: ModelFormat = "table") -> None:
    """List the presets with their parameters, counted from their layers."""
    rows = model_rows()
    if format == "json":
        print_json(rows)
    elif format == "csv":
        print_csv(rows)
    elif format == "markdown":
        print(markdown(rows))
    else:
        from simulator.reports.models import render
        from simulator.reports.terminal import show

        show(render(rows))


def model_rows() -> list[dict[str, Any]]:
    """Return name, family, parameters, sequence length and description of each preset, family by family."""
    from simulator.inputs.presets import preset_names, preset_path
    from simulator.inputs.yaml_source import read_document
    from simulator.model.build import preset_graph

    rows = []
    for name in preset_names("models"):
        graph = preset_graph(name)
        data = read_document(str(preset_path("models", name)), "model").data
        rows.append(
            {
                "name": name,
                "family": str(data.get("family", "layers")),
                "parameters": graph.num_parameters,
                "sequence_length": graph.tokens_per_sample,
                "description": str(data.get("description", "")),
            }
        )
    return sorted(rows, key=lambda row: (row["family"], row["parameters"]))


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table of docs/models.md."""
    lines = ["| preset | family | parameters | what it is |", "|---|---|---:|---|"]
    lines += [
        f"| `{row['name']}` | {row['family']} | {row['parameters']:,} | {row['description'].replace('|', '/')} |"
        for row in rows
    ]
    return "\n".join(lines)
