"""Predicted against measured on real, slow networks: ``plancast validate --netlab`` over all netlab topologies.

Computations are emulated, messages are gloo's over network namespaces. Writes a section of docs/fidelity.md.

    sudo .venv/bin/python benchmarks/netlab.py
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sections import write_section

from simulator.inputs.presets import preset_names
from simulator.launch import Launch
from simulator.planning.netlab import LabValidation, validate_in_netlab
from simulator.results.recording import Recording
from simulator.units import format_bandwidth, format_seconds

GOAL = 0.08
"""Median |error| that is aimed at."""

MODEL = {
    "name": "moe-slow",
    "family": "moe",
    "num_hidden_layers": 4,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "sequence_length": 64,
    "num_experts": 4,
    "num_experts_per_token": 2,
}
"""So small that its gradients cross these links within a second."""

PLANS: dict[str, dict[str, Any]] = {
    "dp4": {"dp": 4, "num_microbatches": 1},
    "fsdp4": {"dp": 4, "sharding": "fsdp", "num_microbatches": 1},
    "tp4": {"tp": 4, "num_microbatches": 1},
    "ep4": {"dp": 4, "ep": 4, "num_microbatches": 1},
    "pp4": {"pp": 4, "num_microbatches": 8},
}

MICROBATCH = 8
"""Sequences of a micro-batch."""

STEPS = 2
"""Measured steps of a plan: the network is steady, and starting its processes takes longer than these."""


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name in preset_names("topologies") if name.startswith("netlab-")]
    parser.add_argument(
        "--topology", action="append", choices=names, help="this one alone, written nowhere; repeatable"
    )
    parser.add_argument("--plan", action="append", choices=list(PLANS), help="this one alone; repeatable")
    parser.add_argument("--out", type=Path, default=Path("docs/fidelity.md"))
    arguments = parser.parse_args()
    found: dict[str, LabValidation] = {}
    about: dict[str, str] = {}
    for topology in arguments.topology or names:
        found[topology], about = run(topology, arguments.plan or list(PLANS))
        print("\n".join(table(topology, found[topology])), flush=True)
        if not arguments.topology and not arguments.plan:
            # After each topology: a run that is cut short keeps what it has.
            tables = [line for item in found.items() for line in table(*item)]
            write_section(arguments.out, "netlab", "\n".join([*head(about), *tables, "", verdict(found)]))
    print(verdict(found))


def run(topology: str, plans: Sequence[str]) -> tuple[LabValidation, dict[str, str]]:
    """Validate plans on a topology in one launch; return also what the run says of its machine."""
    with tempfile.TemporaryDirectory(prefix="plancast-") as name:
        folder = Path(name)
        (folder / "model.yaml").write_text(json.dumps(MODEL), encoding="utf-8")
        for plan in plans:
            body = {"name": plan, "microbatch_size": MICROBATCH, **PLANS[plan]}
            (folder / f"{plan}.yaml").write_text(json.dumps(body), encoding="utf-8")
        launch = Launch(
            models=[str(folder / "model.yaml")],
            topology=topology,
            plans=[str(folder / f"{plan}.yaml") for plan in plans],
            out=folder,
            steps=STEPS,
            warmup=1,
            timeout=120,
        )
        found = validate_in_netlab(launch)
        return found, dict(Recording.load(next(folder.glob("*/measured.json.gz"))).about)


def head(about: dict[str, str]) -> list[str]:
    """Return what was done, when and where."""
    return [
        "## Slow networks on one machine",
        "",
        "Written by `python benchmarks/netlab.py`; do not edit.",
        "",
        f"{datetime.date.today():%d %B %Y}; {about['device']}, {about['machine']}; torch {about['torch']} with gloo, "
        f"Python {platform.python_version()}. {STEPS} steps of each plan in turn. Hosts are network namespaces, links "
        "are shaped (docs/netlab.md); computations are emulated, messages real. Predictions take the rates of "
        "links from the topology, and the latency of a message from messages between two hosts, measured before; the "
        "plans' own steps are not looked at.",
    ]


def table(topology: str, found: LabValidation) -> list[str]:
    """Return the table of one topology."""
    wire = found.wire
    lines = [
        "",
        f"### {topology}",
        "",
        f"A message takes {format_seconds(wire.latency)}, and {format_bandwidth(wire.rate)} of payload pass "
        f"({format_bandwidth(wire.expected)} expected).",
        "",
        "| plan | predicted | measured | error | exposed communication pred. / meas. |",
        "|---|---|---|---|---|",
    ]
    for result in found.results:
        step, exposed = result.comparison.step_time, result.comparison.exposed_comm_time
        cells = [
            result.name.removeprefix(f"{MODEL['name']}-"),
            format_seconds(step.predicted),
            format_seconds(step.measured),
            f"{result.comparison.error:+.1%}",
            f"{format_seconds(exposed.predicted)} / {format_seconds(exposed.measured)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(found: dict[str, LabValidation]) -> str:
    """Return how the errors of all topologies stand to the goal."""
    errors = [result.comparison.error for each in found.values() for result in each.results]
    sizes = sorted(map(abs, errors))
    return (
        f"|error| over {len(errors)} runs on {len(found)} topologies: median {median(sizes):.1%} (goal {GOAL:.0%}), "
        f"worst {sizes[-1]:.1%}, median signed error {median(errors):+.1%}"
    )


if __name__ == "__main__":
    main()
