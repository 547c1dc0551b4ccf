"""What training frameworks keep of a tensor for backward, where that is less than the tensor itself.

Transformer Engine's layers keep an fp8 product's input as it was cast, alone (NVIDIA/TransformerEngine,
transformer_engine/pytorch/module/linear.py, ``saved_inputmat``); and Megatron-Core weighs the rows of experts inside
them, before the last product (``weighted_bias_swiglu_impl``), so that what comes back to their tokens is summed and let
go of. Where no framework is named, both interpreters hold what `simulator/program/liveness.py` says.
"""

from __future__ import annotations

from simulator.model.graph import INPUT, Node
from simulator.model.layers.loss import Loss
from simulator.model.layers.vocabulary import VocabularyMax, VocabularyStatistics
from simulator.plan.framework_memory import FRAMEWORK_MEMORY, PLAIN
from simulator.plan.plan import NARROW
from simulator.program.program import Program

CAST = ("linear", "qkv", "grouped_linear")
"""Layers whose one product reads a cast input."""

READERS_OF_LOGITS = (Loss, VocabularyMax, VocabularyStatistics)
"""What stands behind the output layer. Megatron's is not Transformer Engine's and keeps its input in 16 bits
(NVIDIA/Megatron-LM, megatron/core/models/gpt/gpt_model.py: ``tensor_parallel.ColumnParallelLinear``)."""


def saved_inputs(program: Program, node: Node) -> list[str]:
    """Return the inputs of a layer that its backward reads as they are."""
    framework = FRAMEWORK_MEMORY.get(program.plan.framework, PLAIN)
    names = [name for position, name in enumerate(node.inputs) if node.layer.saves(position)]
    if casts(program, node) or (framework.weighs_inside and node.layer.kind == "combine"):
        return [name for name in names if name != node.inputs[0]]
    return names


def casts(program: Program, node: Node) -> bool:
    """Return whether a layer keeps its input as it was cast for its product."""
    framework = FRAMEWORK_MEMORY.get(program.plan.framework, PLAIN)
    return (
        framework.keeps_narrow
        and program.plan.dtype in NARROW
        and node.layer.kind in CAST
        and not any(isinstance(reader.layer, READERS_OF_LOGITS) for reader in program.graph.consumers[node.name])
    )


def cast_bytes(program: Program, name: str) -> float:
    """Return the bytes of a tensor that was cast."""
    return program.tensor_bytes((name,)) / program.plan.itemsize * NARROW[program.plan.dtype]


def kept_bytes(program: Program) -> dict[str, float]:
    """Return the storages of which less than the whole is kept once they were read, with what is kept of them."""
    return program.keep("kept bytes", lambda: _kept_bytes(program))


def _kept_bytes(program: Program) -> dict[str, float]:
    framework = FRAMEWORK_MEMORY.get(program.plan.framework, PLAIN)
    graph = program.graph
    if not (framework.weighs_inside or (framework.keeps_narrow and program.plan.dtype in NARROW)):
        return {}
    whole = {INPUT, graph.loss.name} | {name for stage in program.stages for name in (*stage.sends, *stage.receives)}
    whole |= {node.name for node in graph.nodes if node.layer.saves_output}
    whole |= {name for node in graph.nodes for name in saved_inputs(program, node)}
    cast = {node.inputs[0] for node in graph.nodes if casts(program, node)}
    for segment in (segment for stage in program.stages for segment in stage.segments):
        # What is gathered anew for backward is kept as the part that a rank has.
        if segment.exchange and segment.is_made_again:
            (cast if {*segment.outputs} <= cast else whole).update(segment.inputs)
    unsaved = {node.inputs[0] for node in graph.nodes if framework.weighs_inside and node.layer.kind == "combine"}
    whole, cast, unsaved = ({graph.storages[name] for name in names} for names in (whole, cast, unsaved))
    return {name: cast_bytes(program, name) for name in cast - whole} | dict.fromkeys(unsaved - whole - cast, 0.0)
