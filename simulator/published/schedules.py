"""Pipeline schedules: the names that papers and frameworks use -> the plan's keys."""

from __future__ import annotations

import re

from simulator.published.draft import STATED, Draft
from simulator.published.row import Row

POSTED = {"optimizer_barrier": False, "p2p_overlap": True}
"""The zero-bubble authors' runtime posts messages and goes on, and ranks update without waiting for each other."""

NAMES: tuple[tuple[str, dict[str, object]], ...] = (
    (r"v.?half", {"schedule": "v_half", **POSTED}),
    (r"v.?min", {"schedule": "v_min", **POSTED}),
    (r"zb.?2p", {"schedule": "zb_auto", "held": 2, **POSTED}),
    (r"zb.?1p", {"schedule": "zb_auto", "held": 1, **POSTED}),
    (r"zb.?h1", {"schedule": "zb_h1", **POSTED}),
    (r"zb.?h2", {"schedule": "zb_h2", **POSTED}),
    (r"zb.?v", {"schedule": "zbv", **POSTED}),
    (r"dual.?pipe", {"schedule": "dualpipe_v"}),
    (r"chimera", {"schedule": "chimera"}),
    (r"hanayo", {"schedule": "hanayo"}),
    (r"(?:looped.?)?(?:bfs|breadth)", {"schedule": "looped_bfs"}),
    (r"redis", {"schedule": "1f1b", "stages": "balanced"}),
    (r"interleav|1f1b.?i\b|virtual", {"schedule": "interleaved_1f1b"}),
    (r"1f1b|pipedream.?flush|dapple", {"schedule": "1f1b"}),
    (r"gpipe|f.then.b|afab|all.?forward", {"schedule": "gpipe"}),
)
"""Pattern -> keys; the first that is found counts. ``held``: micro-batches per rank that may be in flight."""

SHARED_VOCABULARY = re.compile(r"vocab.?1")
OTHERWISE_SHARED = re.compile(r"interlaced|vocab.?2")
"""Vocabulary parallelism's first algorithm (arXiv 2411.05288) is what plans have; not its second, nor nnScaler's."""


def put_schedule(plan: Draft, row: Row, ranks: int) -> None:
    """Set the schedule, its virtual stages and where the stages are cut."""
    chunks = row.count("vpp") or 0
    text = row.text("schedule").lower()
    if ranks == 1:
        return
    keys = dict(next((keys for pattern, keys in NAMES if re.search(pattern, text)), {})) if text else {}
    if text and not keys:
        row.problems.add("schedule", f'"{text}" is not understood', "plancast schedules names those there are")
        return
    if OTHERWISE_SHARED.search(text):
        row.problems.add("schedule", f'"{text}" shares the vocabulary in a way that is not there yet')
        return
    if SHARED_VOCABULARY.search(text):
        keys |= {"vocab_parallel": "pipeline", **POSTED}
    origin = f'"{text}"'
    if not text:
        keys, origin = {"schedule": "1f1b"}, "default: not stated"
    if keys.get("schedule") == "1f1b" and chunks > 1:
        keys["schedule"], origin = "interleaved_1f1b", f"{origin}, {chunks} virtual stages"
    if keys.get("schedule") == "interleaved_1f1b":
        if chunks == 1:
            keys["schedule"] = "1f1b"
        else:
            assumed = f"default: not stated; {_chunks(row, ranks)} divides the layers of a rank"
            plan.put("num_stages_per_rank", chunks or _chunks(row, ranks), STATED if chunks else assumed)
    if "held" in keys:
        keys["activation_limit"] = int(str(keys.pop("held"))) * ranks
    for key, value in keys.items():
        plan.put(key, value, origin)


def _chunks(row: Row, ranks: int) -> int:
    """Return the fewest virtual stages, two or more, that divide a rank's layers."""
    layers = row.count("layers") or 2 * ranks
    return next((number for number in range(2, layers + 1) if layers % (ranks * number) == 0), 2)


def put_stages(plan: Draft, layers: int | None, ranks: int) -> None:
    """Cut the model as frameworks do: equal numbers of layers, or the ends counted as layers where that is even.

    Notes
    -----
    Megatron-LM's --account-for-embedding-in-pipeline-split and --account-for-loss-in-pipeline-split count the
    embedding and the output projection as a layer each, as do the zero-bubble authors (arXiv 2401.10241, section 5).
    """
    if ranks == 1 or layers is None or "stages" in plan.data:
        return
    number = ranks * int(plan.data.get("num_stages_per_rank", _usual(plan)))
    blocks = [f"block{index}" for index in range(layers)]
    if layers % number == 0:
        plan.put("stages", "even", "equal numbers of layers")
    elif (layers + 2) % number == 0:
        starts = ["embedding", *blocks, "head"][:: (layers + 2) // number]
        plan.put("stages", starts, f"{layers} + 2 layers, embedding and head counted as one each, on {number} stages")
    elif (layers + 1) % number == 0:
        share = (layers + 1) // number
        starts = ["embedding", *blocks[share::share]]
        plan.put("stages", starts, f"{layers} + 1 layers, the head counted as one, on {number} stages")
    else:
        plan.put("stages", "balanced", f"{layers} layers do not divide into {number} stages")


def _usual(plan: Draft) -> int:
    return 2 if plan.data.get("schedule") in ("zbv", "v_half", "v_min", "dualpipe_v") else 1
