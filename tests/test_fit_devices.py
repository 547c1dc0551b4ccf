"""The fit of devices: it finds planted constants again, and never looks at test rows."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from simulator.cost.kernels import kernel_seconds
from simulator.model.layers.base import matmul
from simulator.topology import Device

HEADER = "hardware,op,m,n,k,batch,dtype,tflops,source_ref,time_us,notes,role\n"
PLANTED = {"launch": 5e-6, "matmul": 0.62, "edge": 40.0, "depth": 220.0}
SHAPES = [(m, n, k) for m in (256, 1024, 8192) for n in (512, 4096, 16384) for k in (384, 2048, 12288)]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import fit_devices

    yield fit_devices
    for name in ("fit_devices", "device_fit", "device_rows", "device_layers", "sections"):
        sys.modules.pop(name, None)


def table(script: ModuleType, device: Device, slower: float) -> str:
    """Products of an A100 PCIe with planted constants, and test rows that are slower by some factor."""
    from device_fit import STARTS, with_constants

    planted = with_constants(device, {**STARTS, **PLANTED}).device
    lines = []
    for m, n, k in SHAPES:
        seconds = kernel_seconds(matmul(m, n, k), planted, "bf16", 2)
        for role, factor in (("calibration", 1.0), ("test", slower)):
            time = seconds * factor
            rate = 2 * m * n * k / time / 1e12
            lines.append(f"A100-PCIe-80GB,gemm,{m},{n},{k},1,bf16,{rate},made/up,{time * 1e6},,{role}")
    return HEADER + "\n".join(lines)


def fitted(script: ModuleType, tmp_path: Path, slower: float) -> tuple[dict[str, float], str]:
    path = tmp_path / "gemm.csv"
    path.write_text(table(script, script.shipped("a100-pcie-80gb"), slower))
    rows, left_out = script.read_rows(path)
    assert not left_out
    device, constants, count = script.fit_device("a100-pcie-80gb", rows, {})
    assert count == len(SHAPES)
    file = tmp_path / "device.yaml"
    file.write_text("memory: 80 GiB\nlaunch_overhead: 1 us\nefficiency:\n  matmul: 1%\n  source: x\nsource: kept\n")
    script.write_device(file, device, constants, "why")
    return constants, file.read_text()


def test_planted_constants_are_found_again_and_written(script: ModuleType, tmp_path: Path) -> None:
    constants, text = fitted(script, tmp_path, slower=1.0)
    for name, value in PLANTED.items():
        assert constants[name] == pytest.approx(value, rel=0.03), name
    assert text.startswith("memory: 80 GiB\nlaunch_overhead: 5 us\nefficiency:\n  matmul: 62.0%\n")
    assert text.endswith("  source: >-\n    why\nsource: kept\n")


def test_test_rows_change_nothing(script: ModuleType, tmp_path: Path) -> None:
    assert fitted(script, tmp_path, slower=1.0) == fitted(script, tmp_path, slower=100.0)


def test_errors_of_test_rows_are_told_apart(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "gemm.csv"
    path.write_text(table(script, script.shipped("a100-pcie-80gb"), slower=2.0))
    rows, _ = script.read_rows(path)
    device, _, _ = script.fit_device("a100-pcie-80gb", rows, {})
    (line,) = script.judge("a100-pcie-80gb", device, rows)
    calibration, test = line.split("|")[6:9], line.split("|")[10:13]
    assert abs(float(calibration[0].strip(" %"))) < 1
    assert test[0].strip() == "50.0%"


def test_rows_become_kernels(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "gemm.csv"
    path.write_text(
        HEADER
        + "X,grouped_gemm_bwd_grad_w,128,7168,2048,4,bf16,1,a/b,,,calibration\n"
        + 'X,attention_causal_bwd,4096,4096,192,16,bf16,1,a/b,500,"v dim 128",calibration\n'
        + "X,attention_causal_fwd+bwd,4096,4096,128,16,bf16,1,a/b,500,,test\n"
        + "X,attention_fwd+bwd_flash2,8192,8192,128,32,fp16,1,a/b,,,test\n"
        + "X,gemm,64,64,64,1,nvfp4,1,a/b,1,,test\n"
    )
    (grouped, backward, both, four_bits), left_out = script.read_rows(path)
    # A weight gradient sums over the tokens of its group, and adds to what is kept in fp32.
    (kernel,) = grouped.kernels
    assert (kernel.m, kernel.n, kernel.k, kernel.batch) == (2048, 7168, 128, 4)
    assert kernel.elements * 2 == 4 * (2 * 128 * (2048 + 7168) + 8 * 2048 * 7168)
    assert backward.kernels[0].flops == 2 * 2 * 16 * 4096 * 4096 * (192 + 128)
    assert [kernel.flops for kernel in both.kernels] == [4 * 16 * 4096**2 * 128, 8 * 16 * 4096**2 * 128]
    assert (four_bits.dtype, four_bits.itemsize) == ("fp4", 2)
    assert sum(left_out.values()) == 1


def test_streams_ignore_dot_products_and_test_rows(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "memory_bw.csv"
    path.write_text(
        "hardware,metric,value,unit,source_ref,notes,role\n"
        "X,HBM stream copy,2,TB/s,,,calibration\nX,HBM stream add,4,TB/s,,,calibration\n"
        "X,HBM stream dot,9,TB/s,,,calibration\nX,HBM stream mul,9,TB/s,,,test\n"
        "X,host to device,50,GB/s,,,calibration\n"
    )
    assert script.stream_rates(path) == {"X": 3e12}


def test_a_chip_lends_what_its_other_module_did_not_measure(script: ModuleType, tmp_path: Path) -> None:
    """B200's bursts of fp8 count by GB200's long runs, each for its own peak; GB200 takes 16 bits and losses back."""
    from device_fit import STARTS, with_constants

    planted = {**STARTS, "matmul": 0.5, "fp8": 0.6, "edge": 100.0, "depth": 200.0, "cast": 0.0, "engine": 1.5}
    lines = []
    for hardware, name, dtype, source, faster in (
        ("B200-SXM", "b200-sxm", "bf16", "made/up", 1.0),
        ("B200-SXM", "b200-sxm", "bf16", "ai-dynamo/x", 1.5),
        ("B200-SXM", "b200-sxm", "fp8", "ai-dynamo/x", 1.1),
        ("GB200", "gb200", "fp8", "made/up", 1.0),
    ):
        device = with_constants(script.shipped(name), planted).device
        for m, n, k in SHAPES:
            time = kernel_seconds(matmul(m, n, k), device, dtype, 2, casts=False) / faster
            lines.append(f"{hardware},gemm,{m},{n},{k},1,{dtype},1,{source},{time * 1e6},,calibration")
    path = tmp_path / "gemm.csv"
    path.write_text(HEADER + "\n".join(lines))
    rows, _ = script.read_rows(path)
    _, constants, _ = script.fit_device("b200-sxm", rows, {})
    assert constants["engine"] == pytest.approx(1.5, rel=0.02)
    assert constants["narrow engine"] == pytest.approx(1.1, rel=0.05)
    assert constants["fp8"] == pytest.approx(0.6, rel=0.02)
    twin, of_twin, _ = script.fit_device("gb200", rows, {})
    assert of_twin["edge"] == pytest.approx(100, rel=0.05)
    assert twin.device.efficiency.matmul == pytest.approx(0.5, rel=0.03)
