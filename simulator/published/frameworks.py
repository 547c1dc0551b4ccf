"""Training frameworks: what each does unless told otherwise, as settings of a plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from simulator.published.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """One framework.

    Parameters
    ----------
    name
        Value of the plan's key ``framework``.
    pattern
        Found in a row's framework, in small letters.
    settings
        Keys of a plan that follow from the framework alone.
    sequence_parallel
        Whether its tensor parallelism shards activations by sequence unless a row says otherwise.
    cuts_by_stages
        Cuts the batch of a pipeline into as many micro-batches as there are stages unless a row says otherwise.
    dropout
        Rate that its scripts give GPTs and BERTs.
    bins_lengths
        Batches of its BERTs hold sequences of one length, and its head is computed where words are guessed.
    flash_since
        Year from which its attention is fused unless a row says otherwise.
    flash_with
        Found in the precision, in small letters, of runs whose attention is fused; empty: says nothing of it.
    recomputes_from
        Layers of a GPT from which its configurations compute every block again in backward; 0: never.
    source
        Where the defaults are documented.
    text
        What the row says, in small letters.
    """

    name: str
    pattern: str
    settings: Mapping[str, object] = field(default_factory=dict)
    sequence_parallel: bool = False
    cuts_by_stages: bool = False
    dropout: float = 0.0
    bins_lengths: bool = False
    flash_since: int = 2023
    flash_with: str = ""
    recomputes_from: int = 0
    source: str = ""
    text: str = ""


MEGATRON = Framework(
    name="megatron",
    pattern=r"megatron",
    settings={"gradient_dtype": "fp32", "dp_overlap": False, "p2p_overlap": False, "tp_overlap": True},
    dropout=0.1,
    flash_since=2024,
    source="Megatron-LM arguments.py: --overlap-grad-reduce is off by default, gradients are accumulated and "
    "reduced in fp32 (--accumulate-allreduce-grads-in-fp32, on with bf16), 1F1B waits for its sends; attention is "
    "that of Transformer Engine since Megatron-Core became the default (2024); the input gradients of column-parallel "
    "layers are summed beside their weight gradients (--no-async-tensor-model-parallel-allreduce); --attention-dropout "
    "and "
    "--hidden-dropout are 0.1 by default (the zero-bubble authors set them to 0 for numeric comparisons alone)",
)

TORCHTITAN = Framework(
    name="fsdp-torchtitan",
    pattern="torchtitan",
    settings={"gradient_dtype": "fp32", "prefetch": 1, "flash_kernel": "flash2"},
    cuts_by_stages=True,
    source="torchtitan reduces gradients in fp32 by default (training.mixed_precision_reduce: float32) and keeps "
    "fp32 parameters, sharded; scaled_dot_product_attention of torch runs FlashAttention-2 since 2.2; "
    "experimental.pipeline_parallel_microbatches is the number of pipeline stages by default",
)

CORE = Framework(
    name="megatron-core",
    pattern=r"megatron-?(?:bridge|core|mcore)|nemo|dgxc",
    settings={"gradient_dtype": "bf16", "dp_overlap": True, "tp_overlap": True},
    sequence_parallel=True,
    source="Megatron-Bridge scripts/performance/configs: sequence_parallel with tensor parallelism, "
    "overlap_grad_reduce and overlap_param_gather on, grad_reduce_in_fp32 = False; input gradients as megatron; "
    "Megatron has fp8 with Transformer "
    "Engine alone (--fp8-format of Megatron-LM's arguments.py), so that such runs are Megatron-Core's whatever they "
    "are called",
)

FRAMEWORKS = (
    Framework(
        name="fsdp-composer",
        pattern=r"llm-foundry|composer",
        settings={"gradient_dtype": "fp32", "prefetch": 1, "flash_kernel": "triton"},
        source="llm-foundry scripts/train/benchmarking/sweep.py and yamls: attn_impl: triton, the default of MPT until "
        "flash became it at the end of 2023; Composer reduces gradients in fp32 by default (mixed_precision: DEFAULT)",
    ),
    TORCHTITAN,
    replace(TORCHTITAN, name="fsdp", pattern="fsdp|fms"),
    Framework(
        name="megatron-deepspeed",
        pattern=r"megatron-deepspeed|gpt-neox|deepspeed.*megatron|bloom",
        settings={"dp_overlap": False, "p2p_overlap": False},
        dropout=0.1,
        flash_since=9999,
        source="DeepSpeed's pipeline engine reduces gradients in the training dtype after the last backward "
        "(PipelineEngine._exec_reduce_grads) and waits for its sends; --use-flash-attn is off by default; "
        "--attention-dropout and --hidden-dropout are 0.1",
    ),
    Framework(
        name="deepspeed",
        pattern=r"deepspeed|bmtrain|colossal",
        settings={"dp_overlap": True},
        source="DeepSpeed: overlap_comm is on for ZeRO-3; gradients are reduced in the training dtype",
    ),
    CORE,
    replace(
        MEGATRON,
        pattern=r"vocabularyparallelism",
        dropout=0.0,
        source=f"{MEGATRON.source}; the script of Vocabulary Parallelism sets both to 0",
    ),
    MEGATRON,
    Framework(
        name="pax",
        pattern=r"\bpax",
        flash_with=r"\bte\b",
        recomputes_from=24,
        source="google/paxml, contrib/gpu/scripts_gpu/configs.py: GPT5B (24 layers) and GPT175B set "
        "USE_REPEATED_LAYER, GPT126M and the Llamas do not; repeated layers have CHECKPOINT_POLICY SAVE_NOTHING "
        "(tasks/lm/model_params.py); "
        "Transformer Engine brings the fused attention (JAX-Toolbox, rosetta/projects/pax)",
    ),
    Framework(
        name="xla",
        pattern=r"jax|pax|maxtext|t5x|xla|tensorflow|alpa",
        source="XLA fuses element-wise operations and overlaps gradient reductions (latency-hiding scheduler)",
    ),
    Framework(
        name="ddp",
        pattern=r"apex lamb",
        settings={"dp_overlap": False},
        dropout=0.1,
        bins_lengths=True,
        flash_since=9999,
        source="DeepLearningExamples, PyTorch BERT with LDDL (since container 21.11), run_pretraining.py: DDP with one "
        "bucket for all gradients (bucket_cap_mb: the device's memory), reduced behind the last backward in the "
        "training dtype; dense_sequence_output; hidden_dropout_prob and attention_probs_dropout_prob are 0.1",
    ),
    Framework(
        name="ddp",
        pattern=r"ddp|apex|pytorch|torchgpipe|horovod|flash-attention",
        dropout=0.1,
        source="torch DDP; DeepLearningExamples' bert_config.json: hidden_dropout_prob and "
        "attention_probs_dropout_prob are 0.1",
    ),
)
"""The first that is found counts."""

DEEPSPEED_LISTS = Framework(
    name="deepspeed-lists",
    pattern="",
    settings={"dp_overlap": True, "prefetch": 0},
    source="DeepSpeed of 2021, runtime/zero/partition_parameters.py, _allgather_param: each parameter is gathered by "
    "itself into a list of its parts, after torch.cuda.synchronize(), so that nothing is computed meanwhile",
)
"""How DeepSpeed's ZeRO-3 gathered before the coordinator of January 2022 (partitioned_param_coordinator.py)."""

