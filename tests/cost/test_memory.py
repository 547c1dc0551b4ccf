"""Bytes of a rank, by hand and by published formulas."""

import pytest

from simulator.cost import Calibration, ComputeCost, Memory, peak_memory
from simulator.cost.memory import capacity
from simulator.errors import InputError
from simulator.load import load
from simulator.program import Instruction, Kind
from tests.cost.box import inputs

MIB = 2**20


def test_memory_of_one_layer() -> None:
    mlp = inputs("mlp-tiny", "model.hidden_sizes=[32]", "plan.num_microbatches=3", "plan.schedule=gpipe")
    parameters = 784 * 32 + 32 + 32 * 10 + 10
    # Relu's output and for the loss the log-probabilities, three micro-batches in flight; images and int64 classes.
    activations = 3 * 8 * (32 + 10) * 4
    assert peak_memory(mlp.program, 0) == Memory(
        params=4.0 * parameters,
        grads=4.0 * parameters,
        optimizer_state=8.0 * parameters,
        activations=activations,
        data=3 * 8 * (784 * 4 + 8),
        comm_buffers=0.0,
    )


def test_mixed_precision_with_adam_keeps_16_bytes_a_parameter() -> None:
    gpt = inputs("gpt-tiny", "plan.dtype=bf16")
    memory = peak_memory(gpt.program, 0)
    assert memory.params + memory.grads + memory.optimizer_state == 16 * gpt.graph.num_parameters
    assert memory.total == sum(memory.terms().values())
    assert memory.terms()[memory.dominant()] == max(memory.terms().values())


def test_1f1b_holds_fewer_activations_than_gpipe() -> None:
    changes = ("plan.pp=4", "plan.num_microbatches=16")
    held = {
        schedule: [
            peak_memory(inputs("gpt-tiny", *changes, f"plan.schedule={schedule}", devices=4).program, rank).activations
            for rank in range(4)
        ]
        for schedule in ("gpipe", "1f1b")
    }
    for rank in range(4):
        # Beside it a buffer for the next gradient, which is small.
        assert held["1f1b"][rank] == pytest.approx(held["gpipe"][rank] * (4 - rank) / 16, rel=0.03)


S, B, H, A = 256, 8, 512, 8
SCORES = 5 * A * S / H
"""Of s b h bytes what Korthikanti et al. count for scores: softmax and dropped softmax, 2 a s / h each, and a mask."""

KORTHIKANTI = {
    # name: (tp, settings, their formula in s b h bytes, what of it dropout is, what we keep beside it)
    "alone": (1, ["attention=math"], 34 + SCORES, 2 + 3 * A * S / H, 0),
    "selective": (1, ["attention=math", "recompute=selective"], 34, 2, 0),
    "flash": (1, ["attention=flash"], 34, 2, 0),
    "full": (1, ["recompute=full"], 2, 0, 0),
    "tp": (4, ["attention=math"], 10 + 24 / 4 + SCORES / 4, 2 + 3 * A * S / H / 4, 4),
    "tp, selective": (4, ["attention=math", "recompute=selective"], 10 + 24 / 4, 2, 4),
    "tp, sp": (4, ["attention=math", "sequence_parallel=true"], (34 + SCORES) / 4, (2 + 3 * A * S / H) / 4, 0),
    "tp, sp, selective": (4, ["attention=math", "recompute=selective", "sequence_parallel=true"], 34 / 4, 2 / 4, 0),
    "tp, sp, flash": (4, ["attention=flash", "sequence_parallel=true"], 34 / 4, 2 / 4, 0),
    "tp, sp, full": (4, ["recompute=full", "sequence_parallel=true"], 2 / 4, 0, 0),
}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("case", KORTHIKANTI)
def test_gpt_activations_as_korthikanti(case: str, dropout: float) -> None:
    """Activations of a block in half precision, table 2 of Korthikanti et al. 2022 (arXiv 2205.05198).

    Dropout is two masks of s b h bytes of it (cut by the sequence alone), and of the scores a mask and the dropped
    output, 3 a s^2 b. Our block keeps beside theirs the statistics of two norms in fp32 (16 s b), the causal mask
    (s^2) of attention that is not fused, and one number a row of attention that is. Without
    sequence parallelism the sums of both all-reduces stay until backward, 4 s b h: the biases behind them are segments
    of their own.
    """
    tp, changes, theirs, dropped, sums = KORTHIKANTI[case]
    sizes = {"sequence_length": S, "hidden_size": H, "num_attention_heads": A, "dropout": dropout}
    settings = [*(f"model.{key}={value}" for key, value in sizes.items()), *(f"plan.{change}" for change in changes)]
    settings += [f"plan.tp={tp}", f"topology.node.count={tp}", "plan.dtype=bf16", "plan.num_microbatches=1"]
    few, many = (
        peak_memory(load("gpt-tiny", "pcie-box", "single", [*settings, f"model.num_hidden_layers={n}"]).program, 0)
        for n in (2, 4)
    )
    full, fused, selective = (any(word in change for change in changes) for word in ("full", "flash", "selective"))
    spread = tp if "sp" in case else 1
    statistics = 0 if full else 16 * S * B / spread
    if not full and not selective:
        statistics += 4 * S * B * A / tp if fused else S**2
    expected = S * B * H * (theirs - (0 if dropout else dropped) + sums) + statistics
    assert (many.activations - few.activations) / 2 == pytest.approx(expected, rel=1e-12)


