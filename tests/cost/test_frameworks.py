"""What a framework adds: never less than nothing, nothing without one, and what was counted to the byte."""

from dataclasses import fields, replace

import pytest

from simulator.cost import Calibration, ComputeCost
from simulator.cost.kernels import FLASH_KERNELS, kernel_seconds
from simulator.cost.overheads import framework_kernels
from simulator.cost.workspace import workspace
from simulator.engine.run import simulate
from simulator.errors import InputError
from simulator.load import Inputs, load
from simulator.model.layers import Conv2d, CrossEntropy, Embedding, Qkv
from simulator.model.layers.base import Kernel, Phase, count, fused_attention
from simulator.model.layers.vocabulary import VocabularyMax, VocabularySum
from simulator.plan.framework_traffic import TORCH_LOSS, Accumulation
from simulator.plan.frameworks import FRAMEWORKS, NONE, Framework
from simulator.program.instructions import Instruction, Kind
from simulator.program.schedules import SCHEDULES, Options, Schedule, Times

CHOICES = (
    *("source", "pairs_messages", "asks_sizes", "defers_products_only", "adds_bias", "mixture", "one_hot"),
    *("channels_first", "winograd", "listing", "expert", "norm", "rope", "glu"),
    *("splits_projections", "own_softmax", "fuses_residual"),
)
CONSTANTS = [field.name for field in fields(Framework) if field.name not in CHOICES]
BLOCKING = "plan.p2p_overlap=false"


def inputs(*changes: str, topology: str = "dgx-a100", devices: int = 1) -> Inputs:
    return load("gpt-tiny", topology, "single", [f"topology.node.count={devices}", "plan.dp=auto", *changes])


def step(name: str, axis: str = "pp", *changes: str) -> float:
    split = [] if axis == "dp" else [f"plan.{axis}=2"]
    run = inputs(f"plan.framework={name}", "plan.dtype=bf16", *split, *changes, devices=2)
    return simulate(run.program, run.topology, Calibration())[0].step_time


