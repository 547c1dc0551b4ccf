"""Free text becomes numbers and names."""

import pytest

from simulator.plan.frameworks import FRAMEWORKS
from simulator.published import Row, peak_bytes, step_seconds
from simulator.published.chips import Chip, chip_of, device_for
from simulator.published.draft import Draft
from simulator.published.experts import put_experts
from simulator.published.frameworks import attention_of, framework_of
from simulator.published.network import node_bandwidth
from simulator.published.precision import put_dtype
from simulator.published.schedules import put_schedule, put_stages
from simulator.published.sharding import put_sharding

GIBIBYTE = 2**30


def row(**cells: str) -> Row:
    return Row(path="runs.csv", line=2, cells=cells)


@pytest.mark.parametrize(
    ("text", "gigabits"),
    [
        ("8x200 Gb/s HDR IB per node", 1600),
        ("1600 Gb/s per node RoCE", 1600),
        ("400 Gb/s per GPU RDMA", 3200),
        ("2 Tb/s RoCE per node", 2000),
        ("4x HDR IB per node", 800),
        ("NDR InfiniBand", 3200),
        ("8x400 Gb/s IB (DGX H100 / Eos; not printed in the image)", 3200),
        ("100 GbE", 100),
        ("4 x 100Gbps EFA", 400),
        ("12.5 GB/s Ethernet", 100),
    ],
)
def test_networks_are_rates_of_a_node(text: str, gigabits: float) -> None:
    assert node_bandwidth(text, devices=8, adapters=8) == pytest.approx(gigabits * 1e9 / 8)


@pytest.mark.parametrize("text", ["", "RoCE RDMA (rate not stated)", "NVLink4", "rail-optimised"])
def test_a_network_without_a_rate_is_left_as_shipped(text: str) -> None:
    assert node_bandwidth(text, devices=8, adapters=8) is None


@pytest.mark.parametrize(
    ("hardware", "link", "chip"),
    [
        ("A100-SXM4-40GB (DGX A100)", "", Chip(name="A100", form="sxm", gigabytes=40)),
        ("NVIDIA A100 80GB PCIe", "", Chip(name="A100", form="pcie", gigabytes=80)),
        ("a100", "PCIe Gen4", Chip(name="A100", form="pcie", gigabytes=0)),
        ("H100-96GB-HBM2e-500W", "NVLink4", Chip(name="H100", form="", gigabytes=96)),
        ("GB200-NVL72", "", Chip(name="GB200", form="sxm", gigabytes=0, domain=72)),
        ("V100-SXM3-32GB (DGX-2)", "", Chip(name="V100", form="sxm", gigabytes=32)),
        ("Tesla P40-24GB", "", Chip(name="P40", form="", gigabytes=24)),
        ("AMD MI300X", "", Chip(name="MI300X", form="", gigabytes=0)),
        ("8 abacuses", "", None),
    ],
)
def test_hardware_names_a_chip(hardware: str, link: str, chip: Chip | None) -> None:
    assert chip_of(hardware, link) == chip


def test_memory_and_form_tell_parts_of_one_chip_apart() -> None:
    found = [
        device_for(Chip(name="A100", form=form, gigabytes=size))
        for form, size in (("sxm", 40), ("sxm", 80), ("pcie", 80))
    ]
    assert len(set(found)) == 3 and None not in found
    assert device_for(Chip(name="A100", form="sxm", gigabytes=0)) == found[1]
    assert device_for(Chip(name="A100", form="sxm", gigabytes=640)) is None


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("bf16", "bf16"),
        ("amp fp16", "fp16"),
        ("fp8 (TE) + bf16", "fp8"),
        ("MXFP8", "fp8"),
        ("NVFP4", "fp4"),
        ("fp16/bf16 (not stated)", "bf16"),
        ("TF32", "tf32"),
        ("", "bf16"),
    ],
)
def test_precision(text: str, dtype: str) -> None:
    plan = Draft()
    put_dtype(plan, row(dtype=text))
    assert plan.data["dtype"] == dtype


def test_precision_that_means_nothing_is_a_problem() -> None:
    given = row(dtype="posit")
    put_dtype(Draft(), given)
    assert "posit" in given.problems.diagnostics[0].message


EACH = {"gradient_sync": "each"}