def test_full_recomputation_keeps_the_inputs_of_each_block() -> None:
    """2 s b h bytes a block in half precision (Korthikanti et al. 2022, section 5), and once what a block keeps."""
    held = {}
    for recompute in ("none", "full"):
        for number in (2, 4):
            changes = (f"model.num_hidden_layers={number}", f"plan.recompute={recompute}", "plan.num_microbatches=1")
            held[recompute, number] = peak_memory(
                inputs("gpt-tiny", "plan.dtype=bf16", *changes).program, 0
            ).activations
    s, b, h = 128, 8, 256
    assert held["full", 4] - held["full", 2] == 2 * (2 * s * b * h)
    # The inputs of four blocks; the last block with all that it keeps, its output, and the gradient of that.
    block = (held["none", 4] - held["none", 2]) / 2
    assert held["full", 4] == block + (3 + 2) * (2 * s * b * h)


def test_ranks_share_the_memory_of_their_host() -> None:
    cpu = load("gpt-tiny", "local-cpu", "single", ["topology.node.count=4", "plan.dp=auto"]).topology
    assert capacity(cpu, 3) == 24 * 1024 * MIB / 4
    gpu = inputs("gpt-tiny").topology
    assert capacity(gpu, 0) == gpu.device(0).memory


def test_recomputation_adds_one_forward_of_all_blocks_but_the_head() -> None:
    """96 B s l h^2 (1 + s / 6h + V / 16lh) FLOPs: Narayanan et al. 2021 (arXiv 2104.04473), equation 2."""
    executed = {}
    for recompute in ("none", "full"):
        gpt = inputs("gpt-tiny", f"plan.recompute={recompute}", "plan.num_microbatches=2")
        cost = ComputeCost(gpt.program, gpt.topology.device(0), Calibration())
        executed[recompute] = sum(map(cost.flops, gpt.program.lists[0]))
    tokens, layers, h, s, vocabulary = 8 * 2 * 128, 4, 256, 128, 1024
    once = 72 * tokens * layers * h**2 * (1 + s / (6 * h) + vocabulary / (12 * layers * h))
    again = 96 * tokens * layers * h**2 * (1 + s / (6 * h) + vocabulary / (16 * layers * h))
    assert executed == pytest.approx({"none": once, "full": again})


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_sharded_states_are_shared_out_and_two_blocks_are_whole(dtype: str) -> None:
    """ZeRO stage 3 (arXiv 1910.02054), but for gradients, which are summed over the micro-batches before they are."""
    changes = ("plan.dp=4", f"plan.dtype={dtype}")
    whole, sharded = (
        peak_memory(inputs("gpt-tiny", *changes, f"plan.sharding={way}", devices=4).program, 0)
        for way in ("none", "fsdp")
    )
    itemsize, state = {"fp32": 4, "bf16": 2}[dtype], {"fp32": 4, "bf16": 6}[dtype]
    block, embedding, head = 12 * 256**2 + 13 * 256, 1024 * 256 + 128 * 256, 256 * 1024 + 2 * 256
    parameters = 4 * block + embedding + head
    assert whole.params == parameters * state
    assert sharded.params == parameters // 4 * state + 2 * block * itemsize
    assert sharded.optimizer_state == whole.optimizer_state / 4
    assert sharded.grads == whole.grads
    assert sharded.activations == pytest.approx(whole.activations, rel=0.05)


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_what_zero_keeps_of_a_parameter(ranks: int) -> None:
    """(2 + 2 + K) P, 4 P + K P / N, 2 P + (2 + K) P / N, (2 + 2 + K) P / N with K = 12 (arXiv 1910.02054, figure 1).

    What stage 2 reduces and stage 3 gathers at the moment comes beside.
    """
    adam = "plan.optimizer={kind: adam}"
    changes = (f"plan.dp={ranks}", "plan.dtype=fp16", adam, "plan.bucket_size=1 GiB", "plan.gradient_sync=each")
    kept = {}
    for stage in ("none", "zero1", "zero2", "zero3"):
        its = changes[: None if stage in ("zero2", "zero3") else -1]
        mine = inputs("gpt-tiny", *its, f"plan.sharding={stage}", devices=ranks)
        memory, buckets = peak_memory(mine.program, 0), [each.elements for each in mine.program.stages[0].buckets]
        kept[stage] = memory.params + memory.grads + memory.optimizer_state
        largest = sorted(buckets)[-2:]
        if stage == "zero3":
            kept[stage] -= 2 * sum(largest)
        assert memory.comm_buffers == (2 * sum(largest) if stage in ("zero2", "zero3") else 0)
    parameters = inputs("gpt-tiny").graph.num_parameters
    assert kept == {
        "none": (4 + 12) * parameters,
        "zero1": 4 * parameters + 12 * parameters / ranks,
        "zero2": 2 * parameters + 14 * parameters / ranks,
        "zero3": 16 * parameters / ranks,
    }


