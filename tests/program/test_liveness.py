"""Activations in flight: bytes by hand for one layer each, and in whole micro-batches as papers count them."""

from __future__ import annotations

import pytest

from simulator.load import load
from simulator.program.coded import Work
from simulator.program.instructions import Kind
from simulator.program.liveness import changes, held_after
from simulator.program.program import Program
from simulator.program.schedules import SCHEDULES

F32 = 4
MATH = ("topology.node.count=1", "plan.attention=math")
SPLIT = "plan.schedule=zb_h1"
FREE = [name for name in SCHEDULES if name != "custom"]
"""Schedules that need no file."""


def compiled(model: str, *settings: str, devices: int = 1) -> Program:
    count = [f"topology.node.count={devices}"]
    return load(model, "pcie-box", "single", [*count, *(f"plan.{each}" for each in settings)]).program


def compiled_gpt(schedule: str, pp: int, m: int) -> Program:
    """Return a GPT with as many blocks on each rank."""
    settings = [f"topology.node.count={pp}", "model.num_hidden_layers=16", f"plan.pp={pp}"]
    return load(
        "gpt-tiny", "pcie-box", "single", [*settings, f"plan.num_microbatches={m}", f"plan.schedule={schedule}"]
    ).program


def changes_of(program: Program, rank: int) -> dict[Work, float]:
    """Return what each work of the first micro-batch adds."""
    found: dict[Work, float] = {}
    for (kind, stage, _, part), size in zip(program.lists[rank], changes(program, rank), strict=True):
        found.setdefault((kind, stage, part), size)
    return found


def test_a_whole_backward_frees_what_forward_kept() -> None:
    """Of a 784-1024-10 classifier with 8 samples: relu's output and the log-probabilities; images are data."""
    program = load("mlp-tiny", "pcie-box", "single", ["topology.node.count=1", "model.hidden_sizes=[1024]"]).program
    kept = 8 * (1024 + 10) * F32
    assert changes_of(program, 0)[Kind.F, 0, 0] == kept
    assert changes_of(program, 0)[Kind.B, 0, 0] == -kept


def test_a_split_backward_trades_activations_for_gradients() -> None:
    """I frees the log-probabilities, makes the gradients of both dense layers' outputs, and keeps relu's output."""
    settings = ["topology.node.count=1", "model.hidden_sizes=[1024]", SPLIT]
    program = load("mlp-tiny", "pcie-box", "single", settings).program
    changes = changes_of(program, 0)
    assert changes[Kind.I, 0, 0] == 8 * (1024 + 10 - 10) * F32
    assert changes[Kind.W, 0, 0] == -8 * (1024 + 1024 + 10) * F32


def test_a_block_keeps_twenty_hiddens_a_token_for_its_weights() -> None:
    """Inputs 9 h (norms, projections, context, 4 h before fc2) and gradients 11 h: 3 h of q, k, v, 4 h of fc1, 4 h.

    Before that 16 h and the probabilities, s a: the norms' inputs and outputs, q, k, v, context, 4 h each side of gelu.
    """
    few, many = (
        load("gpt-tiny", "pcie-box", "single", [*MATH, SPLIT, f"model.num_hidden_layers={n}"]).program for n in (2, 3)
    )
    batch, sequence, hidden, heads = 8, 128, 256, 8
    statistics = 2 * 8 * batch * sequence

    def of_a_block(kind: Kind) -> float:
        return changes_of(many, 0)[kind, 0, 0] - changes_of(few, 0)[kind, 0, 0]

    scores = batch * heads * sequence**2 * F32 + sequence**2
    assert of_a_block(Kind.F) == batch * sequence * 16 * hidden * F32 + scores + statistics
    assert of_a_block(Kind.W) == -batch * sequence * 20 * hidden * F32 - statistics


def test_messages_take_their_share() -> None:
    """Of two stages of a 16-wide MLP: the receiver's buffer lives until backward, the gradient until it is sent."""
    settings = ["topology.node.count=2", "plan.pp=2", "model.hidden_sizes=[16,16]"]
    program = load("mlp-tiny", "pcie-box", "single", settings).program
    changes = [changes_of(program, rank) for rank in (0, 1)]
    border = 8 * 16 * F32
    assert changes[0][Kind.F, 0, 0] == border, "relu's output is what is sent: one tensor"
    assert changes[0][Kind.RECV_B, 0, -1] == border
    assert changes[0][Kind.B, 0, 0] == -2 * border
    assert changes[1][Kind.RECV_F, 1, -1] == border
    assert changes[1][Kind.B, 1, 0] == -changes[1][Kind.F, 1, 0], "the input goes, its gradient comes"
    assert changes[1][Kind.SEND_B, 1, -1] == -border


