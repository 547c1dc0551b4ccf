"""The command as a whole: help, exit codes, streams, and how fast it starts."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.cli import GROUPS, VERBS
from simulator.commands.schema import json_schema

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
START = "from simulator.cli import main; main({arguments!r})"


def python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_help_names_every_verb_and_imports_none() -> None:
    code = (
        "import sys\nfrom simulator.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print([m for m in ('torch', 'simpy', 'networkx', 'pydantic', 'yaml') if m in sys.modules])"
    )
    done = python(code)
    assert done.returncode == 0
    assert done.stdout.endswith("[]\n")
    for verb in VERBS:
        assert verb.split()[0] in done.stdout


def test_help_is_quick() -> None:
    """By the work that it takes, which other load on the machine hardly changes; benchmarks/speed.py reads a clock."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        python(START.format(arguments=["--help"]))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.4


def test_simulating_never_imports_torch() -> None:
    arguments = ["simulate", "--model", "mlp-tiny", "--topology", "local-cpu", "--plan", "dp2", "--format", "csv"]
    code = (
        f"import sys\nfrom simulator.cli import main\ntry: main({arguments!r})\nfinally: print('torch' in sys.modules)"
    )
    assert python(code).stdout.endswith("False\n")


@pytest.mark.parametrize("verb", [*VERBS, *GROUPS])
def test_every_verb_has_help(run: Run, verb: str) -> None:
    done = run(*verb.split(), "--help")
    assert done.code == 0
    assert "Usage: plancast" in done.out


@pytest.mark.parametrize(
    "arguments",
    [["simulat"], ["simulate", "--modell", "x"], ["simulate"], ["check", "--format", "xml"], ["schema", "cluster"]],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err


def test_wrong_input_is_listed_at_once_on_stderr(run: Run, tiny: list[str]) -> None:
    settings = ["plan.pp=x", "plan.tpp=2", "model.hidden_size=-1", "topology.node.links.0.latency=3"]
    done = run("simulate", *tiny, "dp2", *(word for setting in settings for word in ("--set", setting)))
    assert (done.code, done.out) == (2, "")
    assert "4 errors" in done.err
    assert "did you mean" in done.err


def test_an_output_that_cannot_be_written_is_one_line(run: Run, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("simulate", *tiny, "dp2", "-o", tmp_path / "file" / "x.json")
    assert done.code == 2
    assert done.err.count("\n") == 1


def test_a_closed_pipe_is_no_error(tiny: list[str]) -> None:
    arguments = ["program", "show", *tiny, "pp2", "--set", "plan.num_microbatches=2000"]
    done = subprocess.run(
        f'{sys.executable} -c "{START.format(arguments=arguments)}" | head -1',
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.parametrize(("document", "folder"), [("model", "models"), ("plan", "plans"), ("topology", "topologies")])
def test_the_committed_schemas_are_current(run: Run, document: Any, folder: str) -> None:
    path = ROOT / folder / f"{document}.schema.json"
    assert path.read_text() == json_schema(document), f"plancast schema {document} -o {path.relative_to(ROOT)}"
    assert run("schema", document).out == path.read_text()
    for preset in (ROOT / folder).glob("*.yaml"):
        assert preset.read_text().startswith(f"# yaml-language-server: $schema={document}.schema.json\n")


def test_version(run: Run) -> None:
    assert run("version").out == run("--version").out


def test_topology_show(run: Run) -> None:
    out = run("topology", "show", "dgx-a100", "--set", "topology.nodes=2").out
    assert "16 ranks on 2 nodes" in out
    assert "…" not in out
    assert json.loads(run("topology", "show", "ring-8", "--format", "json").out)["world_size"] == 8


def test_program_show(run: Run, tiny: list[str]) -> None:
    out = run("program", "show", *tiny, "pp2", "--limit", 2).out
    assert "0SEND_F0" in out
    assert "32 more" in out
    everything = json.loads(run("program", "show", *tiny, "pp2", "--format", "json").out)["pipeline_ranks"]
    assert everything[0][:2] == ["0F0.0", "0SEND_F0"]
    detail = json.loads(run("program", "show", *tiny, "tp2", "--rank", 1, "--format", "json").out)["instructions"]
    reduce = next(each for each in detail if each["stream"] == "tp")
    assert reduce["operation"] == "all_reduce"
    assert reduce["ranks"] == [0, 1]
    assert reduce["bytes"] == 8 * 128 * 256 * 4  # micro-batch x tokens x hidden x fp32
    assert "block0.attention" in run("program", "show", *tiny, "tp2", "--rank", 1, "--limit", 3).out
    assert run("program", "show", *tiny, "tp2", "--rank", 2).code == 2
