"""What a pipeline schedule is: a pure function to each rank's order of F, B, I and W, and what a plan must respect.

Symbols used throughout: p ranks, m micro-batches, v stages per rank; F, I, W are the forward, input-gradient and
weight-gradient time of one rank's whole share, B = I + W.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from simulator.program.instructions import Instruction

Problem = tuple[str, str]
"""What is wrong, and one way out."""

Rule = Callable[[int, int, int], Problem | None]
"""From ranks, micro-batches and stages per rank to what a schedule does not allow about them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long the actions of one stage take relative to each other, in any one unit."""

    forward: float = 1.0
    input_grad: float = 1.0
    weight_grad: float = 1.0

    def __post_init__(self) -> None:
        times = (self.forward, self.input_grad, self.weight_grad)
        if min(times) < 0 or not 0 < sum(times) < math.inf:
            raise ValueError(f"times {times} must not be negative, nor all zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What some schedules can be told beyond ranks and micro-batches.

    Parameters
    ----------
    num_stages_per_rank
        Stages that each rank runs (v).
    activation_limit
        Activations that a rank may hold at once, in those of a micro-batch (``zb_auto``); None means 1F1B's, one per
        rank.
    weight_share
        What is left of a micro-batch's activations between its I and its W, 0 to 1 (``zb_auto``).
    barrier
        Whether the ranks update together; if not, what counts is each rank's own window (``zb_auto``).
    times
        Times of a stage's actions (``zb_auto``).
    text, path
        Rows of actions, and the file that they came from, for messages (``custom``).
    """

    num_stages_per_rank: int = 1
    activation_limit: float | None = None
    weight_share: float = 1.0
    barrier: bool = True
    times: Times = field(default_factory=Times)
    text: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        if self.activation_limit is not None and self.activation_limit < 1:
            raise ValueError(
                f"activation_limit is {self.activation_limit}: a rank must hold 1 micro-batch to work on it"
            )


@dataclass(frozen=True, slots=True)
class Schedule:
    """The actions of one training step.

    Parameters
    ----------
    placement
        Pipeline rank of each stage.
    orders
        For each rank its F, B, I and W in the order in which it runs them.
    pipelines
        Replicas of the whole model. With 2, the second half of the stages is the second replica and runs the upper
        half of the micro-batches.
    """

    placement: tuple[int, ...]
    orders: tuple[tuple[Instruction, ...], ...]
    pipelines: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleKind:
    """An entry of the registry.

    Parameters
    ----------
    name
        As written in a plan.
    build
        Function of ranks, micro-batches and options.
    description
        What it is and what it is good for, for a table.
    source
        Paper or code that it comes from.
    stages_per_rank
        How many stages a rank runs: exactly one, any number, or exactly two.
    usual_stages_per_rank
        The number to take when the plan names none.
    limits_activations
        Whether it reads ``activation_limit``.
    placement
        ``loop``: stage s on rank s mod p; ``v``: there and back again; ``bidirectional``: two replicas, head to tail.
    rule
        What else must hold.
    """

    name: str
    build: Callable[[int, int, Options], Schedule]
    description: str
    source: str
    stages_per_rank: Literal["one", "any", 2] = "one"
    usual_stages_per_rank: int = 1
    limits_activations: bool = False
    placement: Literal["loop", "v", "bidirectional"] = "loop"
    rule: Rule | None = None

    def check(self, num_ranks: int, num_microbatches: int, num_stages_per_rank: int) -> Problem | None:
        """Return what the schedule does not allow about these numbers and a way out, or None."""
        if self.stages_per_rank == "one" and num_stages_per_rank != 1:
            several = "use 1, or a schedule that takes several, as interleaved_1f1b"
            return f"{self.name} runs 1 stage per rank, not {num_stages_per_rank}", several
        if self.stages_per_rank == 2 and num_stages_per_rank != 2:
            return f"{self.name} runs 2 stages per rank, not {num_stages_per_rank}", "use 2"
        return self.rule(num_ranks, num_microbatches, num_stages_per_rank) if self.rule else None


def loop_placement(num_ranks: int, num_stages_per_rank: int = 1) -> tuple[int, ...]:
    """Return each stage's rank when the stages go round: 0 1 2 0 1 2."""
    return tuple(range(num_ranks)) * num_stages_per_rank


def v_placement(num_ranks: int, num_stages_per_rank: int = 2) -> tuple[int, ...]:
    """Return each stage's rank when the stages go there and back: 0 1 2 2 1 0."""
    there = tuple(range(num_ranks))
    back = there[::-1]
    return tuple(rank for chunk in range(num_stages_per_rank) for rank in (back if chunk % 2 else there))
