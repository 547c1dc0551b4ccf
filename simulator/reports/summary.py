"""A prediction for people, and as one line of a spreadsheet."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.load import Inputs
from simulator.planning import Fit, Prediction, worst
from simulator.reports.terminal import facts, table
from simulator.units import format_bytes, format_count, format_flop, format_percent, format_seconds

SEARCH = "plancast check looks for a change that makes it fit"


def headline(inputs: Inputs) -> Text:
    """Return one line that says what was looked at."""
    plan, graph, topology = inputs.plan, inputs.graph, inputs.topology
    sizes = zip(plan.mesh.axes, plan.mesh.sizes, strict=True)
    axes = " x ".join(f"{axis}{size}" for axis, size in sizes if axis != "cp" or size > 1)
    axes += f", ep{plan.ep}" if plan.ep > 1 else ""
    text = (
        f"{graph.name} ({format_count(graph.num_parameters)} parameters) on {topology.name} "
        f"({topology.world_size} x {topology.device(0).kind}), plan {plan.name}: {axes}, {plan.schedule}, "
        f"{plan.num_microbatches} micro-batches of {plan.microbatch_size}, {plan.dtype}"
    )
    return Text(text, style="bold")


def render(prediction: Prediction) -> RenderableType:
    """Return the whole report."""
    parts: list[RenderableType] = [headline(prediction.inputs), _numbers(prediction), _bounds(prediction)]
    if prediction.inputs.plan.pp > 1:
        parts.append(_stages(prediction))
    parts += [verdict(prediction.memory, SEARCH), Text(), _basis(prediction.basis)]
    return Group(*parts)


def _range(prediction: Prediction) -> list[tuple[str, str, str]]:
    if prediction.step_range is None:
        return []
    low, high = prediction.step_range
    return [("", f"{format_seconds(low)} to {format_seconds(high)}", "with the least and the most that was calibrated")]


def _numbers(prediction: Prediction) -> Table:
    result, metrics = prediction.result(), prediction.metrics
    step = metrics.step_time or 1.0
    tokens = result.get("tokens_per_second")
    rate = f"{format_count(result['samples_per_second'])} samples/s"
    rows = [
        (
            "step time",
            format_seconds(metrics.step_time),
            rate if tokens is None else f"{format_count(tokens)} tokens/s, {rate}",
        ),
        *_range(prediction),
        ("compute", format_seconds(metrics.compute_time), f"{format_percent(metrics.compute_time / step)} of the step"),
        (
            "exposed communication",
            format_seconds(metrics.exposed_comm_time),
            f"{format_percent(metrics.exposed_comm_time / step)} of the step; "
            f"{format_percent(metrics.overlap_fraction)} of all communication is hidden",
        ),
        (
            "bubble",
            format_seconds(metrics.bubble_time),
            f"{format_percent(metrics.bubble_fraction)} of the step, "
            f"{format_percent(metrics.bubble_overhead)} of compute; "
            f"{format_percent(metrics.device_window_bubble)} between a rank's own first and last action",
        ),
        (
            "MFU / HFU",
            f"{format_percent(result['mfu'])} / {format_percent(result['hfu'])}",
            f"{format_flop(prediction.model_flops)} a step, no recompute, over the dense peak of all devices",
        ),
    ]
    if "updates" in result:
        updates = f"{result['updates']} updates"
        rows.append(
            (
                "steps per epoch",
                str(result["steps_per_epoch"]),
                f"global batch {result['global_batch_size']}; {updates}",
            )
        )
    found = table("mean over ranks", "predicted")
    found.add_column("", overflow="fold")
    for row in rows:
        found.add_row(*map(Text, row))
    return found


def _bounds(prediction: Prediction) -> Text:
    low, high = format_seconds(prediction.speed_of_light), format_seconds(prediction.serial)
    return Text(
        f"{low} at the dense peak with all else free <= {format_seconds(prediction.metrics.step_time)} <= "
        f"{high} if nothing overlapped"
    )


def _stages(prediction: Prediction) -> Table:
    """One row a pipeline coordinate: its slowest rank."""
    mesh = prediction.inputs.plan.mesh
    found = table("pipeline rank", "compute", "exposed comm", "bubble", "peak activations", "memory")
    for place in prediction.memory:
        ranks = [
            each for each in prediction.metrics.per_rank if mesh.coordinate(each.rank, "pp") == place.pipeline_rank
        ]
        slowest = max(ranks, key=lambda each: each.compute_time + each.exposed_comm_time)
        times = (slowest.compute_time, slowest.exposed_comm_time, slowest.bubble_time)
        sizes = (place.memory.activations, place.memory.total)
        found.add_row(str(place.pipeline_rank), *map(format_seconds, times), *map(format_bytes, sizes))
    return found


def verdict(fits: tuple[Fit, ...], advice: str) -> RenderableType:
    """Return the memory verdict: the terms of the fullest rank and, if it does not fit, the largest and some advice."""
    fullest = worst(fits)
    memory, room = fullest.memory, fullest.capacity
    terms = ", ".join(f"{name} {format_bytes(size)}" for name, size in memory.terms().items())
    where = f" (pipeline rank {fullest.pipeline_rank})" if len(fits) > 1 else ""
    used = f"{format_bytes(memory.total)} of {format_bytes(room)} on the fullest rank{where}"
    if fullest.fits:
        return Text(f"fits: {used}: {terms}", style="green")
    lines = [
        f"DOES NOT FIT: {used}, {format_bytes(memory.total - room)} too much: {terms}",
        f"largest term: {memory.dominant()}, {format_bytes(memory.terms()[memory.dominant()])}",
    ]
    return Text("\n".join([*lines, advice]), style="red")


def advise(settings: tuple[str, ...]) -> str:
    """Return what ``remedy`` found as a sentence."""
    changes = " ".join(f"--set {setting}" for setting in settings)
    return f"it fits with {changes}" if settings else "no single small change of the plan makes it fit"


def _basis(basis: dict[str, Any]) -> Table:
    passes = f"{basis['layer_passes_measured']} layer passes measured, {basis['layer_passes_estimated']} estimated"
    rows = [
        ("compute", f"{basis['compute']}; {passes}"),
        ("network", f"{basis['network']}; {basis['messages']}"),
        ("device", f"{basis['device']}: {basis['device_source']}"),
    ]
    rows += basis["collectives"].items()
    if basis["calibration"]:
        rows.append(("calibration", ", ".join(f"{key} {value}" for key, value in basis["calibration"].items())))
    elif not basis["layer_passes_measured"]:
        rows.append(("efficiency", basis["efficiency_source"]))
    classes = basis["rank_classes"]
    rows.append(("simulated", f"{classes} {'class' if classes == 1 else 'classes'} of identical ranks"))
    return facts(rows)


def flat(result: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a result as columns; what is nested in a list or is prose stays out."""
    row: dict[str, Any] = {}
    for key, value in result.items():
        if key == "memory":
            row |= {f"memory_{name}_bytes": size for name, size in value.items()}
        elif not isinstance(value, dict | list):
            row[key] = value
    return row
