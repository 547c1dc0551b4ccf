"""How fast the engine is: events against bare SimPy, folding against every rank, a hundred thousand GPUs, the command.

    python benchmarks/engine.py [--repeat 5] [--write]

Times are medians of processor time, ratios are of medians taken within one run, so that they compare between machines.
``--write`` puts the table into docs/performance.md. It takes some minutes.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import simpy
from sections import write_section

from simulator.cost import Calibration
from simulator.cost.group import Group
from simulator.engine import simulate
from simulator.load import Inputs, load, load_topology

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

CLOCK = time.process_time

CASE = ("gpt3-175b", "dgx-a100", "gpt3-tp8-pp8")

NOTES = """## The engine

Printed by `python benchmarks/engine.py`: GPT-3 175B on DGX A100, TP 8, PP 8, 1F1B, unless a row says otherwise. Ratios
are from one run. The machine's load while this ran: {load:.1f} on {cores} cores.

{table}

- Times are processor time, because others use the machine; on a quiet one they are what a clock shows. *The whole
  process* is by the clock, and its processor time.
- *Simulate* is `simulate(program, topology, calibration)` on inputs that are loaded: the system of ranks, media and
  links, its folding, prices and events; not the writing out of spans, which happens when somebody looks at them. The
  *first* call for a program also finds out which of its instructions run back to back, and what everything costs there,
  which the program keeps: further steps, draws and calls begin with the events. Every point of a sweep is a program of
  its own and pays that, beside its compilation.
- *Events* are what SimPy takes from its queue. One of ours does more than a bare timeout: it ends what all ranks of a
  tensor-parallel group did for a micro-batch of a stage, or both ends of a message with its latency and its bytes. Such
  merging makes a simulation faster and this ratio smaller: what would be several cheap events is a costlier one. Here
  one ends what 2.6 ranks did on average, each with its entry in the records and its own followers to count.
- Folding saves events and nothing else. Tensor-parallel ranks share theirs, folded or not; and replicas whose links
  carry less of a data-parallel collective than those of others, as those at the roots of its trees do, are a class of
  their own, for messages between stages find more room there: 16 classes here for 8 stages, as among 131,072 GPUs. The
  256 beside which these are put have four replicas, whose rings load all links alike: 8 classes, half the events.
- The first call for a larger cluster routes every hop of every group: that grows with the cluster, folded or not.
- Cost grows with pipeline depth times micro-batches. A pipeline in its steady state repeats itself, and the engine
  could skip what repeats. It does not: the rows with m = 1,024 show how little of a prediction its events are, and a
  timeline must name every instruction all the same.
- An all-to-all is one flow for each link that it crosses, however many pairs there are; the routes of the pairs are
  found once for a group.
"""


class Counted(simpy.Environment):
    """Counts its events and the seconds that they take."""

    seconds = 0.0
    events = 0

    def run(self, until: Any = None) -> Any:
        began = CLOCK()
        result = super().run(until)
        Counted.seconds = CLOCK() - began
        Counted.events = next(self._eid)
        return result


def gpt3(gpus: int, **plan: int) -> Inputs:
    """Return GPT-3 on DGX A100 nodes, compiled."""
    return load(*CASE, [f"topology.nodes={gpus // 8}", *(f"plan.{key}={value}" for key, value in plan.items())])


def predicted(inputs: Inputs, *, folding: bool = True) -> float:
    """Simulate; return the step time in seconds."""
    return simulate(inputs.program, inputs.topology, Calibration(), folding=folding)[0].step_time


def timed(repeat: int, call: Callable[[], object]) -> float:
    """Return the median of the seconds that a call takes."""
    times = []
    for _ in range(repeat):
        began = CLOCK()
        call()
        times.append(CLOCK() - began)
    return statistics.median(times)


def running(repeat: int, inputs: Inputs, *, folding: bool = True) -> tuple[float, float]:
    """Return the median seconds inside SimPy, and the events a second."""
    times, rates = [], []
    with patch("simpy.Environment", Counted):
        for _ in range(repeat):
            predicted(inputs, folding=folding)
            times.append(Counted.seconds)
            rates.append(Counted.events / Counted.seconds)
    return statistics.median(times), statistics.median(rates)


def counted(inputs: Inputs, *, folding: bool = True) -> int:
    """Return the events of a simulation."""
    running(1, inputs, folding=folding)
    return Counted.events


def bare(processes: int, events: int) -> float:
    """Return the events a second of SimPy processes that do nothing but wait."""
    env = simpy.Environment()

    def wait(period: float) -> Iterable[simpy.Event]:
        for _ in range(events // processes):
            yield env.timeout(period)

    for index in range(processes):
        env.process(wait(1.0 + index / processes))  # type: ignore[arg-type]
    began = CLOCK()
    env.run()
    return events / (CLOCK() - began)


def peak_memory() -> int:
    """Return the most bytes that this process ever held; getrusage counts those of the process that started it, too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def largest(sender: Any) -> None:
    """Send the seconds of topology, compilation and simulation of 102,400 GPUs, and the process's peak of bytes."""
    began = CLOCK()
    inputs = gpt3(102_400, pp=16, num_microbatches=128)
    loaded = CLOCK()
    step = predicted(inputs)
    ended = CLOCK()
    again = timed(3, lambda: predicted(inputs))
    sender.send((loaded - began, ended - loaded, again, peak_memory(), step))


