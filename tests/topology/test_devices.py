"""The device library: every file loads and says its sources; `from` takes a file and replaces some of its keys."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.inputs.presets import preset_names
from simulator.topology import Device, DeviceSchema, Topology, build_device, json_schema

Build = Callable[..., Topology]
LIBRARY = "topologies/devices"
NAMES = preset_names(LIBRARY)  # type: ignore[arg-type]
MEASURED = ("a100-sxm-80gb", "a100-pcie-80gb", "h100-sxm", "b200-sxm", "gb200", "gb300", "mi300x", "v100-sxm2-32gb")
WANTED = (
    "v100-sxm2-32gb a100-sxm-40gb a100-sxm-80gb a100-pcie-80gb h100-sxm h100-pcie h100-sxm-96gb-500w h200-sxm h800-sxm "
    "b200-sxm gb200 b300-sxm gb300 mi250x mi300x tpu-v4 l40s a10g rtx-4090 p40 cpu-core"
)


def device(**keys: object) -> Device:
    return build_device("it", DeviceSchema.model_validate(keys))


def test_the_library_has_what_the_field_trains_on() -> None:
    assert set(WANTED.split()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_loads_and_says_where_its_numbers_come_from(name: str) -> None:
    found = device(**{"from": name})
    assert found.library == name
    assert len(found.source) > 20 and len(found.efficiency_source) > 20
    known = found.efficiency
    fractions = [known.matmul, known.memory, *known.by_dtype.values()]
    fractions += [known.attention.forward, known.attention.backward] if known.attention else []
    assert all(0 < fraction <= 1 for fraction in fractions)
    assert "fp8" not in found.peak or "bf16" in found.peak
    measured = "fit_devices.py on" in found.efficiency_source
    assert measured or "easured" in found.efficiency_source or "default" in found.efficiency_source


@pytest.mark.parametrize("name", MEASURED)
def test_measured_devices_rest_on_measurements_of_their_own(name: str) -> None:
    assert "calibration rows" in device(**{"from": name}).efficiency_source


@pytest.mark.parametrize("name", ["h100-pcie", "mi250x", "b300-sxm", "l40s", "a10g", "p40", "tpu-v4"])
def test_a_device_that_nobody_measured_says_so(name: str) -> None:
    assert "Not measured" in device(**{"from": name}).source


def test_keys_beside_from_replace_those_of_the_file() -> None:
    whole = device(**{"from": "h100-sxm"})
    half = device(**{"from": "h100-sxm", "memory": "40 GiB", "efficiency": {"memory": "50%"}})
    assert half.memory == whole.memory / 2
    assert half.efficiency.memory == 0.5
    assert half.efficiency.matmul == whole.efficiency.matmul
    assert half.peak == whole.peak
    assert half.source.endswith("Changed here: memory, efficiency.")
    assert half.efficiency_source.endswith("Changed here: memory.")
    assert "Changed" not in device(**{"from": "h100-sxm", "source": "mine", "memory": "40 GiB"}).source


def test_a_relative_inherits_what_kernels_reach_and_not_the_source_of_its_own_numbers() -> None:
    h200, h100 = device(**{"from": "h200-sxm"}), device(**{"from": "h100-sxm"})
    assert h200.efficiency.matmul == h100.efficiency.matmul
    assert h200.memory_bandwidth > h100.memory_bandwidth
    assert "H200 data sheet" in h200.source


GRAPH = "graph: {devices: {a: gpu}}\n"


def test_a_device_that_says_its_peaks_has_no_others() -> None:
    assert set(device(**{"from": "h100-sxm", "peak": {"bf16": "1 TFLOP/s"}}).peak) == {"bf16"}
    assert "fp8" not in device(**{"from": "mi250x"}).peak


def test_an_unknown_device_names_the_nearest(built: Build) -> None:
    with pytest.raises(
        InputError, match=r'topology\.devices\.new: no preset is called "h100-sxn"; did you mean h100-sxm'
    ):
        built(GRAPH, {"devices.new": "{from: h100-sxn}"})


def test_what_neither_says_is_missing(built: Build) -> None:
    with pytest.raises(InputError, match=r"topology\.devices\.new\.memory_bandwidth: is missing"):
        built(GRAPH, {"devices.new": "{memory: 80 GB}"})


def test_the_schema_for_editors_takes_either_form() -> None:
    schema = json.loads(json_schema())["$defs"]["DeviceSchema"]
    alone, written = (set(each["required"]) for each in schema["anyOf"])
    assert alone == {"from"}
    assert "memory" in written and "from" in schema["properties"]


def test_files_name_the_schema() -> None:
    folder = Path(__file__).parents[2] / LIBRARY
    for path in folder.glob("*.yaml"):
        assert path.read_text().startswith(
            "# yaml-language-server: $schema=../topology.schema.json#/$defs/DeviceSchema\n"
        )