@pytest.mark.parametrize("axis", ["dp", "pp", "tp"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_no_framework_makes_a_step_faster(name: str, axis: str) -> None:
    assert step(name, axis) >= step(NONE, axis)


@pytest.mark.parametrize("constant", CONSTANTS)
def test_a_larger_constant_never_makes_a_step_faster(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    large = {"loss": (1e3, 1e3), "accumulation": Accumulation(1e3)}.get(constant, 1e3)
    bare = step(NONE)
    monkeypatch.setitem(FRAMEWORKS, "ddp", replace(FRAMEWORKS[NONE], **{constant: large}))
    if constant == "slot":
        # Two stages, one after the other, forward and backward; posted messages let the host go ahead of the device.
        assert step("ddp", "pp", BLOCKING) >= bare + 2e3
        assert step("ddp") == bare
    elif constant != "host_launch":
        assert step("ddp") > bare
    else:
        assert step("ddp") > 1e3


@pytest.mark.parametrize(
    ("changes", "waiting"),
    [
        (["plan.schedule=1f1b", BLOCKING], "FB"),
        (["plan.schedule=interleaved_1f1b", BLOCKING], "F"),
        (["plan.schedule=zb_h1", BLOCKING], "FI"),
        (["plan.schedule=interleaved_1f1b"], ""),
    ],
)
def test_the_device_runs_dry_before_what_follows_the_messages_that_are_completed(
    changes: list[str], waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interleaved forward and the backward after it share one exchange; nothing comes before weight gradients."""
    run = inputs("plan.framework=ddp", "plan.pp=2", *changes, devices=2)
    work = [each for each in run.program.instructions(0) if each.kind.value in "FBIW"]
    device = run.topology.device(0)
    bare = replace(FRAMEWORKS[NONE], pairs_messages=True)
    seconds = []
    for framework in (bare, replace(bare, slot=1.0)):
        monkeypatch.setitem(FRAMEWORKS, "ddp", framework)
        cost = ComputeCost(run.program, device, Calibration())
        seconds.append([cost.seconds(each) for each in work])
    added = {each.kind.value: late - early for each, early, late in zip(work, *seconds, strict=True)}
    assert added == {kind: pytest.approx(float(kind in waiting), abs=1e-9) for kind in added}


def test_a_forward_that_asks_the_device_never_begins_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone or in a pipeline whose messages are posted: each forward waits, nothing else does."""
    for split in ([], ["plan.pp=2", "plan.schedule=zb_h1"]):
        run = inputs("plan.framework=ddp", "plan.num_microbatches=4", *split, devices=max(1, len(split)))
        monkeypatch.setitem(FRAMEWORKS, "ddp", replace(FRAMEWORKS[NONE], slot=1.0, asks_sizes=True))
        cost = ComputeCost(run.program, run.topology.device(0), Calibration())
        waiting = {each.kind for each in run.program.instructions(0) if each.kind.value in "FBIW" and cost.waits(each)}
        assert waiting == {Kind.F}


def passes(framework: str) -> dict[str, float]:
    """Return seconds of a block's passes on an A100."""
    run = inputs(f"plan.framework={framework}", "plan.pp=2", "plan.schedule=zb_h1", devices=2)
    cost = ComputeCost(run.program, run.topology.device(0), Calibration())
    return {kind: cost.seconds(Instruction.parse(f"0{kind}0.0")) for kind in "FIW"}


def test_what_is_not_deferred_is_done_beside_the_input_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = passes("none")
    monkeypatch.setitem(FRAMEWORKS, "ddp", replace(FRAMEWORKS[NONE], defers_products_only=True))
    apart = passes("ddp")
    assert apart["W"] < 0.9 * whole["W"]
    assert apart["I"] + apart["W"] == pytest.approx(whole["I"] + whole["W"], rel=1e-9)


def test_a_sum_stays_with_the_product_that_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for accumulation in (Accumulation(), Accumulation(2, -1)):
        framework = replace(FRAMEWORKS[NONE], defers_products_only=True, accumulation=accumulation)
        monkeypatch.setitem(FRAMEWORKS, "ddp", framework)
        weights.append(passes("ddp"))
    assert weights[1]["W"] > weights[0]["W"]
    assert weights[1]["I"] == weights[0]["I"]


def test_a_bias_of_queries_keys_and_values_is_read_and_written_on_its_own() -> None:
    graph = inputs().program.graph
    node = next(node for node in graph.nodes if isinstance(node.layer, Qkv))
    product, bias = framework_kernels(graph, node, Phase.FORWARD, 3, "bf16", 2, FRAMEWORKS["megatron"])
    tokens, width = graph.shape(node.name)
    assert (product.kind, bias.kind, bias.elements) == ("matmul", "memory", 2 * 3 * tokens * width)
    bare = replace(node, layer=replace(node.layer, bias=False))
    assert len(list(framework_kernels(graph, bare, Phase.FORWARD, 3, "bf16", 2, FRAMEWORKS["megatron"]))) == 1


def test_the_host_is_ahead_of_the_device_where_it_launches_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = step(NONE, "tp")
    monkeypatch.setitem(FRAMEWORKS, "ddp", replace(FRAMEWORKS[NONE], host_launch=1e-9))
    assert step("ddp", "tp") == pytest.approx(bare, rel=1e-9)


def test_cross_entropy_of_torch_moves_the_bytes_that_were_counted() -> None:
    graph = inputs("plan.dtype=bf16").program.graph
    node = next(node for node in graph.nodes if isinstance(node.layer, CrossEntropy))
    sequence, classes = graph.input_shapes(node)[0]
    for phase, counted in zip((Phase.FORWARD, Phase.INPUT_GRAD), TORCH_LOSS, strict=True):
        (kernel,) = framework_kernels(graph, node, phase, 3, "bf16", 2, FRAMEWORKS["fsdp"])
        assert kernel.elements * 2 >= counted * 3 * sequence * classes


@pytest.mark.parametrize(
    ("kind", "results", "moved"),
    [("norm", 1.0, (36, 76, 8)), ("glu", 0.5, (10, 18, 0)), ("qkv", 0.0, (20, 20, 0)), ("linear", 1.0, (0, 6, 0))],
)
def test_modules_in_torchs_operations_move_what_was_counted(kind: str, results: float, moved: tuple[int, ...]) -> None:
    """Bytes for each element of a result of 16 bits; of a projection for queries and keys, which are turned."""
    graph = load("llama3-8b", "dgx-h100", "single", ["plan.dtype=bf16", "plan.dp=auto"]).program.graph
    node = next(node for node in graph.nodes if node.layer.kind == kind and not node.name.endswith("out"))
    elements = 3 * results * count(graph.input_shapes(node)[0])
    summed = 0
    if isinstance(node.layer, Qkv):
        elements = 3 * graph.input_shapes(node)[0][0] * (32 + 8) * 128
        summed = 2 * 6 * 3 * count(graph.input_shapes(node)[0])
    for phase, each in zip(Phase, moved, strict=True):
        kernels = framework_kernels(graph, node, phase, 3, "bf16", 2, FRAMEWORKS["fsdp-torchtitan"])
        bytes_moved = sum(2 * kernel.elements for kernel in kernels if kernel.kind == "memory")
        assert bytes_moved == each * elements + (summed if phase is Phase.INPUT_GRAD else 0)


def mixture_step(*changes: str) -> float:
    changes = ("plan.dtype=bf16", "plan.framework=ddp", "plan.num_microbatches=1", *changes)
    sizes = ("model.num_hidden_layers=2", "model.sequence_length=64")
    run = load(
        "mixtral-8x7b", "dgx-h100", "single", ["topology.node.count=2", "plan.dp=2", "plan.ep=2", *sizes, *changes]
    )
    return simulate(run.program, run.topology, Calibration())[0].step_time


def test_the_host_of_a_mixture_holds_the_device_up_unless_graphs_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mixtures, forward and backward, of a step that takes far less than a second."""
    bare = mixture_step()
    monkeypatch.setitem(FRAMEWORKS, "ddp", replace(FRAMEWORKS["ddp"], mixture=1.0))
    assert 4.0 < mixture_step() < 4.0 + bare
    assert mixture_step("plan.cuda_graphs=true") == pytest.approx(bare, rel=1e-9)


def test_each_product_of_each_expert_takes_its_time_in_fp8_unless_experts_are_fused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two mixtures, two layers, a product forward and two backward, four of eight experts on a rank."""
    bare, fused = mixture_step(), mixture_step("plan.dtype=fp8", "plan.fused_experts=true")
    monkeypatch.setitem(FRAMEWORKS, "ddp", replace(FRAMEWORKS["ddp"], expert=1.0))
    assert mixture_step("plan.dtype=fp8") == pytest.approx(fused + 2 * 2 * 3 * 4, rel=1e-9)
    assert mixture_step("plan.dtype=fp8", "plan.fused_experts=true") == fused
    assert mixture_step() == bare


@pytest.mark.parametrize("phase", [Phase.FORWARD, Phase.INPUT_GRAD])
def test_a_loss_that_ranks_share_moves_as_much_of_each_logit(phase: Phase) -> None:
    """What a rank's kernels of the loss move of its logits; targets and sums have a number a position."""
    moved = {}
    for tp in (1, 2):
        graph = inputs("plan.dtype=bf16", f"plan.tp={tp}", "model.vocab_size=65536", devices=2).program.graph
        kernels = [
            kernel
            for node in graph.nodes
            if isinstance(node.layer, CrossEntropy | VocabularyMax | VocabularySum)
            for kernel in framework_kernels(graph, node, phase, 3, "bf16", 2, FRAMEWORKS["megatron"])
        ]
        moved[tp] = sum(kernel.elements for kernel in kernels)
    assert moved[2] == moved[1] / 2


def kernels_of(model: str, kind: type, framework: Framework, dtype: str, itemsize: int) -> dict[str, list[Kernel]]:
    """Return the forward kernels of each node of a kind, for two samples, as a framework runs them."""
    graph = load(model, "dgx-a100", "single", ["topology.node.count=1", "plan.dp=auto"]).program.graph
    return {
        node.name: list(framework_kernels(graph, node, Phase.FORWARD, 2, dtype, itemsize, framework))
        for node in graph.nodes
        if isinstance(node.layer, kind)
    }


def test_convolutions_turn_images_for_tensor_cores_and_multiply_less_without() -> None:
    plain = kernels_of("resnet-50", Conv2d, FRAMEWORKS[NONE], "tf32", 4)
    turned = kernels_of("resnet-50", Conv2d, FRAMEWORKS["ddp"], "tf32", 4)
    fewer = kernels_of("resnet-50", Conv2d, FRAMEWORKS["ddp"], "fp32", 4)
    # The stem: 3 x 224 x 224 in, 64 x 112 x 112 out, read and written once more for either of two samples.
    assert turned["stem"][1].elements == 2 * 2 * (3 * 224**2 + 64 * 112**2)
    ratios = {name: plain[name][0].flops / fewer[name][0].flops for name in plain}
    # 3 x 3 with stride 1: the middle of all 16 blocks but the first of three stages.
    assert sorted(ratios.values()) == [1.0] * (len(plain) - 13) + [2.25] * 13
    assert all(len(kernels) == 1 for kernels in (*plain.values(), *fewer.values()))


def test_only_models_of_tokens_move_more_than_fused_kernels() -> None:
    wide = replace(FRAMEWORKS[NONE], elementwise=3.0)
    for model, factor in (("resnet-50", 1), ("gpt-tiny", 3)):
        graph = load(model, "dgx-a100", "single", ["topology.node.count=1", "plan.dp=auto"]).program.graph
        node = next(node for node in graph.nodes if "norm" in node.layer.kind)
        moved = [
            sum(kernel.elements for kernel in framework_kernels(graph, node, Phase.FORWARD, 2, "bf16", 2, framework))
            for framework in (FRAMEWORKS[NONE], wide)
        ]
        assert moved[1] == factor * moved[0]


def test_words_are_looked_up_as_a_product_with_one_hot_rows() -> None:
    ((rows, product),) = kernels_of("gpt-tiny", Embedding, FRAMEWORKS["pax"], "bf16", 2).values()
    graph = inputs().program.graph
    layer = graph.by_name["embedding"].layer
    assert isinstance(layer, Embedding)
    tokens = 2 * graph.tokens_per_sample
    assert rows.elements == tokens * layer.vocab_size
    assert product.flops == 2 * tokens * layer.vocab_size * layer.hidden


def test_a_list_of_parts_is_made_for_each_large_parameter_that_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FRAMEWORKS, "ddp", replace(FRAMEWORKS[NONE], listing=1.0))
    run = inputs("plan.framework=ddp", "plan.sharding=fsdp", "model.hidden_size=512", devices=2)
    cost = ComputeCost(run.program, run.topology.device(0), Calibration())
    buckets = run.program.stages[0].buckets
    listed = {
        buckets[each.part].nodes: cost.seconds(each) for each in run.program.lists[0] if each.kind is Kind.RESHARD
    }
    # qkv, out, fc1 and fc2 of a block on two ranks; norms and biases are small.
    assert {seconds for nodes, seconds in listed.items() if "block0.fc1" in nodes} == {4 * 2}


def test_older_attention_takes_longer_the_newer_the_device() -> None:
    run = inputs(topology="dgx-h100")
    shape = {"batch": 64, "queries": 8192, "keys": 8192, "size": 128, "value_size": 128, "shared": 1}
    kernel = fused_attention(**shape, causal=True, backward=False)
    device = run.topology.device(0)
    times = [kernel_seconds(kernel, device, "bf16", 2, flash=flash) for flash in FLASH_KERNELS]
    assert times == sorted(times)
    newest, flash2 = (seconds - device.launch_overhead for seconds in times[:2])
    assert flash2 / newest == pytest.approx(1.7)


def test_a_framework_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="is not a framework"):
        inputs("plan.framework=megatrom")


def test_without_a_framework_the_host_costs_nothing() -> None:
    run = inputs(topology="dgx-a100")
    cost = ComputeCost(run.program, run.topology.device(0), Calibration())
    assert cost.host_seconds(Instruction.parse("0F0.0")) == 0


@pytest.mark.parametrize(
    ("name", "dtype", "summed", "expected"),
    [
        # The product reads and writes the sum and need not write the gradient: 4 + 4 - 2, 2 + 2 - 2; half is hidden.
        ("megatron", "bf16", "fp32", 3),
        ("megatron", "fp16", "same", 1),
        # The gradient is read, the sum read and written.
        ("megatron-deepspeed", "fp16", "same", 6),
        ("none", "bf16", "fp32", 0),
    ],
)
def test_gradients_are_summed_up_in_their_dtype(name: str, dtype: str, summed: str, expected: int) -> None:
    plan = inputs(f"plan.dtype={dtype}", f"plan.gradient_dtype={summed}").plan
    assert FRAMEWORKS[name].accumulation.bytes(plan.gradient_itemsize, plan.itemsize) == expected


def test_a_fused_loss_holds_less_than_torchs() -> None:
    """Composer's keeps 16-bit logits and their gradient, torch's fp32 ones besides."""
    held = [
        workspace(inputs(f"plan.framework={name}", "plan.dtype=bf16", "model.vocab_size=65536").program, 0)
        for name in ("fsdp-composer", "fsdp")
    ]
    assert held[0] < 0.5 * held[1]


def test_schedules_are_laid_out_by_what_is_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Times] = []

    def build(ranks: int, microbatches: int, options: Options) -> Schedule:
        seen.append(options.times)
        return SCHEDULES["zb_h1"].build(ranks, microbatches, Options())

    monkeypatch.setitem(SCHEDULES, "zb_auto", replace(SCHEDULES["zb_auto"], build=build))
    for name in ("none", "megatron"):
        inputs(f"plan.framework={name}", "plan.pp=2", "plan.schedule=zb_auto", devices=2)
    whole, apart = seen
    assert apart.weight_grad < whole.weight_grad
    assert apart.input_grad + apart.weight_grad == pytest.approx(whole.input_grad + whole.weight_grad)


@pytest.mark.parametrize("name", ["megatron-2023", "megatron-deepspeed"])
@pytest.mark.parametrize(("phase", "fused", "softmax"), [(Phase.FORWARD, 2, 4), (Phase.INPUT_GRAD, 3, 6)])
def test_scores_that_megatron_s_softmax_does_not_take(name: str, phase: Phase, fused: float, softmax: float) -> None:
    """Its model/fused_softmax.py: 4 heads on a rank are one kernel; 3 go to fp32 and back, and so do 130 keys.

    Elements of 16 bits a score: cast 3, scale 4, mask 4, softmax 4 (backward it reads two, 6), cast 3.
    """
    framework = replace(FRAMEWORKS[name], elementwise=1.0)

    def moved(heads: int, length: int, batch: int, itemsize: int = 2) -> list[float]:
        sizes = [f"model.num_attention_heads={heads}", "model.hidden_size=48", f"model.sequence_length={length}"]
        graph = inputs(*sizes, "plan.attention=math").program.graph
        node = graph.by_name["block0.attention"]
        kernels = framework_kernels(graph, node, phase, batch, "bf16", itemsize, framework)
        return [each.elements / (batch * heads * length**2) for each in kernels if each.kind == "memory"]

    apart = [3, 4, 4, softmax, 3]
    assert moved(4, 128, 1) == moved(3, 128, 4) == [fused]
    assert moved(3, 128, 1) == moved(3, 128, 2) == moved(4, 130, 1) == apart
    assert moved(3, 128, 1, itemsize=4) == [fused]


@pytest.mark.parametrize(("dropout", "moved"), [(0.0, 3.0), (0.1, 3.5)])
def test_one_kernel_adds_the_bias_drops_and_adds_to_the_stream(dropout: float, moved: float) -> None:
    """Megatron-LM, fusions/fused_bias_dropout.py: what was made and the stream are read, the sum and a mask written.

    What is dropped of the embedding is added to nothing; backward autograd goes the same way as if nothing was fused.
    """
    changes = [f"model.dropout={dropout}", "plan.tp=2", "plan.attention=math"]
    graph = inputs(*changes, devices=2).program.graph
    framework = replace(FRAMEWORKS["megatron"], elementwise=1.0)
    tokens = count(graph.input_shapes(graph.by_name["block0.add1"])[0])

    def elements(names: list[str], phase: Phase, framework: Framework) -> float:
        kernels = [
            kernel
            for name in names
            if name in graph.by_name
            for kernel in framework_kernels(graph, graph.by_name[name], phase, 1, "bf16", 2, framework)
        ]
        return sum(each.elements for each in kernels) / tokens

    behind = {1: "out", 2: "fc2"}
    for number, projection in behind.items():
        names = [f"block0.{projection}+bias", f"block0.dropout{number}", f"block0.add{number}"]
        assert names[0] in graph.by_name and names[2] in graph.by_name
        assert elements(names, Phase.FORWARD, framework) == moved
        assert elements(names, Phase.INPUT_GRAD, framework) == elements(names, Phase.INPUT_GRAD, FRAMEWORKS[NONE])
    if dropout:
        assert elements(["embedding.dropout"], Phase.FORWARD, framework) == 2.5