@pytest.mark.parametrize(
    ("text", "framework", "keys"),
    [
        ("FSDP FULL_SHARD", "", {"sharding": "fsdp", **EACH}),
        ("FSDP SHARD_GRAD_OP", "", {"sharding": "fsdp", **EACH, "reshard_after_forward": False}),
        ("FSDP HYBRID_SHARD", "", {"sharding": "hsdp", **EACH, "dp_shard": 8}),
        ("distributed optimizer (ZeRO-1) per recipe default", "", {"sharding": "zero1"}),
        ("zero2", "", {"sharding": "zero2"}),
        ("none (replicated optimizer)", "", {"sharding": "none"}),
        ("none", "PyTorch FSDP", {"sharding": "none"}),
        ("DP", "", {"sharding": "none"}),
        ("", "torchtitan (PyTorch FSDP2)", {"sharding": "fsdp", **EACH}),
        ("", "DeepSpeed ZeRO-2", {"sharding": "zero2"}),
        ("", "Megatron-LM", {"sharding": "none"}),
    ],
)
def test_sharding(text: str, framework: str, keys: dict[str, object]) -> None:
    plan, given = Draft(), row(zero_stage_or_fsdp=text, framework=framework, gpus_per_node="8")
    put_sharding(plan, given, framework_of(given))
    assert plan.data == keys


@pytest.mark.parametrize(
    ("text", "vpp", "schedule", "chunks"),
    [
        ("1F1B", "", "1f1b", None),
        ("1F1B", "3", "interleaved_1f1b", 3),
        ("interleaved 1F1B", "1", "1f1b", None),
        ("Interleaved1F1B", "", "interleaved_1f1b", 2),
        ("1F1B-I", "4", "interleaved_1f1b", 4),
        ("GPipe", "", "gpipe", None),
        ("ZB-H1", "", "zb_h1", None),
        ("", "", "1f1b", None),
    ],
)
def test_schedules(text: str, vpp: str, schedule: str, chunks: int | None) -> None:
    plan = Draft()
    put_schedule(plan, row(schedule=text, vpp=vpp, layers="32"), ranks=4)
    assert (plan.data["schedule"], plan.data.get("num_stages_per_rank")) == (schedule, chunks)


def test_automatic_zero_bubble_schedules_hold_one_or_two_microbatches_a_rank() -> None:
    limits = []
    for name in ("ZB-1p", "ZB-2p"):
        plan = Draft()
        put_schedule(plan, row(schedule=name), ranks=8)
        limits.append(plan.data["activation_limit"])
    assert limits == [8, 16]


@pytest.mark.parametrize(
    ("layers", "stages"),
    [
        (8, "even"),
        (6, ["embedding", "block1", "block3", "block5"]),  # embedding block0 | 1 2 | 3 4 | 5 head
        (7, ["embedding", "block2", "block4", "block6"]),  # embedding 0 1 | 2 3 | 4 5 | 6 head
        (9, "balanced"),
    ],
)
def test_stages_count_the_ends_as_layers_where_that_comes_out_even(layers: int, stages: object) -> None:
    plan = Draft()
    put_stages(plan, layers, ranks=4)
    assert plan.data["stages"] == stages


def test_attention_is_fused_where_the_row_says_so_or_its_framework_had_it_by_then() -> None:
    def kind(**cells: str) -> str:
        given = row(**cells)
        return attention_of(given, framework_of(given))[0]

    assert kind(framework="Megatron-LM", source_ref="arXiv 2205.05198 Table 5") == "math"
    assert kind(framework="Megatron-LM", source_ref="arXiv 2411.05288") == "flash"
    # The code behind a paper of January is that of the year before.
    assert kind(framework="Megatron-LM", source_ref="arXiv 2401.10241") == "math"
    assert kind(framework="Megatron-LM", source_ref="arXiv 2205.05198", notes="flash attention") == "flash"
    # NVIDIA's containers are named after their year and month.
    assert kind(framework="PyTorch DDP", source_ref="README (container 21.11)") == "math"
    assert kind(framework="PyTorch DDP", source_ref="README (container 25.02)") == "flash"
    assert kind(framework="MaxText/JAX", notes="without flash attention") == "math"
    assert kind(framework="MaxText/JAX", notes="126M without flash attention", model="GPT 126M") == "math"
    assert kind(framework="MaxText/JAX", notes="126M without flash attention", model="GPT 5B") == "flash"
    assert kind(framework="torchtitan (PyTorch FSDP2)") == "flash"
    # Pax has fused attention where Transformer Engine brings it.
    assert [kind(framework="PaxML/JAX", dtype=dtype) for dtype in ("bf16", "bf16 (TE)")] == ["math", "flash"]


@pytest.mark.parametrize(("year", "name"), [("2021", "deepspeed-lists"), ("2023", "deepspeed"), ("", "deepspeed")])
def test_zero3_gathered_from_lists_until_2022(year: str, name: str) -> None:
    assert framework_of(row(framework="DeepSpeed ZeRO-3", source_ref=year)).name == name


