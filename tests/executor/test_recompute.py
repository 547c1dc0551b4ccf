"""What is alive of a micro-batch whose blocks are recomputed."""

import torch
from torch import Tensor

from executor.data import Data
from executor.stage import TARGET, Microbatch, StageModule
from simulator.load import Inputs, load
from simulator.model.graph import INPUT


def forward(recompute: str) -> tuple[Inputs, StageModule, Microbatch]:
    """Run the whole of a small GPT forward."""
    inputs = load("gpt-tiny", "local-cpu", "single", ["topology.node.count=1", f"plan.recompute={recompute}"])
    program, device = inputs.program, torch.device("cpu")
    stage = StageModule(program.stages[0], program.graph, inputs.plan, 0, torch.float32, device)
    batch = Data(program.graph, inputs.plan, 0, torch.float32, device).microbatch(0, 0)
    microbatch = Microbatch({INPUT: batch.inputs, TARGET: batch.targets})
    for part in program.parts(0):
        stage.forward_segment(microbatch, part)
    return inputs, stage, microbatch


def held(microbatch: Microbatch) -> int:
    """Return the bytes of the distinct tensors that a micro-batch holds, their histories not counted."""
    tensors: list[Tensor] = list(microbatch.values.values())
    for leaves, outputs in microbatch.saved.values():
        tensors += [*leaves.values(), *outputs.values()]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def test_forward_keeps_the_inputs_of_blocks_alone() -> None:
    inputs, stage, microbatch = forward("full")
    segments = stage.stage.segments
    assert set(microbatch.saved) == {part for part, segment in enumerate(segments) if not segment.recomputed}
    made = {(segment.unit, node.name) for segment in segments for node in segment.nodes}
    blocks = {name for segment in segments for name in segment.inputs if (segment.unit, name) not in made}
    assert set(microbatch.values) == blocks | {TARGET, inputs.graph.loss.name}


def test_backward_of_a_block_leaves_nothing_of_its_second_forward() -> None:
    _, stage, microbatch = forward("full")
    sizes = []
    for part in reversed(range(len(stage.segments))):
        if stage.stage.segments[part].recomputed:
            stage.forward_segment(microbatch, part, again=True)
        stage.backward_segment(microbatch, part)
        sizes.append(held(microbatch))
    assert not microbatch.saved
    assert sizes == sorted(sizes, reverse=True)


def test_the_second_forward_gives_what_the_first_gave() -> None:
    once, again = forward("none")[2], forward("full")[2]
    loss = next(name for name in once.values if name.endswith("loss"))
    assert torch.equal(once.values[loss], again.values[loss])
