"""What is held while an instruction runs, and is gone when it has ended: gradients inside a segment, the loss's copies.

Between instructions both interpreters hold the same (`simulator/program/liveness.py`); inside one it depends on a
framework's kernels, so that nothing is added without one.
"""

from __future__ import annotations

import numpy as np

from simulator.model.layers import CrossEntropy
from simulator.model.layers.base import count
from simulator.model.layers.vocabulary import VocabularySum
from simulator.plan.framework_memory import FRAMEWORK_MEMORY
from simulator.program.instructions import Instruction, Kind
from simulator.program.liveness import held_after, held_after_each
from simulator.program.program import Program


def workspace(program: Program, pipeline_rank: int) -> float:
    """Return the bytes held at the worst moment of any instruction beyond the most that is held between two."""
    if program.plan.framework not in FRAMEWORK_MEMORY:
        return 0.0
    peak = worst = max(held_after(program, pipeline_rank), default=0.0)
    numbers = program.coded(pipeline_rank)
    after = np.array(held_after_each(program, pipeline_rank))
    before = np.append(0.0, after[:-1])
    # Forward, what is held in the end lies there already; backward, what was held at first does so still.
    highest = np.zeros((2, len(numbers.works)))
    for most, held in zip(highest, (after, before), strict=True):
        np.maximum.at(most, numbers.codes, held)
    for (kind, stage, part), forward, backward in zip(numbers.works, *highest.tolist(), strict=True):
        if kind is Kind.F:
            worst = max(worst, forward + _of_loss(program, Instruction(kind, stage, part=part)))
        elif kind in (Kind.B, Kind.I):
            worst = max(worst, backward + _of_gradients(program, Instruction(kind, stage, part=part)))
    return worst - peak


def _of_loss(program: Program, forward: Instruction) -> float:
    """Return the bytes that a loss over classes holds beside what is kept for backward, which follows at once."""
    graph, bytes_of_logit = program.graph, FRAMEWORK_MEMORY[program.plan.framework].loss
    return sum(
        bytes_of_logit[isinstance(node.layer, VocabularySum)]
        * program.plan.microbatch_size
        * count(graph.input_shapes(node)[0])
        for node in program.segment(forward).nodes
        if isinstance(node.layer, CrossEntropy | VocabularySum)
    )


def _of_gradients(program: Program, backward: Instruction) -> float:
    """Return the bytes of gradients towards the output and the inputs of one layer, the most inside a segment.

    What comes into a segment is held already, and layers that hand gradients on as they are make none.
    """
    graph, segment = program.graph, program.segment(backward)
    most = 0.0
    for node in segment.nodes:
        names = [name for name in dict.fromkeys(node.inputs) if graph.trainable[name] and node is not graph.loss]
        if not node.layer.passes_gradient:
            names += [node.name] if node.name not in segment.outputs else []
            shapes = graph.input_shapes(node)
            inside = node.layer.gradient_bytes_inside(shapes, program.plan.microbatch_size, program.plan.itemsize)
            most = max(most, inside + sum(program.tensor_bytes((name,)) for name in names))
    return most
