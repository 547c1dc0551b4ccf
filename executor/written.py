"""What a run writes of a job: each rank what it has so far, and rank 0 everything at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from executor.calibrate_samples import combine
from executor.job import Job
from executor.recorder import plain
from simulator.results.assemble import assemble_all
from simulator.results.recording import Recording, write_json


def write(job: Job, folder: Path, control: dist.ProcessGroup, clock_error: float, about: Mapping[str, str]) -> None:
    """Bring everything to rank 0, which writes it; ``clock_error`` in seconds."""
    mine = (job.steps, job.losses, job.samples, job.held, clock_error)
    leads = dist.get_rank(control) == 0
    gathered: list[Any] = [None] * dist.get_world_size(control)
    dist.gather_object(mine, gathered if leads else None, group=control)
    if not leads:
        return
    node = job.inputs.topology.node
    records = list(zip(*(g[0] for g in gathered), strict=True))
    steps = assemble_all(job.inputs.program, records, job.leads, [g[3] for g in gathered])
    losses = [_mean_loss(values) for values in zip(*(g[1] for g in gathered), strict=True)]
    # Each clock was set by rank 0's, so two may differ by the errors of both.
    apart = 2 * max(g[4] for g in gathered)
    measured = [index for index, lead in enumerate(job.leads) if not lead]
    Recording(
        source="measured",
        inputs=job.inputs.resolved(),
        steps=tuple(steps[index] for index in measured),
        rounds=tuple(job.rounds[index] for index in measured),
        about={**about, "clock_error_s": apart, "losses": [losses[index] for index in measured]},
    ).save(folder / "measured.json.gz")
    for turn, samples in enumerate(zip(*(g[2] for g in gathered), strict=True)):
        calibration = combine(samples, about, lambda ranks: len({node(rank) for rank in ranks}) == 1)
        write_json(folder / f"calibration-{turn}.json", calibration.to_json())


def save(job: Job, path: Path, offset: float, recording: bool, error: str = "") -> None:
    """Write what this rank has so far, so that a run that is cut short leaves it.

    Parameters
    ----------
    job
        What was recorded.
    path
        File of this rank.
    offset
        To rank 0's clock, in seconds.
    recording
        Whether the step that an error has ended was recorded; otherwise it leaves nothing, however far it came.
    error
        Why the run ends.
    """
    spans = getattr(job.runtime.lanes, "spans", []) if error and recording else []
    running = [plain(spans, offset)] if spans else []
    turns = [*job.rounds, *(job.rounds[-1:] or [0])][: len(job.steps) + len(running)]
    leads = [*job.leads, True][: len(turns)]
    write_json(path, {"error": error, "rounds": turns, "leads": leads, "steps": [*job.steps, *running]})


def _mean_loss(values: Sequence[float | None]) -> float | None:
    """Return the mean over the ranks that hold the loss: all replicas weigh the same."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
