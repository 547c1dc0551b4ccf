"""The command, and what a user is told whose module cannot be imported or run."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from executor.tracing.document import document  # noqa: E402
from executor.tracing.imported import Imported  # noqa: E402
from executor.tracing.source import build_fake  # noqa: E402
from simulator.cli import main  # noqa: E402
from simulator.errors import ExecutionError, InputError  # noqa: E402
from simulator.load import load  # noqa: E402
from simulator.model.module import module_source  # noqa: E402
from simulator.reports.yaml_text import yaml_text  # noqa: E402
from tests.tracing.models import write  # noqa: E402

HEAD = "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n"
HEAD += "    def __init__(self):\n        super().__init__()\n"
BODY = "        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)\n\n    def forward(self, x):\n"


def refused(folder: Path, forward: str, init: str = BODY, *inputs: str) -> str:
    """Return what is said of a module with this forward."""
    path = folder / "net.py"
    path.write_text(HEAD + init + "".join(f"        {line}\n" for line in forward.splitlines()))
    source = module_source(f"{path}:Net", list(inputs or ("4",)), None, "cross_entropy")
    with pytest.raises(InputError) as error:
        document(build_fake(source.path), source)
    return str(error.value)


@pytest.mark.parametrize(
    ("forward", "line", "said"),
    [
        ("if x.sum() > 0:\n    x = x * 2\nreturn self.a(x)", 11, "branch on Python values"),
        ("return self.a(x.view(7))", 11, "cannot be traced: RuntimeError"),
        ("y = self.a(x)\ny[:, 0] = 1.0\nreturn self.b(y)", 12, "changes a part of a tensor that is read again"),
        ("return self.b(self.a(x) - self.a(x).mean(0))", 11, "reads a.weight, which a has read before"),
        ("y = self.a(x)\nreturn self.b(y) * self.b.weight.sum()", 12, "reads b.weight, which b has read before"),
        ("y = self.a(x).relu()\nreturn self.b(y @ y.t() @ y)", 12, "does not grow with the samples"),
    ],
)
def test_the_line_of_the_module_is_named(tmp_path: Path, forward: str, line: int, said: str) -> None:
    message = refused(tmp_path, forward)
    assert f"net.py:{line}: " in message
    assert said in message


def test_a_constructor_that_raises(tmp_path: Path) -> None:
    init = "        raise ValueError('no such size')\n\n    def forward(self, x):\n"
    message = refused(tmp_path, "return x", init)
    assert "net.py:8: " in message
    assert "raised ValueError: no such size" in message


def test_no_prediction_among_the_outputs(tmp_path: Path) -> None:
    assert "forward returns nothing that is a prediction" in refused(tmp_path, "return self.a(x).sum()")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope:Net", "--input", "4"], "cannot be imported: ModuleNotFoundError"),
        (["tests.tracing.nets:Nope", "--input", "4"], "has no Nope; it has"),
        (["tests.tracing.nets", "--input", "4"], "write package.module:function"),
        (["nowhere.py:Net", "--input", "4"], "there is no file nowhere.py"),
        (["tests.tracing.nets:mlp", "--input", "4x"], "'4x' is no tensor; write 3x224x224"),
        (["tests.tracing.nets:mlp", "--input", "4", "--input", "3:int:5"], "travel as one tensor"),
        (["tests.tracing.nets:mlp", "--input", "4", "--loss", "module"], "needs a target"),
        (["tests.tracing.nets:mlp", "--input", "5"], "[2, 5] X [12, 16]"),
    ],
)
def test_mistakes_end_with_exit_code_2(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(SystemExit) as exit:
        main(["model", "import", *arguments])
    assert exit.value.code == 2
    assert said in capfd.readouterr().err


def test_a_file_is_written_that_other_verbs_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    path = tmp_path / "mlp.yaml"
    with pytest.raises(SystemExit) as exit:
        main(["model", "import", "tests.tracing.nets:mlp", "--input", "12", "-o", str(path)])
    assert exit.value.code == 0
    assert "5 layers, 0 of them traced" in capfd.readouterr().out
    inputs = load(str(path), "local-cpu", "tp2")
    assert inputs.graph.num_parameters == 12 * 16 + 16 + 16 * 16 + 16 + 16 * 5 + 5


def test_plans_that_cut_layers_do_not_run(tmp_path: Path) -> None:
    inputs = load(write("mlp", tmp_path), "local-cpu", "tp2")
    with pytest.raises(ExecutionError, match=r"mlp runs whole layers, and tp\(2\) cuts them; set tp 1"):
        Imported(inputs.graph, inputs.plan, torch.float32, torch.device("cpu"))


def test_random_numbers_do_not_run(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    forward = "    def forward(self, x):\n        return nn.functional.dropout(self.a(x), 0.1)\n"
    path.write_text(f"{HEAD}        self.a = nn.Linear(4, 4)\n\n{forward}")
    source = module_source(f"{path}:Net", ["4"], None, "mse")
    keys = {"name": "net", "module": source.path, "inputs": ["4"], "loss": "mse"}
    model = tmp_path / "net.yaml"
    model.write_text(yaml_text(keys | document(build_fake(source.path), source)))
    inputs = load(str(model), "local-cpu", "dp2")
    with pytest.raises(ExecutionError, match=r"net\.py:11: dropout draws random numbers"):
        Imported(inputs.graph, inputs.plan, torch.float32, torch.device("cpu"))
