"""Checkpoints: all that each rank needs to go on as if nothing had happened, bit for bit.

Every rank writes a file of its own, whole or not at all; a checkpoint is complete when all have, so that no file system
needs to be shared. The one before is kept until then.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from executor.interpreter import Interpreter
from simulator.errors import ExecutionError
from simulator.results.recording import write_bytes

FORMAT = "plancast-checkpoint-1"


class Checkpoints:
    """Those of one job on one rank.

    Parameters
    ----------
    folder
        Of the job.
    runtime
        Whose state is kept: step counter, and what `Interpreter.state` returns beside it.
    control
        Group of all ranks.
    """

    def __init__(self, folder: Path, runtime: Interpreter, control: dist.ProcessGroup) -> None:
        self._folder, self._runtime, self._control = folder, runtime, control
        self._world_size = dist.get_world_size(control)

    def save(self, record: Mapping[str, Any]) -> None:
        """Write the state after the last step, with what was recorded until then; all ranks do so together."""
        body = {
            "format": FORMAT,
            "started": self._started(),
            "state": self._runtime.state(),
            "random": _random_state(self._runtime.device),
            "record": dict(record),
        }
        buffer = io.BytesIO()
        torch.save(body, buffer)
        write_bytes(self._path(self._runtime.step_index), buffer.getvalue())
        dist.barrier(group=self._control)
        for step in self._steps() - {self._runtime.step_index}:
            self._path(step).unlink()

    def restore(self) -> dict[str, Any] | None:
        """Go back to the last checkpoint that all ranks have; return its record, None if there is none.

        Raises
        ------
        ExecutionError
            It is of another model, plan or number of ranks, or no checkpoint at all.
        """
        found: list[Any] = [None] * self._world_size
        dist.all_gather_object(found, (self._steps(), self._problem()), group=self._control)
        for _, problem in found:
            if problem:
                raise ExecutionError(problem)
        common = set.intersection(*(steps for steps, _ in found))
        if not common:
            return None
        body = self._read(max(common))
        self._runtime.restore(body["state"])
        _set_random_state(body["random"], self._runtime.device)
        record: dict[str, Any] = body["record"]
        return record

    def forget(self) -> None:
        """Remove this rank's files."""
        for step in self._steps():
            self._path(step).unlink()

    def _problem(self) -> str:
        """Return why this rank cannot go on from its last file, nothing if it can."""
        if not self._steps():
            return ""
        path = self._path(max(self._steps()))
        try:
            body = self._read(max(self._steps()))
            changes = list(_differences(body["started"], self._started())) if body["format"] == FORMAT else ["format"]
        except Exception as error:
            return f"{path} cannot be read as a checkpoint ({type(error).__name__}); remove it and start anew"
        if not changes:
            return ""
        return f"{path} was written with other inputs: {changes[0]}; resume with those of then, or start anew"

    def _started(self) -> dict[str, Any]:
        """Return what must be the same when a run is resumed: neither speeds nor links change what is trained."""
        documents = self._runtime.inputs.resolved()
        return {"ranks": self._world_size, "model": documents["model"], "plan": documents["plan"]}

    def _read(self, step: int) -> dict[str, Any]:
        body: dict[str, Any] = torch.load(self._path(step), map_location=self._runtime.device, weights_only=True)
        return body

    def _path(self, step: int) -> Path:
        return self._folder / f"checkpoint-{step}-rank{self._runtime.rank}.pt"

    def _steps(self) -> set[int]:
        """Return the steps of which this rank has a file."""
        names = (path.name for path in self._folder.glob(f"checkpoint-*-rank{self._runtime.rank}.pt"))
        return {int(match[1]) for match in map(re.compile(r"checkpoint-(\d+)-").match, names) if match}


def _random_state(device: torch.device) -> list[torch.Tensor]:
    """Return the state of torch's generators: dropout of our own draws by position, a user's module from these."""
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def _set_random_state(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1].cpu(), device)


def _differences(then: Any, now: Any, key: str = "") -> Iterator[str]:
    """Yield what differs between two plain documents, with its dotted key."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted({*then, *now}, key=str):
            yield from _differences(then.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif then != now:
        yield f"{key} is {now}, and was {then}"
