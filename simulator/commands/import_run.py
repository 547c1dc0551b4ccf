"""``plancast import-run``: make a published run into a model, a topology and a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from simulator.published import Row
    from simulator.published.draft import Draft


def import_run(
    table: Path,
    id: str,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", help="Folder for the three files.")],
) -> None:
    """Write model.yaml, topology.yaml and plan.yaml of a published run, for `plancast simulate`.

    Every key says whether the row states it or what was assumed instead.

    Parameters
    ----------
    table
        CSV of runs with the columns of docs/accuracy.md.
    id
        The row: its id, or its number, 1 for the first.
    """
    from simulator.published import convert
    from simulator.results.recording import write_bytes

    run = convert(_find(table, id))
    output.mkdir(parents=True, exist_ok=True)
    for name, draft in run.drafts().items():
        write_bytes(output / f"{name}.yaml", _text(name, draft, run.row).encode())
        print(output / f"{name}.yaml")


def _find(table: Path, id: str) -> Row:
    from simulator.errors import Diagnostic, InputError
    from simulator.published import read_rows

    number = 0
    for number, row in enumerate(read_rows(table), start=1):
        if id in (row.id, str(number)):
            return row
    raise InputError([Diagnostic(str(table), "", f'no row is called "{id}"', f"it has rows 1 to {number}")])


def _text(name: str, draft: Draft, row: Row) -> str:
    """Return a file with the origin of every key beside it, and what is true of the whole above."""
    from simulator.published import peak_bytes, step_seconds
    from simulator.reports.yaml_text import yaml_text
    from simulator.units import format_bytes, format_seconds

    lines = [f"# {name} of {row.id}: {row.text('source')}, {row.text('source_ref')}"]
    seconds, memory = step_seconds(row), peak_bytes(row)
    if name == "plan" and seconds:
        lines.append(f"# measured: {format_seconds(seconds)} a step" + (f", {format_bytes(memory)}" if memory else ""))
    lines += [f"# {remark}" for remark in draft.remarks]
    for key, value in draft.data.items():
        text = yaml_text({key: value}).rstrip("\n")
        origin = draft.origins.get(key)
        lines.append(f"{text}  # {origin}" if origin and "\n" not in text else text)
    return "\n".join(lines) + "\n"
