"""What an instruction holds while it runs: the loss's copies and the gradients inside a segment, by hand."""

import pytest

from simulator.cost.memory import peak_memory
from simulator.cost.workspace import workspace
from simulator.plan.framework_memory import FRAMEWORK_MEMORY, TORCH_LOSS
from simulator.plan.frameworks import FRAMEWORKS, NONE
from tests.cost.box import inputs

B, S, V, H = 8, 128, 1024, 256
BF16 = ("plan.dtype=bf16", "plan.num_microbatches=1", "plan.dp=auto")


def test_every_framework_with_memory_of_its_own_is_one() -> None:
    assert FRAMEWORK_MEMORY.keys() <= FRAMEWORKS.keys() - {NONE}


def test_without_a_framework_nothing_is_added() -> None:
    assert peak_memory(inputs("gpt-tiny", *BF16).program, 0).workspace == 0


@pytest.mark.parametrize("tp", [1, 2])
def test_the_loss_of_torch_holds_what_was_counted_of_each_logit(tp: int) -> None:
    gpt = inputs("gpt-tiny", *BF16, f"plan.tp={tp}", "plan.framework=fsdp", devices=tp)
    # Behind it ranks keep two fp32 numbers a position: the sum of all ranks' exponentials and the target's logit.
    later = 2 * 4 * B * S if tp > 1 else 0
    assert workspace(gpt.program, 0) == TORCH_LOSS[tp - 1] * B * S * V / tp - later


def test_a_stage_without_the_loss_holds_the_gradients_of_its_widest_layer() -> None:
    """Towards GELU's output and its input, 4 h a token each, while all else of the micro-batch is still kept."""
    gpt = inputs("gpt-tiny", *BF16, "plan.pp=2", "plan.framework=fsdp", "plan.attention=flash", devices=2)
    assert workspace(gpt.program, 0) == 2 * (4 + 4) * B * S * H


@pytest.mark.parametrize("framework", ["none", "fsdp"])
def test_fsdp_keeps_fp32_parts_alone_and_copies_what_travels(framework: str) -> None:
    settings = ("plan.dp=4", "plan.dtype=bf16", "plan.sharding=fsdp", f"plan.framework={framework}")
    gpt = inputs("gpt-tiny", *settings, devices=4)
    block, part = 12 * H**2 + 13 * H, gpt.graph.num_parameters // 4
    memory = peak_memory(gpt.program, 0)
    assert memory.params == part * (4 if framework == "fsdp" else 6) + 2 * block * 2
    # Gradients of two blocks are copied into what is reduced, parameters of one out of what was gathered.
    assert memory.comm_buffers == (3 * block * 2 if framework == "fsdp" else 0)
