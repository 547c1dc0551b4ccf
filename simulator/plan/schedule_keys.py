"""What a plan says of its schedule."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from simulator.errors import Problems
from simulator.plan.schema import PlanSchema
from simulator.units import format_bytes, parse_bytes

MAX_FORWARDS = 2**20
"""Forward passes of all stages in one step: four times those of 64 ranks, 4 stages each, and 1,024 micro-batches."""

MAX_SCHEDULE_FILE = int(parse_bytes("64 MiB"))
"""Size of a file of actions; that of 64 ranks, 4 stages each, and 1,024 micro-batches is a tenth of it."""


class ScheduleRules(Protocol):
    """What resolving a plan must know of a schedule."""

    @property
    def usual_stages_per_rank(self) -> int:
        """Virtual stages of a rank when the plan names none."""

    @property
    def limits_activations(self) -> bool:
        """Whether it can be told how many micro-batches a rank may hold."""

    def check(self, num_ranks: int, num_microbatches: int, num_stages_per_rank: int) -> tuple[str, str] | None:
        """Return what is not allowed and a way out, or None."""


def stages_per_rank(
    spec: PlanSchema, schedules: Mapping[str, ScheduleRules], num_microbatches: int | None, problems: Problems
) -> int:
    """Return the virtual stages of a rank, after reporting what the schedule does not allow."""
    rules = schedules.get(spec.schedule)
    if rules is None:
        close = get_close_matches(spec.schedule.lower(), schedules, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(schedules)}"
        problems.add("plan.schedule", f"{spec.schedule!r} is not a schedule", hint)
        return 1
    if spec.activation_limit is not None and not rules.limits_activations:
        message = f"is not read by schedule {spec.schedule}"
        problems.add("plan.activation_limit", message, "leave it out, or set schedule: zb_auto")
    number = spec.num_stages_per_rank or rules.usual_stages_per_rank
    broken = rules.check(spec.pp, num_microbatches, number) if num_microbatches else None
    if broken:
        key = "num_stages_per_rank" if spec.num_stages_per_rank else "schedule"
        problems.add(f"plan.{key}", broken[0], broken[1])
    return number


def check_length(num_stages: int, num_microbatches: int, problems: Problems) -> None:
    """A step is a list of instructions; one that is longer than memory is refused before it is written."""
    if num_stages * num_microbatches > MAX_FORWARDS:
        problems.add(
            "plan.num_microbatches",
            f"{num_microbatches} micro-batches through {num_stages} stages are {num_stages * num_microbatches:,} "
            f"forward passes, more than the {MAX_FORWARDS:,} there may be",
            f"at most {MAX_FORWARDS // num_stages}; larger micro-batches, or fewer in a step",
        )


def schedule_text(spec: PlanSchema, problems: Problems) -> str:
    """Return the content of the file that the schedule ``custom`` reads."""
    if (spec.schedule == "custom") != (spec.schedule_file is not None):
        problems.add(
            "plan.schedule_file",
            "is missing for schedule custom"
            if spec.schedule_file is None
            else f"is not read by schedule {spec.schedule}",
            "give the file" if spec.schedule_file is None else "set schedule: custom",
        )
        return ""
    if spec.schedule_file is None:
        return ""
    hint = "a plan file names it from its own folder, --set from the working directory"
    path = Path(spec.schedule_file)
    if path.exists() and not (path.is_file() and path.stat().st_size <= MAX_SCHEDULE_FILE):
        message = f"{path} is no file of at most {format_bytes(MAX_SCHEDULE_FILE)}"
        problems.add("plan.schedule_file", message, hint)
        return ""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.add("plan.schedule_file", f"{spec.schedule_file} cannot be read: {reason.lower()}", hint)
        return ""
