"""Every plan trains the model that one process trains: losses and parameters after three steps, to 1e-5 in fp32."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.executor.parity import assert_equals_one_process, train_together
from tests.model.small import SMALL, changes

pytestmark = pytest.mark.distributed

GPT = (
    "model.num_hidden_layers=2 model.hidden_size=32 model.num_attention_heads=4 model.vocab_size=50 "
    "model.sequence_length=12"
)
CNN = "model.image_size=12 model.channels=[4,8] model.hidden_size=16"
MLP = "model.in_features=12 model.hidden_sizes=[16,16,16] model.num_classes=5"
MODELS = {
    "gpt": ("gpt-tiny", GPT),
    "cnn": ("cnn-tiny", CNN),
    "mlp": ("mlp-tiny", MLP),
    "residual": ("residual-list", ""),
    "neuron": ("linear-regression", ""),
    **{name: (SMALL[name][0], " ".join(changes(name))) for name in ("llama", "mixtral", "deepseek", "vit")},
    "normed": (str(Path(__file__).with_name("normed.yaml")), ""),
}
FIRST = ("gpt", "cnn", "mlp", "residual", "neuron")
"""Trained under every kind of plan; of the others, what is their own."""

BATCH = "plan.global_batch_size=8 plan.num_microbatches=null plan.microbatch_size={} "
SGD, MOMENTUM, ADAM = (
    "plan.optimizer={kind: sgd, learning_rate: 0.05}",
    "plan.optimizer={kind: momentum, learning_rate: 0.05}",
    "plan.optimizer={kind: adam, learning_rate: 0.001}",
)
BUCKETS = "plan.bucket_size=512 B"
RECOMPUTE = "plan.recompute=full"
VOCABULARY, ROWS = "plan.vocab_parallel=true", "model.vocab_size=300"
"""Of tp 2, one rank has 256 rows and the other 44; of tp 4, one has nothing but padding."""

BESIDE, PARTS = "plan.tp_overlap=true", "plan.scatter_gather=true"
SEQUENCE = "plan.sequence_parallel=true"
WINDOW = ["model.sliding_window=3", "model.full_attention_every=2"]
SELECTIVE = "plan.recompute=selective"
FSDP = "plan.sharding=fsdp"
GATHERED = "plan.context_parallel=all_gather"
ZERO1, ZERO2 = "plan.sharding=zero1", "plan.sharding=zero2"
HSDP = ("plan.sharding=hsdp", "plan.dp_shard=2")
EARLY = "plan.overlap_param_gather=true"
LAYERS = "model.num_hidden_layers=8"
STAYS = "plan.reshard_after_forward=false"
EACH = "plan.gradient_sync=each"
DROPOUT = "model.dropout=0.25"

OFFLOAD = "plan.offload=optimizer"
FP32_SUMS = "plan.gradient_dtype=fp32"

SCHEDULES = (
    "naive",
    "interleaved_1f1b",
    "looped_bfs",
    "zb_h1",
    "zb_h2",
    "interleaved_zero_bubble",
    "zbv",
    "v_half",
    "v_min",
    "dualpipe_v",
    "chimera",
    "hanayo",
    "zb_auto",
)

CUSTOM = sorted(Path(__file__).with_name("schedules").glob("*.csv"))
"""Rows for two ranks and four micro-batches; those called mixed have whole and split backwards on both ranks."""

FOUR_RANKS = Path(__file__).with_name("schedules") / "four-ranks" / "mixed.csv"
"""Rows for four ranks and eight micro-batches: 1F1B of which every rank splits every other backward."""

# name: (world size, model, micro-batch size, further settings)
CASES: dict[str, tuple[int, str, int, list[str]]] = {
    **{f"{model}-single": (1, model, 4, [SGD]) for model in FIRST},
    "gpt-single-adam": (1, "gpt", 2, [ADAM]),
    **{f"{model}-dp2": (2, model, 2, ["plan.dp=2", SGD]) for model in FIRST},
    **{f"{model}-tp2": (2, model, 4, ["plan.tp=2", MOMENTUM]) for model in MODELS if model not in ("neuron", "normed")},
    # Batch normalisation depends on what is in a micro-batch: all of the batch, as in the process alone.
    **{f"normed-tp{tp}": (tp, "normed", 8, [f"plan.tp={tp}", SGD]) for tp in (1, 2, 4)},
    **{f"{model}-pp2-1f1b": (2, model, 2, ["plan.pp=2", ADAM]) for model in ("gpt", "cnn", "mlp", "residual")},
    **{
        f"{model}-pp2-gpipe": (2, model, 1, ["plan.pp=2", "plan.schedule=gpipe", SGD])
        for model in ("gpt", "cnn", "mlp")
    },
    "gpt-dp2-buckets": (2, "gpt", 2, ["plan.dp=2", BUCKETS, ADAM]),
    "gpt-dp2-no-overlap": (2, "gpt", 2, ["plan.dp=2", "plan.dp_overlap=false", BUCKETS, ADAM]),
    "mlp-pp2-by-hand": (2, "mlp", 2, ["plan.pp=2", "plan.stages=[hidden0, hidden1]", SGD]),
    "gpt-pp2-fewer-microbatches": (2, "gpt", 8, ["plan.pp=2", SGD]),
    "gpt-dp2-tp2": (4, "gpt", 2, ["plan.dp=2", "plan.tp=2", BUCKETS, ADAM]),
    "gpt-dp2-pp2": (4, "gpt", 1, ["plan.dp=2", "plan.pp=2", MOMENTUM]),
    "gpt-tp2-pp2": (4, "gpt", 2, ["plan.tp=2", "plan.pp=2", "plan.schedule=gpipe", SGD]),
    "gpt-tp4": (4, "gpt", 4, ["plan.tp=4", ADAM]),
    "gpt-dp4": (4, "gpt", 1, ["plan.dp=4", ADAM]),
    "gpt-axes": (4, "gpt", 2, ["plan.tp=2", "plan.dp=2", "plan.axes=[tp, pp, dp]", ADAM]),
    "gpt-pp2-axes": (4, "gpt", 1, ["plan.pp=2", "plan.dp=2", "plan.axes=[dp, tp, pp]", ADAM]),
    "mlp-pp4": (4, "mlp", 1, ["plan.pp=4", SGD]),
    "mlp-pp4-gpipe": (4, "mlp", 2, ["plan.pp=4", "plan.schedule=gpipe", SGD]),
    "cnn-tp2-dp2": (4, "cnn", 2, ["plan.tp=2", "plan.dp=2", BUCKETS, SGD]),
    "cnn-tp2-pp2": (4, "cnn", 2, ["plan.tp=2", "plan.pp=2", ADAM]),
    "mlp-dp2-pp2-buckets": (4, "mlp", 1, ["plan.dp=2", "plan.pp=2", BUCKETS, SGD]),
    "neuron-dp4": (4, "neuron", 1, ["plan.dp=4", SGD]),
    "gpt-bf16-dp2-tp2": (4, "gpt", 2, ["plan.dp=2", "plan.tp=2", "plan.dtype=bf16", ADAM]),
    **{
        f"{model}-pp2-{schedule}": (
            2,
            model,
            1,
            ["plan.pp=2", f"plan.schedule={schedule}", SGD, *(["model.num_hidden_layers=4"] if model == "gpt" else [])],
        )
        for model in ("gpt", "mlp")
        for schedule in SCHEDULES
    },
    **{
        f"{model}-pp4-{schedule}": (
            4,
            model,
            1,
            [
                "plan.pp=4",
                f"plan.schedule={schedule}",
                SGD,
                "model.num_hidden_layers=8" if model == "gpt" else "model.hidden_sizes=[16,16,16,16,16,16,16]",
            ],
        )
        for model in ("gpt", "mlp")
        for schedule in SCHEDULES
    },
    **{
        f"gpt-pp{pp}-{schedule}-shared-vocabulary": (
            pp,
            "gpt",
            1,
            ["plan.vocab_parallel=pipeline", f"plan.pp={pp}", f"plan.schedule={schedule}", LAYERS, SGD],
        )
        for pp, schedule in ((2, "1f1b"), (2, "v_half"), (4, "zbv"), (4, "1f1b"))
    },
    "gpt-dp2-pp2-shared-vocabulary-buckets": (
        4,
        "gpt",
        1,
        ["plan.vocab_parallel=pipeline", "plan.pp=2", "plan.dp=2", ZERO1, BUCKETS, ADAM],
    ),
    **{
        f"{model}-pp2-custom-{rows.stem}": (
            2,
            model,
            2,
            ["plan.pp=2", "plan.schedule=custom", f"plan.schedule_file={rows}", SGD],
        )
        for model in ("gpt", "mlp")
        for rows in CUSTOM
    },
    **{
        f"gpt-pp4-{name}": (4, "gpt", 1, ["plan.pp=4", "model.num_hidden_layers=8", *keys, SGD])
        for name, keys in {
            "1f1b": [],
            "gpipe": ["plan.schedule=gpipe"],
            "custom": ["plan.schedule=custom", f"plan.schedule_file={FOUR_RANKS}"],
        }.items()
    },
    "gpt-tp2-pp2-zb_h1": (4, "gpt", 1, ["plan.tp=2", "plan.pp=2", "plan.schedule=zb_h1", SGD]),
    "gpt-dp2-pp2-zbv": (
        4,
        "gpt",
        1,
        ["plan.dp=2", "plan.pp=2", "plan.schedule=zbv", "model.num_hidden_layers=4", BUCKETS, SGD],
    ),
    "gpt-dp2-pp2-chimera": (4, "gpt", 1, ["plan.dp=2", "plan.pp=2", "plan.schedule=chimera", BUCKETS, ADAM]),
    "gpt-tp2-pp2-chimera": (4, "gpt", 1, ["plan.tp=2", "plan.pp=2", "plan.schedule=chimera", MOMENTUM]),
    **{
        f"{model}-tp2-{name}": (2, model, 4, ["plan.tp=2", BESIDE, *keys, optimizer])
        for model, name, keys, optimizer in (
            ("gpt", "overlap", [], SGD),
            ("mixtral", "overlap", [], ADAM),
            ("llama", "overlap-sequence", [SEQUENCE], MOMENTUM),
            ("gpt", "overlap-recompute", [RECOMPUTE, VOCABULARY, ROWS], SGD),
        )
    },
    "gpt-dp2-tp2-overlap-fsdp": (4, "gpt", 2, ["plan.dp=2", "plan.tp=2", BESIDE, FSDP, ADAM]),
    "gpt-dp2-tp2-overlap-buckets": (4, "gpt", 2, ["plan.dp=2", "plan.tp=2", BESIDE, BUCKETS, SGD]),
    **{
        f"{model}-tp2-pp2-{schedule}-parts": (
            4,
            model,
            1,
            ["plan.tp=2", "plan.pp=2", f"plan.schedule={schedule}", PARTS, *keys, SGD],
        )
        for model, schedule, keys in (
            ("gpt", "1f1b", [BESIDE]),
            ("gpt", "interleaved_1f1b", ["plan.p2p_overlap=false", "model.num_hidden_layers=4"]),
            ("gpt", "zbv", [BESIDE, "model.num_hidden_layers=4"]),
            ("gpt", "chimera", [RECOMPUTE]),
            ("cnn", "gpipe", []),
        )
    },
    "gpt-pp2-blocking": (2, "gpt", 1, ["plan.pp=2", "plan.p2p_overlap=false", SGD]),
    "gpt-pp2-no-barrier": (2, "gpt", 1, ["plan.pp=2", "plan.schedule=zb_h2", "plan.optimizer_barrier=false", SGD]),
    "cnn-pp2-zb_h1": (2, "cnn", 1, ["plan.pp=2", "plan.schedule=zb_h1", MOMENTUM]),
    "cnn-tp2-pp2-zb_h2": (4, "cnn", 2, ["plan.tp=2", "plan.pp=2", "plan.schedule=zb_h2", SGD]),
    "mlp-tp2-pp2": (4, "mlp", 2, ["plan.tp=2", "plan.pp=2", "model.in_features=256", SGD]),
    **{f"{model}-single-recompute": (1, model, 2, [RECOMPUTE, SGD]) for model in FIRST},
    **{f"{model}-tp2-recompute": (2, model, 4, ["plan.tp=2", RECOMPUTE, SGD]) for model in ("gpt", "mlp", "residual")},
    **{
        f"{model}-pp2-{schedule}-recompute": (
            2,
            model,
            1,
            ["plan.pp=2", f"plan.schedule={schedule}", "model.num_hidden_layers=4", RECOMPUTE, ADAM]
            if model == "gpt"
            else ["plan.pp=2", f"plan.schedule={schedule}", RECOMPUTE, MOMENTUM],
        )
        for model in ("gpt", "mlp")
        for schedule in ("1f1b", "zb_h1", "zbv")
    },
    "cnn-dp2-recompute": (2, "cnn", 1, ["plan.dp=2", BUCKETS, RECOMPUTE, SGD]),
    "gpt-bf16-dp2-recompute": (2, "gpt", 2, ["plan.dp=2", RECOMPUTE, "plan.dtype=bf16", SGD]),
    "gpt-tp2-pp2-zb_h1-recompute": (
        4,
        "gpt",
        2,
        ["plan.tp=2", "plan.pp=2", "plan.schedule=zb_h1", "model.num_hidden_layers=4", RECOMPUTE, SGD],
    ),
    "mlp-tp2-pp2-recompute": (4, "mlp", 2, ["plan.tp=2", "plan.pp=2", RECOMPUTE, ADAM]),
    "gpt-dp2-pp2-recompute": (4, "gpt", 1, ["plan.dp=2", "plan.pp=2", BUCKETS, RECOMPUTE, MOMENTUM]),
    **{
        f"{model}-tp{tp}-vocabulary": (tp, model, 4, [f"plan.tp={tp}", VOCABULARY, ROWS, optimizer])
        for model, tp, optimizer in (("gpt", 2, SGD), ("gpt", 4, MOMENTUM), ("llama", 2, ADAM), ("deepseek", 2, SGD))
    },
    "gpt-tp2-vocabulary-few-rows": (2, "gpt", 4, ["plan.tp=2", VOCABULARY, SGD]),
    "gpt-bf16-tp2-vocabulary": (2, "gpt", 4, ["plan.tp=2", VOCABULARY, ROWS, "plan.dtype=bf16", ADAM]),
    "gpt-tp2-pp2-zb_h1-vocabulary": (
        4,
        "gpt",
        2,
        ["plan.tp=2", "plan.pp=2", "plan.schedule=zb_h1", VOCABULARY, ROWS, RECOMPUTE, SGD],
    ),
    "gpt-dp2-tp2-fsdp-vocabulary": (4, "gpt", 2, ["plan.dp=2", "plan.tp=2", FSDP, VOCABULARY, ROWS, ADAM]),
    "llama-dp2-tp2-tied-vocabulary": (
        4,
        "llama",
        2,
        ["plan.dp=2", "plan.tp=2", VOCABULARY, ROWS, "model.tie_embeddings=true", BUCKETS, SGD],
    ),
    **{
        f"{model}-tp{tp}-sequence": (tp, model, 4, [f"plan.tp={tp}", SEQUENCE, optimizer])
        for model, tp, optimizer in (("gpt", 2, SGD), ("gpt", 4, MOMENTUM), ("llama", 2, ADAM))
    },
    **{
        f"llama-{name}-few-kv-heads": (world, "llama", 4, [f"model.num_key_value_heads={heads}", *keys, SGD])
        for name, (world, heads, keys) in {
            "tp2": (2, 1, ["plan.tp=2"]),
            "tp2-flash-recompute": (2, 1, ["plan.tp=2", "plan.attention=flash", RECOMPUTE]),
            "tp2-sequence": (2, 1, ["plan.tp=2", SEQUENCE]),
            "tp4": (4, 2, ["plan.tp=4"]),
            "cp2-tp2": (4, 1, ["plan.cp=2", "plan.tp=2"]),
            "tp2-pp2-zb_h1": (4, 1, ["plan.tp=2", "plan.pp=2", "plan.schedule=zb_h1"]),
        }.items()
    },
    "gpt-bf16-tp2-sequence": (2, "gpt", 4, ["plan.tp=2", SEQUENCE, "plan.dtype=bf16", ADAM]),
    "llama-tp2-sequence-flash": (2, "llama", 4, ["plan.tp=2", SEQUENCE, "plan.attention=flash", SGD]),
    "gpt-tp2-sequence-selective": (2, "gpt", 4, ["plan.tp=2", SEQUENCE, SELECTIVE, SGD]),
    "llama-tp2-sequence-recompute": (2, "llama", 4, ["plan.tp=2", SEQUENCE, RECOMPUTE, "plan.recompute_blocks=1", SGD]),
    "gpt-dp2-tp2-sequence": (4, "gpt", 2, ["plan.dp=2", "plan.tp=2", SEQUENCE, BUCKETS, ADAM]),
    "gpt-dp2-tp2-fsdp-sequence": (4, "gpt", 2, ["plan.dp=2", "plan.tp=2", SEQUENCE, FSDP, ADAM]),
    **{
        f"{model}-tp2-pp2-{schedule}-sequence": (
            4,
            model,
            1,
            ["plan.tp=2", "plan.pp=2", f"plan.schedule={schedule}", SEQUENCE, "model.num_hidden_layers=4", SGD],
        )
        for model in ("gpt", "llama")
        for schedule in ("1f1b", "zb_h1", "zbv")
    },
    **{
        f"{model}-single-{attention}-selective": (1, model, 2, [f"plan.attention={attention}", SELECTIVE, SGD])
        for model in ("gpt", "llama", "deepseek")
        for attention in ("flash", "math")
    },
    "gpt-tp2-selective": (2, "gpt", 4, ["plan.tp=2", SELECTIVE, MOMENTUM]),
    "gpt-pp2-zb_h1-selective": (2, "gpt", 1, ["plan.pp=2", "plan.schedule=zb_h1", SELECTIVE, ADAM]),
    "gpt-dp2-fsdp-selective": (2, "gpt", 2, ["plan.dp=2", FSDP, SELECTIVE, ADAM]),
    "llama-tp2-pp2-selective": (4, "llama", 2, ["plan.tp=2", "plan.pp=2", SELECTIVE, "plan.recompute_blocks=1", SGD]),
    "gpt-pp2-recompute-blocks": (
        2,
        "gpt",
        1,
        ["plan.pp=2", "model.num_hidden_layers=4", RECOMPUTE, "plan.recompute_blocks=1", SGD],
    ),
    **{f"{model}-dp2-fsdp": (2, model, 2, ["plan.dp=2", FSDP, ADAM]) for model in FIRST},
    "llama-pp2-zb_h1": (2, "llama", 1, ["plan.pp=2", "plan.schedule=zb_h1", "model.flash=true", SGD]),
    "mixtral-dp2-fsdp-recompute": (2, "mixtral", 2, ["plan.dp=2", FSDP, RECOMPUTE, SGD]),
    "deepseek-pp2-recompute": (2, "deepseek", 2, ["plan.pp=2", "plan.stages=balanced", RECOMPUTE, SGD]),
    "gpt-single-fsdp": (1, "gpt", 2, [FSDP, SGD]),
    "gpt-dp2-fsdp-no-overlap": (2, "gpt", 1, ["plan.dp=2", "plan.dp_overlap=false", FSDP, MOMENTUM]),
    **{f"{model}-dp2-fsdp-recompute": (2, model, 1, ["plan.dp=2", FSDP, RECOMPUTE, SGD]) for model in ("gpt", "mlp")},
    "gpt-bf16-dp2-fsdp": (2, "gpt", 2, ["plan.dp=2", FSDP, "plan.dtype=bf16", ADAM]),
    **{f"{model}-dp4-fsdp": (4, model, 1, ["plan.dp=4", FSDP, MOMENTUM]) for model in ("gpt", "mlp", "neuron")},
    **{
        f"{model}-dp2-tp2-fsdp": (4, model, 2, ["plan.dp=2", "plan.tp=2", FSDP, ADAM])
        for model in ("gpt", "mlp", "cnn", "residual")
    },
    **{
        f"{model}-dp2-pp2-{schedule}-fsdp": (
            4,
            model,
            1,
            ["plan.dp=2", "plan.pp=2", f"plan.schedule={schedule}", FSDP, MOMENTUM]
            + (["model.num_hidden_layers=4"] if model == "gpt" else []),
        )
        for model in ("gpt", "mlp")
        for schedule in ("1f1b", "zb_h1", "zbv")
    },
    "cnn-dp2-pp2-zb_h1-fsdp": (4, "cnn", 1, ["plan.dp=2", "plan.pp=2", "plan.schedule=zb_h1", FSDP, SGD]),
    "gpt-dp2-pp2-zb_h1-fsdp-recompute": (
        4,
        "gpt",
        1,
        ["plan.dp=2", "plan.pp=2", "plan.schedule=zb_h1", "model.num_hidden_layers=4", FSDP, RECOMPUTE, SGD],
    ),
    "gpt-dp2-tp2-fsdp-recompute": (4, "gpt", 2, ["plan.dp=2", "plan.tp=2", FSDP, RECOMPUTE, SGD]),
    "mixtral-ep2": (2, "mixtral", 2, ["plan.dp=2", "plan.ep=2", SGD]),
    "mixtral-ep2-dp4": (4, "mixtral", 1, ["plan.dp=4", "plan.ep=2", BUCKETS, MOMENTUM]),
    "mixtral-ep4": (4, "mixtral", 2, ["plan.dp=4", "plan.ep=4", SGD]),
    "mixtral-ep2-tp2": (4, "mixtral", 2, ["plan.dp=2", "plan.ep=2", "plan.tp=2", SGD]),
    "mixtral-ep2-deep_ep": (2, "mixtral", 2, ["plan.dp=2", "plan.ep=2", "plan.expert_dispatch=deep_ep", SGD]),
    **{
        f"mixtral-ep{ep}-tp2-whole-experts": (
            4,
            "mixtral",
            2,
            ["plan.dp=2", f"plan.ep={ep}", "plan.tp=2", SEQUENCE, "plan.expert_tp=1", *keys],
        )
        for ep, keys in {1: [SGD], 2: [ZERO1, BUCKETS, ADAM], 4: [RECOMPUTE, SGD]}.items()
    },
    **{
        f"llama-tp2-window-{attention}": (
            2,
            "llama",
            4,
            ["plan.tp=2", f"plan.attention={attention}", *WINDOW, SGD],
        )
        for attention in ("math", "flash")
    },
    "llama-cp2-window": (2, "llama", 4, ["plan.cp=2", "plan.context_parallel=all_to_all", *WINDOW, SGD]),
    "mixtral-ep2-pp2-zb_h1": (4, "mixtral", 2, ["plan.dp=2", "plan.ep=2", "plan.pp=2", "plan.schedule=zb_h1", SGD]),
    "mixtral-ep2-recompute": (2, "mixtral", 2, ["plan.dp=2", "plan.ep=2", RECOMPUTE, SGD]),
    **{
        f"mixtral-ep{ep}-dp{dp}-fsdp{suffix}": (dp, "mixtral", 1, [f"plan.dp={dp}", f"plan.ep={ep}", FSDP, *keys, ADAM])
        for ep, dp, suffix, keys in (
            (2, 2, "", []),
            (2, 4, "", []),
            (2, 4, "-each", [EACH]),
            (2, 4, "-stays-recompute", [STAYS, RECOMPUTE]),
            (2, 4, "-offload", [OFFLOAD]),
            (4, 4, "-offload", [OFFLOAD, EACH]),
        )
    },
    "mixtral-ep2-dp2-tp2-fsdp-folded": (
        4,
        "mixtral",
        2,
        ["plan.dp=2", "plan.ep=2", "plan.tp=2", SEQUENCE, "plan.expert_tp=1", FSDP, SGD],
    ),
    "mixtral-ep2-dp2-tp2-fsdp": (4, "mixtral", 2, ["plan.dp=2", "plan.ep=2", "plan.tp=2", FSDP, SGD]),
    "mixtral-ep2-dp2-pp2-zb_h1-fsdp": (
        4,
        "mixtral",
        2,
        ["plan.dp=2", "plan.ep=2", "plan.pp=2", "plan.schedule=zb_h1", FSDP, SGD],
    ),
    "deepseek-ep2-cp2-dp2-fsdp": (4, "deepseek", 2, ["plan.dp=2", "plan.ep=2", "plan.cp=2", GATHERED, FSDP, SGD]),
    "deepseek-ep4-cp2": (4, "deepseek", 4, ["plan.dp=2", "plan.ep=4", "plan.cp=2", GATHERED, SGD]),
    **{
        f"{model}-cp2-{mode}": (2, model, 4, ["plan.cp=2", f"plan.context_parallel={mode}", *further, SGD])
        for model, further in (("gpt", []), ("llama", ["model.flash=true"]), ("deepseek", []))
        for mode in ("all_to_all", "all_gather", "ring")
        if (model, mode) != ("deepseek", "ring")
    },
    "gpt-cp3-ring": (3, "gpt", 4, ["plan.cp=3", SGD]),
    "llama-cp2-tp2-ring": (4, "llama", 4, ["plan.cp=2", "plan.tp=2", MOMENTUM]),
    "mixtral-cp2-ep2-ring-recompute": (2, "mixtral", 4, ["plan.cp=2", "plan.ep=2", RECOMPUTE, SGD]),
    "llama-bf16-cp2-ring": (2, "llama", 4, ["plan.cp=2", "plan.dtype=bf16", SGD]),
    "llama-cp2-tp2": (4, "llama", 4, ["plan.cp=2", "plan.tp=2", GATHERED, MOMENTUM]),
    "gpt-cp2-pp2-recompute": (4, "gpt", 2, ["plan.cp=2", "plan.pp=2", GATHERED, RECOMPUTE, SGD]),
    **{f"{model}-dp2-zero1": (2, model, 1, ["plan.dp=2", ZERO1, BUCKETS, ADAM]) for model in FIRST},
    **{f"{model}-dp2-zero2": (2, model, 1, ["plan.dp=2", ZERO2, BUCKETS, MOMENTUM]) for model in FIRST},
    "gpt-single-zero1": (1, "gpt", 2, [ZERO1, SGD]),
    "gpt-dp2-zero1-early-gather": (2, "gpt", 1, ["plan.dp=2", ZERO1, EARLY, BUCKETS, ADAM]),
    "gpt-dp2-zero1-no-overlap": (2, "gpt", 1, ["plan.dp=2", ZERO1, "plan.dp_overlap=false", BUCKETS, SGD]),
    "gpt-dp2-zero2-no-overlap": (2, "gpt", 1, ["plan.dp=2", ZERO2, "plan.dp_overlap=false", BUCKETS, SGD]),
    "gpt-bf16-dp2-zero1": (2, "gpt", 2, ["plan.dp=2", ZERO1, "plan.dtype=bf16", FP32_SUMS, ADAM]),
    "gpt-bf16-dp2-zero2": (2, "gpt", 2, ["plan.dp=2", ZERO2, EARLY, "plan.dtype=bf16", ADAM]),
    "gpt-bf16-dp2-fp32-sums": (2, "gpt", 1, ["plan.dp=2", "plan.dtype=bf16", FP32_SUMS, MOMENTUM]),
    "gpt-bf16-pp2-zb_h1-fp32-sums": (
        2,
        "gpt",
        1,
        ["plan.pp=2", "plan.schedule=zb_h1", "plan.dtype=bf16", FP32_SUMS, SGD],
    ),
    **{f"{model}-dp2-fsdp-each": (2, model, 1, ["plan.dp=2", FSDP, EACH, ADAM]) for model in FIRST},
    **{f"{model}-dp2-fsdp-stays": (2, model, 1, ["plan.dp=2", FSDP, STAYS, MOMENTUM]) for model in FIRST},
    "gpt-dp2-fsdp-prefetch": (2, "gpt", 1, ["plan.dp=2", FSDP, "plan.prefetch=3", ADAM]),
    "gpt-dp4-zero1": (4, "gpt", 1, ["plan.dp=4", ZERO1, BUCKETS, MOMENTUM]),
    "gpt-dp4-zero2": (4, "gpt", 1, ["plan.dp=4", ZERO2, BUCKETS, ADAM]),
    **{f"{model}-dp4-hsdp": (4, model, 1, ["plan.dp=4", *HSDP, ADAM]) for model in ("gpt", "mlp", "neuron")},
    "gpt-dp4-hsdp-each": (4, "gpt", 1, ["plan.dp=4", *HSDP, EACH, STAYS, MOMENTUM]),
    "gpt-dp2-tp2-zero1": (4, "gpt", 1, ["plan.dp=2", "plan.tp=2", ZERO1, EARLY, BUCKETS, ADAM]),
    **{
        f"gpt-dp2-pp2-{schedule}-{name}": (
            4,
            "gpt",
            1,
            ["plan.dp=2", "plan.pp=2", f"plan.schedule={schedule}", "model.num_hidden_layers=4", BUCKETS, *keys, SGD],
        )
        for schedule in ("1f1b", "zb_h1", "zbv")
        for name, keys in {
            "zero1": [ZERO1],
            "zero1-early-gather": [ZERO1, EARLY],
            "zero2": [ZERO2],
            "fsdp-each-stays": [FSDP, EACH, STAYS],
        }.items()
    },
    **{
        f"gpt-{name}-dropout": (world, "gpt", size, [*keys, DROPOUT, SGD])
        for name, (world, size, keys) in {
            "single": (1, 4, []),
            "single-flash": (1, 2, ["plan.attention=flash"]),
            "single-recompute": (1, 2, [RECOMPUTE]),
            "dp2": (2, 2, ["plan.dp=2"]),
            "dp2-fsdp-selective": (2, 2, ["plan.dp=2", FSDP, SELECTIVE]),
            "tp2": (2, 4, ["plan.tp=2"]),
            "tp2-sequence": (2, 4, ["plan.tp=2", SEQUENCE]),
            "tp2-sequence-recompute": (2, 4, ["plan.tp=2", SEQUENCE, RECOMPUTE]),
            "pp2-zbv": (2, 1, ["plan.pp=2", "plan.schedule=zbv", "model.num_hidden_layers=4"]),
            "pp2-chimera": (2, 1, ["plan.pp=2", "plan.schedule=chimera"]),
            "dp2-tp2-flash": (4, 2, ["plan.dp=2", "plan.tp=2", "plan.attention=flash", VOCABULARY]),
            "tp2-pp2-zb_h1-selective": (4, 2, ["plan.tp=2", "plan.pp=2", "plan.schedule=zb_h1", SEQUENCE, SELECTIVE]),
            "cp2-tp2-ring": (4, 4, ["plan.cp=2", "plan.tp=2"]),
            "cp2-tp2-all_gather": (4, 4, ["plan.cp=2", "plan.tp=2", GATHERED, "plan.attention=flash"]),
            "cp2-tp2-all_to_all": (4, 4, ["plan.cp=2", "plan.tp=2", "plan.context_parallel=all_to_all"]),
        }.items()
    },
    **{
        f"{model}-single-offload{'-zero2' * bool(keys)}": (1, model, 2, [OFFLOAD, BUCKETS, *keys, ADAM])
        for model in FIRST
        for keys in ([], [ZERO2])
    },
    **{
        f"gpt-{name}-offload": (world, "gpt", 1, [OFFLOAD, BUCKETS, *keys, ADAM])
        for name, (world, keys) in {
            "dp2": (2, ["plan.dp=2"]),
            "dp2-zero1-early-gather": (2, ["plan.dp=2", ZERO1, EARLY]),
            "dp2-zero2": (2, ["plan.dp=2", ZERO2]),
            "dp2-zero2-no-overlap": (2, ["plan.dp=2", ZERO2, "plan.dp_overlap=false"]),
            "bf16-dp2-zero2": (2, ["plan.dp=2", ZERO2, "plan.dtype=bf16"]),
            "dp2-fsdp": (2, ["plan.dp=2", FSDP]),
            "dp2-fsdp-each": (2, ["plan.dp=2", FSDP, EACH]),
            "tp2": (2, ["plan.tp=2"]),
            "pp2-zb_h1": (2, ["plan.pp=2", "plan.schedule=zb_h1"]),
            "dp2-pp2-zbv-zero1": (
                4,
                ["plan.dp=2", "plan.pp=2", "plan.schedule=zbv", "model.num_hidden_layers=4", ZERO1],
            ),
            "dp2-pp2-chimera": (4, ["plan.dp=2", "plan.pp=2", "plan.schedule=chimera"]),
            "dp4-hsdp-each": (4, ["plan.dp=4", *HSDP, EACH]),
        }.items()
    },
    **{
        f"mixtral-ep2-dp{dp}-offload{suffix}": (dp, "mixtral", 1, [f"plan.dp={dp}", "plan.ep=2", OFFLOAD, *keys, SGD])
        for dp, suffix, keys in ((2, "", []), (2, "-zero1", [ZERO1]), (4, "-zero1", [ZERO1]))
    },
    "gpt-bf16-pp2": (2, "gpt", 2, ["plan.pp=2", "plan.dtype=bf16", MOMENTUM]),
}


def settings(case: str) -> tuple[str, list[str]]:
    """Return the model preset and all settings of a case."""
    world, model, microbatch, further = CASES[case]
    preset, sizes = MODELS[model]
    batch = BATCH.format(microbatch).split()
    return preset, [f"topology.node.count={world}", *sizes.split(), *batch, *further]


GATE = {name for index, name in enumerate(CASES) if CASES[name][0] == 1 or index % 5 == 0}
"""Every fifth case, and those of one process, which are quick; ``make check-all`` trains the rest."""


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the cases that were chosen, one launch for each world size."""
    out = tmp_path_factory.mktemp("parity")
    cases = [item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec")]
    chosen = [name for name in CASES if name in cases]
    for world in sorted({CASES[name][0] for name in chosen}):
        train_together(out, world, {name: settings(name) for name in chosen if CASES[name][0] == world})
    return out


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", [pytest.param(name, marks=[pytest.mark.slow] * (name not in GATE)) for name in CASES])
def test_training_equals_one_process(trained: Path, case: str) -> None:
    assert_equals_one_process(trained, case, CASES[case][0], *settings(case))


def test_mixed_rows_are_mixed() -> None:
    for rows in (*CUSTOM, FOUR_RANKS):
        kinds = [set("BIW") & set(line) for line in rows.read_text().splitlines()]
        assert kinds == [set("BIW") if rows.stem == "mixed" else {"B"}] * (4 if rows == FOUR_RANKS else 2)