def in_a_process(target: Callable[[Any], None]) -> Any:
    """Run in a fresh process, for its memory; return what it sends."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(sender,))
    process.start()
    result = receiver.recv()
    process.join()
    return result


def command(gpus: int) -> tuple[float, float]:
    """Run ``plancast simulate`` as a process of its own; return its seconds by the clock, and of processors."""
    words = [word for pair in zip(("--model", "--topology", "--plan"), CASE, strict=True) for word in pair]
    entry = "from simulator.cli import main; main()"
    line = [sys.executable, "-c", entry, "simulate", *words, "--set", f"topology.nodes={gpus // 8}"]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    # This plan does not fit into memory, which makes the exit code 1; so does a crash, but that prints no result.
    if not subprocess.run(line, stdout=subprocess.PIPE, check=False).stdout:
        raise SystemExit(f"{' '.join(line)} printed no result")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, busy


Row = tuple[str, str, str]
"""What was measured, its value, its goal."""


def folding(repeat: int) -> Iterable[Row]:
    """Yield what folding saves."""
    inputs = gpt3(1024)
    cold = timed(1, lambda: predicted(inputs))
    folded = timed(4 * repeat, lambda: predicted(inputs))
    unfolded = timed(min(3, repeat), lambda: predicted(inputs, folding=False))
    yield "1,024 GPUs, m = 64: simulate", f"{folded * 1e3:.1f} ms", "20 ms"
    yield "the same, the first time for a program", f"{cold * 1e3:.0f} ms", "20 ms"
    yield "every rank of 1,024 GPUs", f"{unfolded:.2f} s", "4 s"
    yield "every rank / folded", f"{unfolded / folded:.0f}x", "100x"
    yield "their events", f"{counted(inputs, folding=False) / counted(inputs):.0f}x", ""
    few, many = gpt3(256), gpt3(131_072)
    (small, _), (large, _) = running(4 * repeat, few), running(repeat, many)
    yield "131,072 / 256 GPUs: events, once folded", f"{large / small:.2f}x", "1.3x"
    first = [
        min(timed(1, lambda inputs=inputs: predicted(inputs)) for inputs in [gpt3(gpus) for _ in range(min(3, repeat))])
        for gpus in (256, 131_072)
    ]
    yield "131,072 / 256 GPUs: simulate, the first time", f"{first[1] / first[0]:.1f}x", "1.3x"
    whole = timed(repeat, lambda: predicted(few)), timed(min(3, repeat), lambda: predicted(many))
    yield "131,072 / 256 GPUs: simulate, of what the program keeps", f"{whole[1] / whole[0]:.1f}x", "1.3x"


def events(repeat: int) -> Iterable[Row]:
    """Yield how the engine's events compare to bare timeouts, taken in turns."""
    processes, inputs = 1024, gpt3(1024)
    tasks = len(simulate(inputs.program, inputs.topology, Calibration(), folding=False)[0].spans)
    pairs = [(running(1, inputs, folding=False), bare(processes, 300_000)) for _ in range(repeat)]
    seconds, rate = (statistics.median(each[index] for each, _ in pairs) for index in range(2))
    reference = statistics.median(bare_rate for _, bare_rate in pairs)
    yield f"bare SimPy timeouts, {processes:,} processes", f"{reference:,.0f} /s", ""
    yield "events of the engine, every rank of 1,024", f"{rate:,.0f} /s", ""
    yield "engine / bare SimPy", f"{statistics.median(each[1] / other for each, other in pairs):.2f}x", "0.5x"
    yield "instructions that they stand for", f"{tasks / seconds:,.0f} /s", ""


