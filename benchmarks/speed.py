"""How fast predictions are: the whole command, the engine against bare SimPy, folding against simulating every rank.

    python benchmarks/speed.py [--repeat 5] [--check]

Each figure is the best of several runs, because other work on the machine only ever adds time. Ratios are taken within
one run of this file, so that they compare between machines. ``--check`` exits with 1 when the command misses its goal.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import simpy

from simulator.cost import Calibration
from simulator.engine import simulate
from simulator.load import Inputs, load
from simulator.program import verify
from simulator.program.schedules import SCHEDULES, Options, Schedule, ScheduleKind
from simulator.program.schedules.one_step import verify_schedule

T = TypeVar("T")

GOAL = 2.0
"""Seconds of the whole process for GPT-3 on 1,024 GPUs."""

CASE = ("gpt3-175b", "dgx-a100", "gpt3-tp8-pp8")
COMMAND = [
    *(sys.executable, "-c", "from simulator.cli import main; main()", "simulate"),
    *(word for pair in zip(("--model", "--topology", "--plan"), CASE, strict=True) for word in pair),
    *("--set", "topology.nodes=128"),
]
BARE_EVENTS = 100_000
LARGE = (64, 1024)
"""Ranks and micro-batches of schedules whose making and verifying are measured."""


def best(repeat: int, call: Callable[[], T], clock: Callable[[], float] = time.perf_counter) -> tuple[float, T]:
    """Return the shortest time in seconds, and what the last call returned."""
    times = []
    for _ in range(repeat):
        began = clock()
        result = call()
        times.append(clock() - began)
    return min(times), result


def command() -> tuple[float, float]:
    """Run the command; return the seconds, and the processor seconds, that it took."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(COMMAND, stdout=subprocess.PIPE, check=False)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    # This plan does not fit into memory, which makes the exit code 1; so does a crash, but that prints no result.
    if not done.stdout:
        raise SystemExit(f"the command ended with {done.returncode} and no result")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bare_simpy() -> None:
    """Let one SimPy process wait again and again."""
    env = simpy.Environment()

    def wait() -> Iterable[simpy.Event]:
        for _ in range(BARE_EVENTS):
            yield env.timeout(1.0)

    env.process(wait())  # type: ignore[arg-type]
    env.run()


def predicted(inputs: Inputs, *, folding: bool = True) -> tuple[float, int, int]:
    """Simulate; return the step time in seconds, the number of spans, and of ranks that were simulated."""
    timeline, _ = simulate(inputs.program, inputs.topology, Calibration(), folding=folding)
    return timeline.step_time, len(timeline.spans), len(timeline.ranks)


def large(kind: ScheduleKind) -> Schedule:
    """Return a schedule of 64 ranks, 1,024 micro-batches and, where that is free, 4 stages per rank."""
    stages = 4 if kind.stages_per_rank == "any" else kind.usual_stages_per_rank
    return kind.build(LARGE[0], LARGE[1], Options(num_stages_per_rank=stages))


def large_program() -> Inputs:
    """Return the largest schedule as a compiled program."""
    changes = {
        "topology.nodes": LARGE[0] // 8,
        "plan.tp": 1,
        "plan.pp": LARGE[0],
        "plan.num_microbatches": LARGE[1],
        "plan.schedule": "interleaved_zero_bubble",
        "plan.num_stages_per_rank": 4,
        "model.num_hidden_layers": 4 * LARGE[0],
    }
    return load(*CASE, [f"{key}={value}" for key, value in changes.items()])


def schedules(repeat: int) -> None:
    """Measure, in processor time, making and verifying each schedule; print the slowest, and the largest's program."""
    made, verified = {}, {}
    for name, kind in SCHEDULES.items():
        if name != "custom":
            made[name], schedule = best(repeat, partial(large, kind), time.process_time)
            verified[name], _ = best(repeat, partial(verify_schedule, schedule, LARGE[1]), time.process_time)
    for verb, seconds in (("make", made), ("verify", verified)):
        slowest = max(seconds, key=lambda name: seconds[name])
        title = f"{verb} a schedule, p = {LARGE[0]}, m = {LARGE[1]:,}, v = 4"
        show(title, f"{seconds[slowest]:.2f} s", f"the slowest, {slowest}")
    program = large_program().program
    proving, _ = best(repeat, lambda: verify(program), time.process_time)
    show("verify the largest one's program", f"{proving:.2f} s", f"{sum(map(len, program.lists)):,} instructions")


def show(name: str, value: str, note: str = "") -> None:
    """Print one row."""
    print(f"{name:<46}{value:>16}   {note}".rstrip())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the best counts")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 when the command takes over {GOAL:g} s")
    options = parser.parse_args()
    repeat: int = options.repeat

    whole, busy = (min(column) for column in zip(*(command() for _ in range(repeat)), strict=True))
    show("plancast simulate, GPT-3 on 1,024 GPUs", f"{whole:.2f} s", f"goal {GOAL:g} s; processor {busy:.2f} s")
    compiling, inputs = best(repeat, lambda: load(*CASE, ["topology.nodes=128"]))
    simulating, (_, spans, ranks) = best(repeat, lambda: predicted(inputs))
    show("  read, compile and verify", f"{compiling:.2f} s")
    show("  simulate", f"{simulating:.2f} s", f"{spans:,} instructions of {ranks} ranks that stand for 1,024")

    bare, _ = best(repeat, bare_simpy)
    ratio = (BARE_EVENTS / bare) / (spans / simulating)
    show("bare SimPy timeouts", f"{BARE_EVENTS / bare:,.0f} /s")
    show("simulated instructions", f"{spans / simulating:,.0f} /s", f"one costs {ratio:.1f} bare timeouts")

    few = load(*CASE, ["topology.nodes=32", "plan.num_microbatches=4"])
    folded, (step, *_) = best(repeat, lambda: predicted(few))
    unfolded, (reference, many, _) = best(1, lambda: predicted(few, folding=False))
    same = f"same step time to {abs(step / reference - 1):.0e}"
    show("folding, 256 GPUs, 4 micro-batches", f"{unfolded / folded:.0f} x faster", f"{same}; {many:,} instructions")
    schedules(min(repeat, 3))
    if options.check and whole > GOAL:
        raise SystemExit(f"{whole:.2f} s is over the goal of {GOAL:g} s")


if __name__ == "__main__":
    main()