LISTS_UNTIL = 2022
"""Year from which it does not."""

ASKS_UNTIL = 2024
"""Year from which Megatron-LM no longer asks the device for the sizes of a batch (`simulator.plan.frameworks`)."""

ASYNC_SINCE = 2021.5
"""Year from which Megatron-LM sums input gradients beside weight gradients: ColumnParallelLinearWithAsyncAllreduce of
megatron/mpu/layers.py, which Korthikanti et al. 2022 (arXiv 2205.05198) had beside that of sequence parallelism; its
READMEs up to January 2021 and Narayanan et al. 2021 are of before."""

UNKNOWN = Framework(name="none", pattern="", source="the framework is not known")

COMPILED = re.compile(r"torch\.compile|\bcompiled?\b|inductor")
_WITHOUT = re.compile(r"(?:(\d[\d.]*[mb]) )?(?:\bno|without|\bnon-?)\W*flash")
_YEAR = re.compile(r"arxiv[ :]*(\d\d)(0[1-9]|1[0-2])\.\d{4,5}|\b(20[12]\d)\b|container (\d\d)\.(?:0[1-9]|1[0-2])\b")


def framework_of(row: Row) -> Framework:
    """Return the framework that a row names; its compiled form where the row says so."""
    text = row.words("framework")
    found = next((each for each in FRAMEWORKS if re.search(each.pattern, text)), UNKNOWN)
    if found.name == "deepspeed" and (year_of(row) or LISTS_UNTIL) < LISTS_UNTIL:
        found = DEEPSPEED_LISTS
    if found.name == "megatron" and "fp8" in row.words("dtype"):
        found = CORE
    if found.name == "megatron" and (year_of(row) or ASKS_UNTIL) < ASKS_UNTIL:
        # --no-scatter-gather-tensors-in-pipeline switches it off; Megatron-Core has neither.
        settings = {**found.settings, "scatter_gather": True, "tp_overlap": (year_of(row) or 0) >= ASYNC_SINCE}
        found = replace(found, name="megatron-2023", settings=settings)
    found = replace(found, text=text)
    if found.name.startswith("fsdp") and COMPILED.search(row.words("framework", "notes")):
        return replace(found, name="fsdp-compiled")
    return found


def attention_of(row: Row, framework: Framework) -> tuple[str, str]:
    """Return ``flash`` or ``math``, and why: what the row says, or else what the framework did in its year."""
    text = row.words("notes", "framework")
    without = _WITHOUT.search(text)
    # "126M without flash attention", in a note on a whole table, is said of the model of that size alone.
    if without and (without[1] or "") in row.words("model"):
        return "math", "the row says without flash attention"
    if framework.flash_with and not re.search(framework.flash_with, row.words("dtype")):
        return "math", f"default of {framework.text} without Transformer Engine"
    if "flash" in text:
        return "flash", "the row says flash attention"
    year = year_of(row)
    if year is None:
        fused = framework.flash_since <= 2024
        return ("flash" if fused else "math"), f"default of {framework.name}: no year is stated"
    fused = year >= framework.flash_since
    return ("flash" if fused else "math"), f"default of {framework.name} in {int(year)}"


def year_of(row: Row) -> float | None:
    """Return the year of the software behind a row.

    Half a year before an arXiv number, the first year written, or that of one of NVIDIA's containers (21.11).
    """
    match = _YEAR.search(row.words("source_ref", "source", "notes"))
    if match is None:
        return None
    if match[1]:
        return 2000 + int(match[1]) + (int(match[2]) - 1) / 12 - 0.5
    return float(match[3]) if match[3] else 2000.0 + int(match[4])
