"""From what the ranks of a run that was cut short left behind to a recording, marked incomplete."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from simulator.load import Inputs
from simulator.results.assemble import Recorded, assemble_all
from simulator.results.recording import Recording, read_json

NAME = "measured.json.gz"
"""Of a measured run's recording, in the folder of its job."""


def recover(folder: Path, inputs: Inputs) -> Path | None:
    """Make a recording, marked incomplete, of what the ranks of a failed run left behind.

    Returns the folder where it lies: another one, for temporary files, where this one's disk is full; None where the
    ranks left no step.
    """
    world_size = inputs.plan.mesh.world_size
    paths = [folder / f"partial-rank{rank}.json.gz" for rank in range(world_size)]
    nothing: dict[str, Any] = {"error": "", "rounds": [], "leads": [], "steps": []}
    parts: list[dict[str, Any]] = [read_json(path) if path.exists() else nothing for path in paths]
    count = max(len(part["steps"]) for part in parts)
    if not count:
        return None
    rounds, leads = (max((part[key] for part in parts), key=len) for key in ("rounds", "leads"))
    records: list[list[Recorded]] = [
        [part["steps"][index] if index < len(part["steps"]) else [] for part in parts] for index in range(count)
    ]
    timelines = assemble_all(inputs.program, records, leads)
    # The last step shows where the run ended, also if it was not to be measured.
    kept = [index for index in range(count) if not leads[index] or index == count - 1]
    recording = Recording(
        source="measured",
        inputs=inputs.resolved(),
        steps=tuple(timelines[index] for index in kept),
        rounds=tuple(rounds[index] for index in kept),
        about={"errors": [part["error"] for part in parts if part["error"]]},
        complete=False,
    )
    try:
        recording.save(folder / NAME)
    except OSError:
        elsewhere = Path(tempfile.mkdtemp(prefix="plancast-"))
        recording.save(elsewhere / NAME)
        return elsewhere
    for path in paths:
        path.unlink(missing_ok=True)
    return folder