def listed(shape: str, *layers: str) -> Program:
    """Return one stage with an explicit list of layers and a cross entropy."""
    settings = [f"model.input.shape={shape}", f"model.layers=[{', '.join(layers)}]"]
    return load("residual-list", "pcie-box", "single", ["topology.node.count=1", SPLIT, *settings]).program


def test_a_view_lies_where_its_input_does() -> None:
    """Relu saves its output, the dense layer its flattened input: one tensor of 18 numbers, and 5 log-probabilities."""
    convolution = "{name: a, kind: conv2d, out_channels: 2, kernel: 1}"
    head = "{name: d, kind: linear, out_features: 5}"
    program = listed("[1,3,3]", convolution, "{name: b, kind: activation}", "{name: c, kind: flatten}", head)
    assert changes_of(program, 0)[Kind.F, 0, 0] == 8 * (18 + 5) * F32


def test_layers_that_are_added_share_the_gradient_of_the_sum() -> None:
    """Two dense layers of the data: their sum's gradient is that of both."""
    layers = [f"{{name: {name}, kind: linear, out_features: 5, inputs: [input]}}" for name in "ab"]
    program = listed("[7]", *layers, "{name: c, kind: add, inputs: [a, b]}")
    assert changes_of(program, 0)[Kind.W, 0, 0] == -8 * 5 * F32


@pytest.mark.parametrize("schedule", FREE)
@pytest.mark.parametrize("settings", [(), ("tp=2",), ("dp=2", "bucket_size=4 KiB")])
def test_a_step_leaves_nothing_behind(schedule: str, settings: tuple[str, ...]) -> None:
    devices = 4 if settings else 2
    program = compiled("gpt-tiny", "pp=2", f"schedule={schedule}", "num_microbatches=4", *settings, devices=devices)
    for rank in (0, 1):
        held = held_after(program, rank)
        assert min(held) >= 0
        assert max(held) > 0
        assert held[-1] == 0


def in_flight(program: Program, rank: int) -> tuple[float, float]:
    """Return the peak in forwards of one stage, and what a micro-batch holds at its fullest in the same unit."""
    changes, stage = changes_of(program, rank), program.stages_of(rank)[0].index
    received = changes.get((Kind.RECV_F, stage, -1), 0.0)
    forward = received + changes[Kind.F, stage, 0]
    return max(held_after(program, rank)) / forward, 1 + changes.get((Kind.I, stage, 0), 0.0) / forward


BUFFERS = 0.07
"""Messages that are posted beside them: each is a border of h against blocks of 16 h and more."""


@pytest.mark.parametrize(("p", "m"), [(4, 8), (4, 16), (8, 32)])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_micro_batches_in_flight(p: int, m: int, rank: int) -> None:
    """GPipe holds m (arXiv 1811.06965), 1F1B min(m, p - i) (2006.09503); the first rank has the embedding besides."""
    assert in_flight(compiled_gpt("gpipe", p, m), rank)[0] == pytest.approx(m, abs=BUFFERS)
    assert in_flight(compiled_gpt("1f1b", p, m), rank)[0] == pytest.approx(min(m, p - rank), abs=BUFFERS)


@pytest.mark.parametrize(("p", "m"), [(4, 8), (8, 16)])
def test_zb_h1_holds_p_of_which_some_wait_for_their_weights(p: int, m: int) -> None:
    """ZB-H1 holds p micro-batches on every rank until W ends (arXiv 2401.10241, table 1)."""
    for rank in range(1, p - 1):
        peak, waiting = in_flight(compiled_gpt("zb_h1", p, m), rank)
        assert p * min(1, waiting) - BUFFERS <= peak <= p * max(1, waiting) + BUFFERS


def test_interleaved_1f1b_holds_more_than_1f1b() -> None:
    """Rank i holds 2 (p - 1 - i) + (v - 1) p + 1 chunks (arXiv 2205.05198, section 4.2.3)."""
    p, m, v = 4, 8, 2
    for rank in (1, 2):
        found = in_flight(compiled_gpt("interleaved_1f1b", p, m), rank)[0]
        assert found == pytest.approx(2 * (p - 1 - rank) + (v - 1) * p + 1, abs=3 * BUFFERS)


def test_stages_that_follow_each_other_on_a_rank_share_their_border() -> None:
    """The turn of a V: what its first stage made is what the second reads, so one tensor less than elsewhere."""
    program = compiled_gpt("zbv", 4, 8)

    def forwards(rank: int) -> float:
        changes = changes_of(program, rank)
        return sum(size for (kind, _, _), size in changes.items() if kind in (Kind.F, Kind.RECV_F))

    assert forwards(3) == forwards(2) - program.tensor_bytes(program.stages_of(3)[0].sends)