def test_parts_of_a_copy_are_larger_with_more_copies() -> None:
    changes = ("plan.dp=8", "plan.sharding=hsdp", "plan.optimizer={kind: adam}")
    states = [
        peak_memory(inputs("gpt-tiny", *changes, f"plan.dp_shard={size}", devices=8).program, 0).optimizer_state
        for size in (8, 4, 2, 1)
    ]
    assert states == [states[0] * factor for factor in (1, 2, 4, 8)]


def test_gradients_take_the_bytes_of_their_own_dtype() -> None:
    changes = ("plan.dp=4", "plan.dtype=bf16", "plan.sharding=zero1", "plan.bucket_size=1 GiB")
    low, high = (
        inputs("gpt-tiny", *changes, f"plan.gradient_dtype={dtype}", devices=4).program for dtype in ("same", "fp32")
    )
    assert peak_memory(high, 0).grads == 2 * peak_memory(low, 0).grads == 4 * high.graph.num_parameters
    for kind, ratio in ((Kind.REDUCE_GRAD, 2), (Kind.GATHER_PARAM, 1)):
        work = Instruction(kind, 0, part=0)
        assert high.message(work).size == ratio * low.message(work).size


@pytest.mark.parametrize("prefetch", [1, 2, 3])
def test_blocks_gathered_ahead_are_in_memory(prefetch: int) -> None:
    changes = ("plan.dp=4", "plan.sharding=fsdp", f"plan.prefetch={prefetch}", "model.vocab_size=8")
    gpt = inputs("gpt-tiny", *changes, devices=4)
    block = 12 * 256**2 + 13 * 256
    assert peak_memory(gpt.program, 0).params == 4 * (gpt.graph.num_parameters / 4 + (prefetch + 1) * block)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("hsdp", "dp_shard=3"), r"plan.dp_shard: 3 does not divide dp\(4\) \(remainder 1\).*dp_shard 2 or 4"),
        (("fsdp", "dp_shard=2"), r"plan.dp_shard: is not read by sharding fsdp; leave it out, or set sharding: hsdp"),
        (("zero1", "prefetch=2"), r"plan.prefetch: is not read by sharding zero1.*set sharding: fsdp or hsdp"),
        (("none", "reshard_after_forward=false"), r"plan.reshard_after_forward: is not read by sharding none"),
        (("fsdp", "overlap_param_gather=true"), r"plan.overlap_param_gather: is not read by .* zero1 or zero2"),
        (("zero1", "gradient_sync=each"), r"plan.gradient_sync: is not read by sharding zero1"),
        (("zero2", "gradient_sync=last"), r"plan.gradient_sync: zero2 keeps a part of each gradient.*sharding: zero1"),
    ],
)
def test_keys_that_contradict_sharding_are_refused(changes: tuple[str, ...], message: str) -> None:
    scheme, *others = changes
    with pytest.raises(InputError, match=message):
        inputs("gpt-tiny", "plan.dp=4", f"plan.sharding={scheme}", *(f"plan.{each}" for each in others), devices=4)


@pytest.mark.parametrize(("dtype", "size", "master"), [("tf32", 4, 0), ("fp16", 2, 4), ("fp8", 2, 4)])
def test_a_dtype_is_stored_in_its_bytes_beside_fp32_master_weights(dtype: str, size: int, master: int) -> None:
    mlp = inputs("mlp-tiny", f"plan.dtype={dtype}", topology="dgx-h100", devices=8)
    memory, parameters = peak_memory(mlp.program, 0), mlp.graph.num_parameters
    assert memory.params == parameters * (size + master)
    assert memory.grads == parameters * size
