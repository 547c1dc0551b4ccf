"""A row of a table of published runs -> model, topology and plan, as files hold them."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.inputs.yaml_source import Document
from simulator.published.draft import Draft
from simulator.published.machines import put_machine
from simulator.published.models import put_model, slug
from simulator.published.plans import put_plan
from simulator.published.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """A run as three input files.

    Parameters
    ----------
    row
        Where it comes from.
    model, topology, plan
        What the files say, and why.
    """

    row: Row
    model: Draft
    topology: Draft
    plan: Draft

    def drafts(self) -> dict[str, Draft]:
        """Return the files by name."""
        return {"model": self.model, "topology": self.topology, "plan": self.plan}

    def documents(self) -> list[Document]:
        """Return the files as if they had been read; mistakes in them are placed at the row."""
        place = f"{self.row.path}:{self.row.line}"
        return [Document(name=name, path=place, data=draft.data) for name, draft in self.drafts().items()]


def convert(row: Row) -> PublishedRun:
    """Return a row as input files.

    Raises
    ------
    InputError
        All that the row does not state, that is not understood, or that this version cannot express.
    """
    model, topology, plan = Draft(), Draft(), Draft()
    put_model(model, row)
    layers = model.data.get("num_hidden_layers")
    gpus = put_plan(plan, row, layers if isinstance(layers, int) else None)
    if gpus:
        put_machine(topology, row, gpus)
    plan.data["name"] = slug(row.id) or "published"
    row.problems.raise_if_any()
    return PublishedRun(row=row, model=model, topology=topology, plan=plan)
