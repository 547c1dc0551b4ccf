"""`plancast topology import` and `export`: files in, files out, and a prediction on what came out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.cli import VERBS
from simulator.topology.importers import FORMATS

Run = Callable[..., Any]
FIXTURES = Path(__file__).parents[1] / "topology" / "importers" / "fixtures"

IMPORTS = [
    ("nccl", "nccl-a100.xml", [], 4),
    ("nccl", "nccl-vm.xml", ["--pcie-bandwidth", "31.5 GB/s"], 4),
    ("nccl", "nccl-a100.xml", ["--nodes", "3"], 12),
    ("nvidia-smi", "nvidia-smi-h100.txt", ["--device", "H100-SXM-80GB"], 8),
    ("nvidia-smi", "nvidia-smi-pcie.txt", ["--device", "A100-PCIe-80GB", "--pcie-bandwidth", "31.5 GB/s"], 4),
    ("nvidia-smi", "nvidia-smi-a100-mesh.txt", ["--device", "dgx-a100:A100-SXM-80GB"], 4),
    ("slurm", "topology.conf", ["--node", "dgx-a100", "--oversubscription", "2"], 48),
    ("slurm", "topology.yaml", ["--node", "two-node-ethernet"], 16),
    ("slurm", "topology-one.conf", ["--node", "dgx-h100"], 1024),
    ("astra-sim", "astra-sim-3d.yml", ["--device", "H100-SXM-80GB"], 64),
    ("simai", "simai-rail-16", [], 16),
    ("infragraph", "infragraph-composed.json", [], 4),
    (
        "infragraph",
        "infragraph-clos.yaml",
        ["--device", "A100-SXM-80GB", "--link", "nvlink=300 GB/s,1 us", "--link", "pcie=31.5 GB/s,1.5 us"],
        4,
    ),
]


@pytest.mark.parametrize(
    ("kind", "file", "options", "ranks"), IMPORTS, ids=[f"{file} x {ranks}" for _, file, _, ranks in IMPORTS]
)
def test_what_is_imported_can_be_simulated(
    kind: str, file: str, options: list[str], ranks: int, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "cluster.yaml"
    done = run("topology", "import", kind, FIXTURES / file, *options, "-o", out)
    assert (done.code, done.out, done.err) == (0, "", "")
    plan = ["--plan", "single", "--set", f"plan.dp={ranks}"]
    done = run("simulate", "--model", "gpt-tiny", "--topology", out, *plan, "--format", "json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["world_size"] == ranks
    assert result["step_time_s"] > 0


def test_every_format_is_tried() -> None:
    assert {kind for kind, _, _, _ in IMPORTS} == set(FORMATS)
    assert {"topology import", "topology export"} <= set(VERBS)


def test_import_prints_without_a_file(run: Run) -> None:
    done = run("topology", "import", "simai", FIXTURES / "simai-rail-16", "--name", "rails")
    assert done.code == 0
    assert done.out.startswith("name: rails\ndescription: ")


def test_export_and_import_again(run: Run, tmp_path: Path) -> None:
    there, back = tmp_path / "graph.yaml", tmp_path / "cluster.yaml"
    assert run("topology", "export", "infragraph", "dgx-a100", "--set", "topology.nodes=2", "-o", there).code == 0
    assert run("topology", "import", "infragraph", there, "-o", back).code == 0
    shown = json.loads(run("topology", "show", back, "--format", "json").out)
    assert (shown["world_size"], shown["devices"][0]["kind"]) == (16, "A100-SXM-80GB")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pcie-bandwidth", "31.5"], '--pcie-bandwidth 31.5: "31.5" has no unit'),
        (["--pcie-bandwidth", "0 GB/s"], "is not more than zero"),
        (["--node", "dgx-a100"], "--node: says nothing to the format nccl; leave --node out"),
        (["--nodes", "0"], "--nodes"),
        (["--link", "pcie"], "--link pcie: is not NAME=BANDWIDTH,LATENCY"),
        (["--link", "pcie=1 GB/s,1"], '"1" has no unit'),
        (["--device", "A100"], "--device A100: no device kind is called A100"),
    ],
)
def test_wrong_options(options: list[str], message: str, run: Run) -> None:
    done = run("topology", "import", "nccl", FIXTURES / "nccl-a100.xml", *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_imported_nodes_are_repeated_and_joined(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "cluster.yaml"
    assert run("topology", "import", "nccl", FIXTURES / "nccl-a100.xml", "--nodes", "3", "-o", out).code == 0
    shown = json.loads(run("topology", "show", out, "--format", "json").out)
    assert (shown["num_nodes"], shown["world_size"]) == (3, 12)
    assert "one ideal switch" in shown["sources"]["fabric"]
    assert shown["sources"]["collectives between nodes"].startswith("taken over from ")


def test_nodes_without_network_cards_are_not_joined(run: Run) -> None:
    options = ["--device", "H100-SXM-80GB", "--nodes", "2"]
    done = run("topology", "import", "nvidia-smi", FIXTURES / "nvidia-smi-h100.txt", *options)
    assert done.code == 2
    assert "--nodes 2: the node has no network card that could join it to others; import" in done.err


def test_missing_files(run: Run, tmp_path: Path) -> None:
    for kind in FORMATS:
        options = ["--node", "dgx-a100"] if kind == "slurm" else []
        done = run("topology", "import", kind, tmp_path / "nowhere", *options)
        assert done.code == 2
        assert "cannot be read: no such file" in done.err
