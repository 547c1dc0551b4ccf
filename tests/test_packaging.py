"""What a user gets from `pip install`: typed packages, the presets, and a simulator that works without torch."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from simulator.errors import InputError
from simulator.inputs.presets import preset_names, preset_path

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("models", "plans", "topologies", "topologies/devices")

IMPORT_ALL = """
import importlib, pkgutil, sys
import simulator
for module in pkgutil.walk_packages(simulator.__path__, "simulator."):
    importlib.import_module(module.name)
unwanted = {"executor", "torch"} & set(sys.modules)
assert not unwanted, f"importing simulator brought in {unwanted}"
"""

SHOW_PRESETS = """
from simulator.inputs.presets import preset_names, preset_path
for kind in ("models", "plans", "topologies", "topologies/devices"):
    for name in preset_names(kind):
        print(preset_path(kind, name))
"""


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the hatchling of this environment, so that no network is needed."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_typed_packages_and_presets(wheel: Path) -> None:
    held = set(ZipFile(wheel).namelist())
    assert {"simulator/py.typed", "executor/py.typed", "executor/__init__.py"} <= held
    for kind in KINDS:
        assert {f"simulator/presets/{kind}/{file.name}" for file in (ROOT / kind).glob("*.*")} <= held
    assert {name.split("/")[0].split("-")[0] for name in held} == {"simulator", "executor", "plancast"}


def test_presets_are_found_without_a_checkout(wheel: Path, tmp_path: Path) -> None:
    ZipFile(wheel).extractall(tmp_path)
    shown = run(sys.executable, "-c", SHOW_PRESETS, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    inside = tmp_path.resolve() / "simulator" / "presets"
    assert shown.split("\n")[:-1] == [
        str(inside / kind / f"{name}.yaml") for kind in KINDS for name in preset_names(kind)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_each_preset_name_leads_to_its_file(kind: str) -> None:
    assert preset_names(kind)
    assert all(preset_path(kind, name).is_file() for name in preset_names(kind))


def test_unknown_preset_names_a_way_out() -> None:
    name = preset_names("topologies")[0]
    with pytest.raises(InputError, match=f"did you mean {name}"):
        preset_path("topologies", name + "x")
    with pytest.raises(InputError, match=f"there are: {name}"):
        preset_path("topologies", "../../etc/passwd")


def test_simulator_never_imports_torch() -> None:
    run(sys.executable, "-W", "error", "-c", IMPORT_ALL)


@pytest.mark.slow
def test_core_dependencies_are_enough(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    bin_folder = tmp_path / "venv" / "bin"
    run(bin_folder / "python", "-m", "pip", "install", "-qq", wheel, "-c", ROOT / "constraints.txt")
    run(bin_folder / "python", "-c", IMPORT_ALL, cwd=tmp_path)
    assert "simulate" in run(bin_folder / "plancast", "--help", cwd=tmp_path)
