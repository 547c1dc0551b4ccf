"""Three files in, everything that a run needs out; or every mistake in all three at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from simulator.collector import paused_collector
from simulator.errors import Diagnostic, InputError, Problems
from simulator.inputs.presets import Kind, preset_path
from simulator.inputs.validate import validate
from simulator.inputs.yaml_source import Document, locator, read_document
from simulator.model.build import build_model
from simulator.model.flash import with_flash
from simulator.model.graph import LayerGraph
from simulator.model.read import validate_model
from simulator.plan.plan import Plan
from simulator.plan.resolve import resolve_plan
from simulator.plan.schema import PlanSchema
from simulator.program.compile import compile_plan
from simulator.program.program import Program
from simulator.program.schedules import SCHEDULES
from simulator.program.verify import verify
from simulator.topology import Topology, TopologySchema, build_topology

T = TypeVar("T")

FOLDERS: dict[str, Kind] = {"model": "models", "topology": "topologies", "plan": "plans"}

KEYS = {"topology": TopologySchema.model_fields, "plan": PlanSchema.model_fields}
"""Keys that a document may have beside those it has; a model's depend on its family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a run starts from.

    Parameters
    ----------
    graph
        The whole model.
    topology, plan
        Where and how.
    program
        The plan compiled for this model and topology, verified.
    documents
        The files as read, with the command line's changes: what a result must name to be replayed.
    """

    graph: LayerGraph
    topology: Topology
    plan: Plan
    program: Program
    documents: tuple[Document, ...]

    def resolved(self) -> dict[str, object]:
        """Return the three documents as plain values, which mean the same in any working directory."""
        plain: dict[str, object] = {document.name: document.data for document in self.documents}
        if self.plan.schedule_file:
            (plan,) = (document.data for document in self.documents if document.name == "plan")
            plain["plan"] = plan | {"schedule_file": str(Path(self.plan.schedule_file).absolute())}
        return plain


def load(model: str, topology: str, plan: str, settings: Iterable[str] = ()) -> Inputs:
    """Read, check and compile.

    Parameters
    ----------
    model, topology, plan
        Files, or names of shipped presets.
    settings
        Changes as ``plan.tp=4``; they are checked like the files.

    Raises
    ------
    InputError
        All that is wrong.
    """
    sources = {"model": model, "topology": topology, "plan": plan}
    documents = _all(partial(read, *item) for item in sources.items())
    apply_settings(documents, settings)
    return build(documents)


def reload(inputs: Mapping[str, Any], path: Path) -> Inputs:
    """Compile again what a recording was made from.

    Parameters
    ----------
    inputs
        What `Inputs.resolved` gave.
    path
        The recording's file, for messages.

    Raises
    ------
    InputError
        All that is wrong: the recording is of another version, or a file that its plan names is gone.
    """
    return build([Document(name=name, path=str(path), data=dict(inputs.get(name, {}))) for name in FOLDERS])


@paused_collector()
def build(documents: Sequence[Document]) -> Inputs:
    """Check and compile three documents that were read; raises InputError with all that is wrong."""
    by_name = {document.name: document for document in documents}
    problems = Problems(locator(documents))
    model_spec = validate_model(by_name["model"], problems)
    topology_spec = validate(by_name["topology"], TopologySchema, problems)
    plan_spec = validate(by_name["plan"], PlanSchema, problems)
    graph = build_model(model_spec, problems) if model_spec else None
    topology = build_topology(topology_spec, problems) if topology_spec else None
    plan = resolve_plan(plan_spec, topology, SCHEDULES, problems) if plan_spec and topology else None
    if graph and topology and plan:
        graph = with_attention(graph, by_name["model"], topology, plan)
    program = compile_plan(graph, topology, plan, problems) if graph and topology and plan else None
    problems.raise_if_any()
    assert graph and topology and plan and program
    verify(program)
    return Inputs(graph=graph, topology=topology, plan=plan, program=program, documents=tuple(documents))


def with_attention(graph: LayerGraph, model: Document, topology: Topology, plan: Plan) -> LayerGraph:
    """Return the graph with the attention of the plan; where it says nothing, of the model file, then of the device.

    Trainers on GPUs fuse attention today; on CPUs the materialised form is what torch's own layers are compared with.
    """
    if plan.attention:
        return with_flash(graph, plan.attention == "flash")
    layers = model.data.get("layers")
    entries = [model.data, *(each for each in (layers if isinstance(layers, list) else ()) if isinstance(each, dict))]
    stated = any("flash" in entry for entry in entries)
    return graph if stated or topology.device(0).backend != "cuda" else with_flash(graph, True)


def load_jobs(
    models: Sequence[str], topology: str, plans: Sequence[str], settings: Iterable[str] = ()
) -> dict[str, Inputs]:
    """Load every model with every plan, by a name made of both.

    Raises
    ------
    InputError
        All that is wrong, also two jobs of one name.
    """
    pairs = [(model, plan) for model in models for plan in plans]
    settings = list(settings)
    loaded = _all(partial(load, model, topology, plan, settings) for model, plan in pairs)
    jobs: dict[str, Inputs] = {}
    for (model, plan), inputs in zip(pairs, loaded, strict=True):
        name = f"{inputs.graph.name}-{inputs.plan.name}"
        if name in jobs:
            message = f"model {model} with plan {plan} is called {name}, and so is another job"
            raise InputError([Diagnostic("", "", message, "give the files different names (key name)")])
        jobs[name] = inputs
    return jobs


def load_topology(topology: str, settings: Iterable[str] = ()) -> Topology:
    """Read and check a topology alone; raises InputError with all that is wrong."""
    document = read("topology", topology)
    apply_settings([document], settings)
    problems = Problems(locator([document]))
    spec = validate(document, TopologySchema, problems)
    built = build_topology(spec, problems) if spec else None
    problems.raise_if_any()
    assert built
    return built


def read(name: str, source: str) -> Document:
    """Read a document from a file, or by the name of a preset; a file that a plan names is looked for beside it."""
    document = read_document(_path(name, source), name)
    rows = document.data.get("schedule_file")
    if name == "plan" and isinstance(rows, str):
        document.data["schedule_file"] = str(Path(document.path).parent / rows)
    return document


def _path(name: str, source: str) -> str:
    """Return the file that is meant, preset or not, as short as it can be named."""
    if Path(source).suffix in (".yaml", ".yml", ".json") or "/" in source or Path(source).is_file():
        return source
    path = preset_path(FOLDERS[name], source)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def apply_settings(documents: Iterable[Document], settings: Iterable[str]) -> None:
    """Apply ``--set name.key=value`` changes; raises InputError with all that cannot be."""
    by_name = {document.name: document for document in documents}
    example = "plan.tp=4" if "plan" in by_name else f"{next(iter(by_name))}.key=value"

    def apply(setting: str) -> None:
        key, equals, text = setting.partition("=")
        name, dot, inner = key.partition(".")
        where = f"--set {setting}"
        if not equals or not dot:
            owner = next((each for each in by_name if key in by_name[each].data or key in KEYS.get(each, ())), None)
            hint = f"write --set {owner}.{setting}" if owner and equals else f"write --set {example}"
            raise InputError([Diagnostic(where, "", "is not a change", hint)])
        if name not in by_name:
            close = get_close_matches(name, by_name, n=1)
            hint = f"did you mean {close[0]}?" if close else f"keys begin with {', '.join(by_name)}"
            raise InputError([Diagnostic(where, key, "names no document", hint)])
        by_name[name].override(inner, text)

    _all(partial(apply, setting) for setting in settings)


def _all(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Run all calls; if some raise InputError, raise one with all their diagnostics."""
    results: list[T] = []
    diagnostics: list[Diagnostic] = []
    for call in calls:
        try:
            results.append(call())
        except InputError as error:
            diagnostics += error.diagnostics
    if diagnostics:
        raise InputError(diagnostics)
    return results
