"""A row becomes three files that can be simulated."""

import pytest

from simulator.errors import InputError
from simulator.load import build
from simulator.planning import predict
from simulator.published import Row, convert

CELLS = {
    "id": "one",
    "hardware": "A100-SXM4-80GB",
    "gpus": "8",
    "gpus_per_node": "8",
    "framework": "Megatron-LM",
    "model": "GPT small",
    "arch": "gpt",
    "layers": "4",
    "hidden": "1024",
    "heads": "16",
    "kv_heads": "16",
    "vocab": "51200",
    "seq_len": "1024",
    "dtype": "bf16",
    "tp": "2",
    "pp": "2",
    "micro_batch": "1",
    "global_batch": "8",
    "recompute": "full",
    "schedule": "1F1B",
}


def row(**cells: str) -> Row:
    return Row(path="runs.csv", line=2, cells=CELLS | cells)


def test_a_row_is_predicted() -> None:
    inputs = build(convert(row()).documents())
    assert (inputs.plan.tp, inputs.plan.pp, inputs.plan.dp, inputs.plan.num_microbatches) == (2, 2, 2, 4)
    assert (inputs.plan.recompute, inputs.plan.p2p_overlap) == ("full", False)
    # 12 h^2 + 13 h for each of 4 blocks, embeddings of words and places, the head and the last norm.
    assert inputs.graph.num_parameters == 4 * (12 * 1024**2 + 13 * 1024) + (2 * 51200 + 1024) * 1024 + 2 * 1024
    assert predict(inputs).result()["step_time_s"] > 0


def test_nodes_are_equal_and_no_larger_than_stated() -> None:
    def nodes(**cells: str) -> tuple[int, int]:
        topology = build(
            convert(row(tp="1", pp="1", recompute="none", global_batch="1536", **cells)).documents()
        ).topology
        return topology.num_nodes, topology.devices_per_node

    assert nodes(gpus="4") == (1, 4)
    assert nodes(gpus="32") == (4, 8)
    assert nodes(gpus="32", gpus_per_node="4") == (8, 4)
    assert nodes(gpus="12") == (2, 6)
    assert nodes(gpus="64", gpus_per_node="4", hardware="GB200-NVL72") == (1, 64)
    assert nodes(gpus="128", gpus_per_node="4", hardware="GB200-NVL72") == (2, 64)


