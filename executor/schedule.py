"""How long a run goes on, and what it does in between."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """Steps between what is done in pauses.

    Parameters
    ----------
    checkpoint
        Between two checkpoints, which then are kept at the end; 0: only after each round but the last, while it runs.
    check
        Between two comparisons of losses and replicas; 0: never.
    """

    checkpoint: int = 0
    check: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long to run.

    Parameters
    ----------
    rounds
        Turns; each job has one a round.
    steps
        Measured steps of a job in a round.
    warmup
        Steps before the first round, not recorded.
    calibrate
        Take a calibration sample before and after each step.
    sweep
        Calibrate standard message sizes too.
    every
        Steps between what is done in pauses.
    resume
        Go on from the last checkpoint, if there is one.
    """

    rounds: int
    steps: int
    warmup: int
    calibrate: bool
    sweep: bool = False
    every: Every = Every()
    resume: bool = False
