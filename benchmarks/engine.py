"""How fast the engine is: events against bare SimPy, folding against every rank, a hundred thousand GPUs.

    python benchmarks/engine.py [--repeat 5] [--write]

Ratios are of medians taken within one run, so that they compare between machines. ``--write`` puts the table into
docs/performance.md.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import simpy
from sections import write_section

from simulator.cost import Calibration
from simulator.engine import simulate
from simulator.load import Inputs, load

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

CASE = ("gpt3-175b", "dgx-a100", "gpt3-tp8-pp8")


class Counted(simpy.Environment):
    """Counts its events and the seconds that they take."""

    seconds = 0.0
    events = 0

    def run(self, until: Any = None) -> Any:
        began = time.perf_counter()
        result = super().run(until)
        Counted.seconds = time.perf_counter() - began
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
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def running(repeat: int, inputs: Inputs, *, folding: bool = True) -> tuple[float, float]:
    """Return the median seconds inside SimPy, and the events a second."""
    times, rates = [], []
    with patch("simulator.engine.run.simpy.Environment", Counted):
        for _ in range(repeat):
            predicted(inputs, folding=folding)
            times.append(Counted.seconds)
            rates.append(Counted.events / Counted.seconds)
    return statistics.median(times), statistics.median(rates)


def bare(processes: int, events: int) -> float:
    """Return the events a second of SimPy processes that do nothing but wait."""
    env = simpy.Environment()

    def wait(period: float) -> Iterable[simpy.Event]:
        for _ in range(events // processes):
            yield env.timeout(period)

    for index in range(processes):
        env.process(wait(1.0 + index / processes))  # type: ignore[arg-type]
    began = time.perf_counter()
    env.run()
    return events / (time.perf_counter() - began)


def largest(sender: Any) -> None:
    """Send the seconds of topology, compilation and simulation of 102,400 GPUs, and the process's peak of bytes."""
    began = time.perf_counter()
    inputs = gpt3(102_400, pp=16, num_microbatches=128)
    loaded = time.perf_counter()
    step = predicted(inputs)
    ended = time.perf_counter()
    again = timed(3, lambda: predicted(inputs))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sender.send((loaded - began, ended - loaded, again, peak, step))


def in_a_process(target: Callable[[Any], None]) -> Any:
    """Run in a fresh process, for its memory; return what it sends."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(sender,))
    process.start()
    result = receiver.recv()
    process.join()
    return result


def rows(repeat: int) -> Iterable[tuple[str, str, str]]:
    """Yield what was measured, its value, its goal."""
    inputs = gpt3(1024)
    began = time.perf_counter()
    predicted(inputs)
    first = time.perf_counter() - began
    folded = timed(repeat, lambda: predicted(inputs))
    unfolded = timed(1, lambda: predicted(inputs, folding=False))
    yield "1,024 GPUs, m = 64, folded", f"{folded * 1e3:.1f} ms", "20 ms"
    yield "the same, the first time for a program", f"{first * 1e3:.0f} ms", ""
    yield "every rank of 1,024 GPUs", f"{unfolded:.2f} s", "4 s"
    yield "every rank / folded", f"{unfolded / folded:.0f}x", "100x"

    processes = 1024
    _, rate = running(3, gpt3(1024, num_microbatches=16), folding=False)
    reference = statistics.median(bare(processes, 300_000) for _ in range(3))
    yield f"bare SimPy timeouts, {processes:,} processes", f"{reference:,.0f} /s", ""
    yield "events of the engine, every rank of 1,024", f"{rate:,.0f} /s", ""
    yield "engine / bare SimPy", f"{rate / reference:.2f}x", "0.5x"

    few, many = gpt3(256), gpt3(131_072)
    (small, _), (large, _) = running(repeat, few), running(repeat, many)
    yield "131,072 / 256 GPUs, simulation once folded", f"{large / small:.2f}x", "1.3x"
    whole = timed(1, lambda: predicted(few)), timed(1, lambda: predicted(many))
    yield "131,072 / 256 GPUs, with the building and folding", f"{whole[1] / whole[0]:.1f}x", ""

    loading, simulating, again, peak, _ = in_a_process(largest)
    yield "102,400 GPUs, pp 16, m = 128: topology, compiling", f"{loading:.2f} s", ""
    yield "102,400 GPUs, pp 16, m = 128: simulate", f"{simulating:.2f} s", "1 s"
    yield "the same again", f"{again:.2f} s", ""
    yield "102,400 GPUs: peak memory of the process", f"{peak / 2**20:.0f} MiB", "1024 MiB"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the median counts")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    lines = ["| GPT-3 175B on DGX A100, TP 8, PP 8 | measured | goal |", "|---|---|---|"]
    for row in rows(options.repeat):
        print("{:<55}{:>16}   {}".format(*row).rstrip(), flush=True)
        lines.append("| {} | {} | {} |".format(*row))
    if options.write:
        title = "## The engine\n\nPrinted by `python benchmarks/engine.py`; ratios are from one run.\n\n"
        write_section(PAGE, "engine", title + "\n".join(lines))


if __name__ == "__main__":
    main()