def scale(repeat: int) -> Iterable[Row]:
    """Yield what a hundred thousand GPUs take, in processes of their own: a first call has no second one."""
    runs = [in_a_process(largest) for _ in range(repeat)]
    loading, simulating, again = (statistics.median(run[index] for run in runs) for index in range(3))
    together = statistics.median(run[0] + run[1] for run in runs)
    peak = max(run[3] for run in runs)
    yield "102,400 GPUs, pp 16, m = 128: topology, compiling", f"{loading:.2f} s", ""
    yield "102,400 GPUs, pp 16, m = 128: simulate, the first time", f"{simulating:.2f} s", "1 s"
    yield "both together", f"{together:.2f} s", "1 s"
    yield "the same again", f"{again:.2f} s", ""
    yield "102,400 GPUs: peak memory of the process", f"{peak / 2**20:.0f} MiB", "1024 MiB"


def long_pipeline() -> Iterable[Row]:
    """Yield the share of the events in a prediction of many micro-batches."""
    began = CLOCK()
    inputs = gpt3(1024, num_microbatches=1024)
    loaded = CLOCK() - began
    whole = timed(1, lambda: predicted(inputs))
    inside, _ = running(3, inputs)
    yield "1,024 GPUs, m = 1,024: compiling and simulate", f"{loaded + whole:.2f} s", ""
    yield "of which events", f"{inside * 1e3:.0f} ms, {inside / (loaded + whole):.1%}", ""


def all_to_all(repeat: int) -> Iterable[Row]:
    """Yield what an all-to-all of experts over 1,024 ranks takes, each rank with a message for every other."""
    changes = ["topology.nodes=128", "topology.fabric.oversubscription=2", "topology.fabric.spines=16"]
    topology = load_topology("fat-tree-4to1", changes)
    began = CLOCK()
    group = Group(topology, range(1024))
    group.options("all_to_all", 2.0**26, "direct")
    first = CLOCK() - began
    sizes = iter(range(1, 10 * repeat))
    again = timed(4 * repeat, lambda: group.options("all_to_all", 2.0**20 * next(sizes), "direct"))
    yield "all-to-all of 1,024 ranks on a 2:1 fat tree: routes of 1,047,552 pairs", f"{first:.2f} s", ""
    yield "all-to-all of 1,024 ranks on a 2:1 fat tree: its time for a size", f"{again * 1e3:.3f} ms", "10 ms"


def commands(repeat: int) -> Iterable[Row]:
    """Yield what the whole command takes."""
    for gpus, goal in ((1024, "2 s"), (16_384, "3 s")):
        taken, busy = (
            statistics.median(column) for column in zip(*(command(gpus) for _ in range(repeat)), strict=True)
        )
        yield f"plancast simulate, {gpus:,} GPUs, the whole process", f"{taken:.2f} s; processor {busy:.2f} s", goal


def rows(repeat: int) -> Iterable[Row]:
    """Yield all rows."""
    yield from folding(repeat)
    yield from events(repeat)
    yield from scale(repeat)
    yield from long_pipeline()
    yield from all_to_all(repeat)
    yield from commands(repeat)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the median counts")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    table = ["| | measured | goal |", "|---|---|---|"]
    for row in rows(options.repeat):
        print("{:<75}{:>16}   {}".format(*row).rstrip(), flush=True)
        table.append("| {} | {} | {} |".format(*row))
    if options.write:
        page = NOTES.format(load=os.getloadavg()[1], cores=os.cpu_count(), table="\n".join(table))
        write_section(PAGE, "engine", page)


if __name__ == "__main__":
    main()