def test_a_slower_network_is_the_rows() -> None:
    run = convert(row(gpus="16", inter_node_net="100 Gb/s per GPU RoCE"))
    assert run.topology.data["node"]["uplinks"][0]["bandwidth"] == "12.5 GB/s"
    shipped = convert(row(gpus="16"))
    assert shipped.topology.data["node"]["uplinks"][0]["bandwidth"] == "200 Gb/s"


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"hardware": "abacus"}, "abacus"),
        ({"layers": ""}, "layers: is not stated"),
        ({"gpus": "9"}, "9 GPUs are not a multiple of tp(2) x pp(2) x cp(1) = 4"),
        ({"dp": "3"}, "dp(3) x tp(2) x pp(2) x cp(1) = 12 is not gpus(8)"),
        ({"recompute": "sometimes, perhaps"}, "sometimes"),
        ({"schedule": "roundabout"}, "roundabout"),
        ({"zero_stage_or_fsdp": "ours"}, "ours"),
        ({"model": "GPT (LoRA)"}, "adapters"),
        ({"arch": "perceiver"}, "perceiver"),
    ],
)
def test_what_cannot_be_expressed_is_said(cells: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as error:
        build(convert(row(**cells)).documents())
    assert words in str(error.value)
    assert "runs.csv:2" in str(error.value)


def test_what_is_not_stated_is_a_default_and_says_so() -> None:
    run = convert(row(vocab="", micro_batch="", recompute="", schedule=""))
    assert run.model.origins["vocab_size"].startswith("default")
    assert run.plan.origins["microbatch_size"].startswith("default")
    assert run.plan.origins["recompute"].startswith("default")
    assert run.plan.origins["tp"] == "stated"


def test_torchtitan_cuts_the_batch_of_a_pipeline_by_stages_and_keeps_parameters_whole() -> None:
    settings = {"framework": "torchtitan", "zero_stage_or_fsdp": "FSDP2 (full shard)", "micro_batch": ""}
    plan = convert(row(**settings, global_batch="16")).plan.data
    assert (plan["microbatch_size"], plan["dp"], plan["pp"]) == (16 // 2 // 2, 2, 2)
    assert (plan["reshard_after_forward"], plan["gradient_sync"]) == (False, "last")
    alone = convert(row(**settings, global_batch="16", pp="1", schedule="")).plan.data
    assert (alone.get("reshard_after_forward", True), alone["gradient_sync"]) == (True, "each")


@pytest.mark.parametrize(
    ("framework", "arch", "rate"),
    [
        ("Megatron-LM", "gpt", 0.1),
        ("Megatron-DeepSpeed", "gpt", 0.1),
        ("Megatron-LM (sail-sg VocabularyParallelism)", "gpt", None),
        ("PyTorch FSDP (Composer/llm-foundry)", "gpt", None),
        ("Megatron-LM", "llama", None),
    ],
)
def test_gpts_drop_out_as_the_scripts_of_their_framework_do(framework: str, arch: str, rate: float | None) -> None:
    run = convert(row(framework=framework, arch=arch, ffn_hidden="4096"))
    assert run.model.data.get("dropout") == rate


def test_a_shipped_model_is_taken_by_its_name_only_where_its_widths_agree() -> None:
    sizes = {"hidden": "12288", "heads": "96", "kv_heads": "96", "vocab": "", "layers": "", "seq_len": "1024"}
    run = convert(row(model="GPT3 175B", **sizes))
    assert (run.model.data["num_hidden_layers"], run.model.data["sequence_length"]) == (96, 1024)
    other = convert(row(model="GPT3-175B"))
    assert other.model.data["hidden_size"] == 1024


def test_bert_is_trained_on_batches_of_one_length_and_guesses_some_words() -> None:
    cells = {
        "arch": "bert",
        "model": "BERT-Large",
        "layers": "24",
        "tp": "1",
        "pp": "1",
        "framework": "DDP (APEX LAMB)",
    }
    long, short, other = (
        convert(row(**cells | more)).model.data
        for more in ({"seq_len": "512"}, {"seq_len": "128"}, {"seq_len": "512", "framework": "PyTorch DDP"})
    )
    # 52% of 512 tokens are no padding, and a batch has the length of its longest: half of a bin of 64 more.
    assert (long["sequence_length"], long["predictions_per_sequence"]) == (266 + 32, round(0.15 * 266.24))
    assert (short["sequence_length"], short["predictions_per_sequence"]) == (128, round(0.15 * 106.24))
    assert other["sequence_length"] == 512 and "predictions_per_sequence" not in other


@pytest.mark.parametrize(
    ("layers", "stated", "recompute"), [("12", "", "none"), ("24", "", "full"), ("24", "none", "none")]
)
def test_pax_computes_again_what_it_repeats(layers: str, stated: str, recompute: str) -> None:
    run = convert(row(framework="PaxML/JAX", layers=layers, recompute=stated, pp="1"))
    assert run.plan.data["recompute"] == recompute


@pytest.mark.parametrize(
    ("reference", "shares", "expected"),
    [
        ("arXiv 2104.04473 Table 1", "n", (False, True, False)),
        ("arXiv 2205.05198 Table 5", "n", (True, True, False)),
        ("arXiv 2205.05198 Table 5", "y", (True, False, True)),
        ("arXiv 2411.05288 Table 5", "n", (True, False, False)),
    ],
)
def test_megatron_has_what_it_had_in_its_year(reference: str, shares: str, expected: tuple[bool, ...]) -> None:
    plan = build(convert(row(source_ref=reference, sp=shares)).documents()).plan
    assert (plan.tp_overlap, plan.scatter_gather, plan.sequence_parallel) == expected