@pytest.mark.parametrize(("year", "name"), [("2021", "megatron-2023"), ("2024", "megatron"), ("", "megatron")])
def test_megatron_asked_for_sizes_until_2024(year: str, name: str) -> None:
    found = framework_of(row(framework="Megatron-LM", source_ref=year))
    assert found.name == name
    assert FRAMEWORKS[name].asks_sizes is (name == "megatron-2023")


def test_megatron_in_fp8_is_megatron_core() -> None:
    assert framework_of(row(framework="Megatron-LM", dtype="fp8 (hybrid)")).name == "megatron-core"
    assert framework_of(row(framework="Megatron-LM", dtype="bf16")).name == "megatron"


def test_compiled_fsdp_is_a_framework_of_its_own() -> None:
    given = row(framework="torchtitan (PyTorch FSDP2)", notes="torch.compile, float8")
    assert framework_of(given).name == "fsdp-compiled"
    assert framework_of(row(framework="torchtitan")).name == "fsdp-torchtitan"


def test_a_step_is_what_is_printed_or_follows_from_throughput_and_batch() -> None:
    assert step_seconds(row(step_time_s="2.5", samples_per_s="1", global_batch="8")) == 2.5
    assert step_seconds(row(samples_per_s="4", global_batch="8")) == 2
    assert step_seconds(row(tokens_per_s_per_gpu="1,024", gpus="2", global_batch="8", seq_len="2048")) == 8
    assert step_seconds(row(samples_per_s="4")) is None


def test_memory_is_binary_unless_the_notes_say_otherwise() -> None:
    assert peak_bytes(row(peak_mem_GB="2")) == 2 * GIBIBYTE
    assert peak_bytes(row(peak_mem_GB="2", notes="peak memory in GB")) == 2e9
    assert peak_bytes(row(peak_mem_GB="2", notes="memory GiB")) == 2 * GIBIBYTE
    assert peak_bytes(row()) is None


def test_numbers_are_read_leniently_and_nonsense_is_reported() -> None:
    given = row(gpus="1,024 (32 nodes)", layers="many", heads="n/a", hidden="2.5")
    assert (given.count("gpus"), given.count("layers"), given.count("heads"), given.count("hidden")) == (
        1024,
        None,
        None,
        None,
    )
    assert [each.key for each in given.problems.diagnostics] == ["layers", "hidden"]


BRIDGE = {"framework": "Megatron-Bridge / Megatron-Core", "experts": "128"}


@pytest.mark.parametrize(
    ("cells", "keys"),
    [
        ({"model": "DeepSeekV3", "hardware": "H100", "notes": "release 25.09"}, {"expert_dispatch": "deep_ep"}),
        (
            {"model": "Qwen3_235B_a22B", "hardware": "GB200-NVL72", "notes": "release 26.04"},
            {"expert_dispatch": "deep_ep", "cuda_graphs": True},
        ),
        (
            {"model": "Qwen3_235B_a22B", "hardware": "GB200-NVL72", "dtype": "MXFP8", "notes": "release 26.06"},
            {"expert_dispatch": "deep_ep", "cuda_graphs": True, "fused_experts": True},
        ),
        (
            {"model": "Qwen3_30B_a3B", "hardware": "B200-SXM", "dtype": "MXFP8", "notes": "release 26.08"},
            {"expert_dispatch": "deep_ep", "cuda_graphs": True},
        ),
        ({"model": "Qwen3_235B_a22B", "hardware": "B200-SXM", "notes": "release 26.04"}, {}),
        ({"model": "Qwen3_30B_a3B", "hardware": "B200-SXM", "notes": "release 26.02"}, {}),
        ({"model": "DeepSeekV3", "hardware": "B200", "notes": "release 25.09; tokendrop"}, {"cuda_graphs": True}),
        ({"model": "LLAMA3_70B", "hardware": "GB200-NVL72", "experts": ""}, {}),
    ],
)
def test_recipes_say_how_experts_are_reached(cells: dict[str, str], keys: dict[str, object]) -> None:
    given = row(**(BRIDGE | cells))
    plan = Draft()
    put_experts(plan, given, framework_of(given))
    assert plan.data == keys


def test_recipes_keep_experts_whole_on_each_tensor_parallel_rank() -> None:
    given = row(**BRIDGE, model="Qwen3_235B_a22B", hardware="H100")
    plan = Draft()
    plan.put("tp", 2)
    put_experts(plan, given, framework_of(given))
    assert plan.data == {"tp": 2, "expert_tp": 1}
