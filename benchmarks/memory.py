"""Peak activations of each rank, predicted and counted, for schedules with whole and split backwards; prints a table.

Usage: python benchmarks/memory.py [--out FILE]

The goal: within 5 % on every rank. Predictions come from the Program alone; nothing is calibrated.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from simulator.launch import Launch, run
from simulator.planning import predict
from simulator.results.compare import Comparison, compare
from simulator.results.recording import Recording, write_bytes
from simulator.units import format_bytes

SCHEDULES = ("gpipe", "1f1b", "zb_h1", "interleaved_1f1b", "zbv")

CASES = {
    "gpt-tiny": {2: [], 4: ["model.num_hidden_layers=8"]},
    "cnn-tiny": {2: [], 4: ["model.channels=[16,32,64,64]"]},
    "mlp-tiny": {2: [], 4: ["model.hidden_sizes=[256,256,256,256,256,256,256]"]},
}
"""Model -> ranks -> changes that give it enough blocks."""

SMALL = {("cnn-tiny", 4)}
"""Models that are too short for two stages a rank."""

PLAN = "name: {schedule}\npp: {ranks}\nschedule: {schedule}\nmicrobatch_size: 4\nnum_microbatches: 8\n"


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    lines = [
        "| model, ranks | schedule | predicted, by rank | counted, by rank | error by rank |",
        "|---|---|---|---|---|",
    ]
    for model, sizes in CASES.items():
        for ranks, changes in sizes.items():
            schedules = SCHEDULES[:3] if (model, ranks) in SMALL else SCHEDULES
            for schedule, comparison in measure(model, ranks, changes, schedules).items():
                lines.append(row(f"{model}, {ranks}", schedule, comparison))
                print(lines[-1], file=sys.stderr, flush=True)
    text = "\n".join([*lines, ""])
    print(text)
    if out:
        write_bytes(out, text.encode())


def measure(model: str, ranks: int, changes: list[str], schedules: tuple[str, ...]) -> dict[str, Comparison]:
    """Train a model under some schedules on this machine; return each beside its prediction."""
    with tempfile.TemporaryDirectory(prefix="plancast-") as name:
        folder = Path(name)
        plans = {schedule: folder / f"{schedule}.yaml" for schedule in schedules}
        for schedule, path in plans.items():
            path.write_text(PLAN.format(schedule=schedule, ranks=ranks), encoding="utf-8")
        launch = Launch(
            models=[model],
            topology="local-cpu",
            plans=[str(path) for path in plans.values()],
            settings=[f"topology.node.count={ranks}", *changes],
            out=folder / "out",
            steps=1,
            warmup=1,
            timeout=120,
        )
        return {
            inputs.plan.schedule: compare(
                predict(inputs).recording(), Recording.load(launch.out / job / "measured.json.gz"), inputs.program
            )
            for job, inputs in run(launch).items()
        }


def row(case: str, schedule: str, comparison: Comparison) -> str:
    """Return a line of the table."""
    pairs = [pair for _, pair in sorted(comparison.activations.items())]
    cells = [
        case,
        schedule,
        ", ".join(format_bytes(pair.predicted) for pair in pairs),
        ", ".join(format_bytes(pair.measured) for pair in pairs),
        ", ".join(f"{pair.error:+.1%}" for pair in pairs),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
