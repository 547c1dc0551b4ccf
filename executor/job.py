"""One plan of a run, as one rank sees it: what trains it, and what has been recorded of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from executor.calibrate import Calibrator
from executor.calibrate_samples import Samples
from executor.interpreter import Interpreter
from simulator.load import Inputs
from simulator.results.assemble import Recorded


@dataclass(slots=True)
class Job:
    """One plan of a run, as this rank sees it.

    ``leads`` tells which steps only show where the next one begins, ``held`` the bytes of activations after each
    computation of a step.
    """

    name: str
    inputs: Inputs
    runtime: Interpreter
    calibrator: Calibrator | None
    steps: list[Recorded] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    losses: list[float | None] = field(default_factory=list)
    leads: list[bool] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    held: list[float] = field(default_factory=list)

    def remaining(self, turn: int, steps: int) -> int:
        """Return how many of a round's steps have not been measured yet."""
        return steps - sum(not lead and at == turn for lead, at in zip(self.leads, self.rounds, strict=True))

    def is_done(self, turn: int, steps: int) -> bool:
        """Return whether a round was measured before the run was resumed."""
        return turn < len(self.samples) if self.calibrator else not self.remaining(turn, steps)

    def record(self) -> dict[str, Any]:
        """Return what has been recorded, in plain values."""
        samples = [{table.name: dict(getattr(each, table.name)) for table in fields(each)} for each in self.samples]
        lists = {name: list(getattr(self, name)) for name in ("steps", "rounds", "losses", "leads")}
        return {**lists, "samples": samples}

    def take_up(self, record: dict[str, Any]) -> None:
        """Go on from what ``record`` has returned."""
        for name in ("steps", "rounds", "losses", "leads"):
            setattr(self, name, list(record[name]))
        self.samples = [Samples(**tables) for tables in record["samples"]]
