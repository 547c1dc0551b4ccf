"""From model, topology and plan to a Program: the order of the passes, nothing else."""

from __future__ import annotations

from simulator.errors import Problems
from simulator.model.graph import LayerGraph
from simulator.model.layers import Exchange
from simulator.model.layers.base import Phase
from simulator.plan.context_parallel import share_context
from simulator.plan.expert_parallel import share_experts
from simulator.plan.frameworks import FRAMEWORKS
from simulator.plan.plan import Plan
from simulator.plan.scatter_gather import cut_messages
from simulator.plan.sequence_parallel import share_sequence
from simulator.plan.stages import cut_stages, roofline
from simulator.plan.tensor_parallel import shard_graph
from simulator.plan.tied_weights import copy_tied_weights
from simulator.plan.vocabulary_parallel import cut_vocabulary
from simulator.plan.vocabulary_pipeline import check_pipelined_vocabulary, share_vocabulary
from simulator.program.liveness import weight_share
from simulator.program.passes.fetch_params import insert_parameter_fetches
from simulator.program.passes.gather_params import insert_parameter_gathers
from simulator.program.passes.optimizer import append_optimizer
from simulator.program.passes.recompute import insert_recomputation
from simulator.program.passes.reduce_grad import insert_gradient_reduction
from simulator.program.passes.reduce_partial import insert_partial_reduction
from simulator.program.passes.segments import split_into_segments
from simulator.program.passes.send_receive import insert_sends_and_receives
from simulator.program.passes.unshard import insert_unshards
from simulator.program.program import Program
from simulator.program.schedules import SCHEDULES, Options, Times
from simulator.program.segments import build_stages
from simulator.program.vocabulary_passes import with_vocabulary
from simulator.topology import Device, Topology

PASSES_OF_ACTIVATIONS = (insert_sends_and_receives, split_into_segments, insert_recomputation)
"""Those after which a program says what of a micro-batch is alive when."""

PASSES = (
    *PASSES_OF_ACTIVATIONS,
    insert_unshards,
    insert_gradient_reduction,
    insert_partial_reduction,
    append_optimizer,
    insert_parameter_fetches,
    insert_parameter_gathers,
)


def _stage_times(graph: LayerGraph, plan: Plan, device: Device) -> Times:
    """Return how long a mean stage takes, for schedules that are laid out by it: by the roofline, as stages are cut."""
    framework = FRAMEWORKS[plan.framework]
    seconds = dict.fromkeys(Phase, 0.0)
    for node in graph.nodes:
        for phase in Phase:
            for kernel in node.layer.kernels(phase, graph.input_shapes(node), plan.microbatch_size):
                stays = phase is Phase.WEIGHT_GRAD and not framework.defers(kernel)
                seconds[Phase.INPUT_GRAD if stays else phase] += roofline(kernel, plan, device)
    return Times(
        forward=seconds[Phase.FORWARD], input_grad=seconds[Phase.INPUT_GRAD], weight_grad=seconds[Phase.WEIGHT_GRAD]
    )


def _weight_share(graph: LayerGraph, plan: Plan, cuts: tuple[int, ...]) -> float:
    """Return what is left of a micro-batch's activations between I and W, for schedules that keep to a limit."""
    if not SCHEDULES[plan.schedule].limits_activations:
        return 1.0
    schedule = SCHEDULES["zb_h1"].build(plan.pp, 1, Options())
    stages = build_stages(graph, plan, cuts)
    program = Program(graph=graph, plan=plan, stages=stages, lists=schedule.orders, placement=schedule.placement)
    for lower in PASSES_OF_ACTIVATIONS:
        program = lower(program)
    return weight_share(program)


def _splits(graph: LayerGraph, plan: Plan, problems: Problems) -> bool:
    """Return whether every axis that layers are split over splits some, or report those that do not."""
    used = {node.layer.axis for node in graph.nodes if isinstance(node.layer, Exchange)}
    idle = [axis for axis, size in (("cp", plan.cp), ("ep", plan.ep)) if size > 1 and axis not in used]
    for axis in idle:
        scheme = {"cp": "context", "ep": "expert"}[axis]
        message = f"no layer of {graph.name} is split by {scheme} parallelism"
        problems.add(f"plan.{axis}", message, f"leave {axis} out")
    if plan.ep > 1 and plan.copies > 1:
        message = f"hsdp shares parameters out over dp_shard * cp = {plan.sharers} ranks"
        plane = f"{' * '.join(plan.expert_plane)} / ep = {plan.expert_replicas}"
        rule = f"an expert's {plane} replicas are {plan.ep} ranks apart"
        problems.add("plan.sharding", f"{message}, but {rule}", "set sharding: fsdp, or leave ep out")
        return False
    return not idle


def _refuse_stages(plan: Plan, found: int, problems: Problems) -> None:
    """Report a file with another number of stages than the plan, at the key that can mend it."""
    share, remainder = divmod(found, plan.pp)
    if remainder:
        near = " or ".join(str(number * plan.pp) for number in (share, share + 1) if number)
        message = (
            f"{plan.schedule_file} has {found} stages, which pp({plan.pp}) does not divide (remainder {remainder})"
        )
        problems.add("plan.schedule_file", message, f"legal neighbour: {near} stages")
        return
    product = f"pp({plan.pp}) * num_stages_per_rank({plan.num_stages_per_rank}) = {plan.num_stages} stages"
    message = f"{product}, but {plan.schedule_file} has {found}"
    problems.add("plan.num_stages_per_rank", message, f"set num_stages_per_rank: {share}")


def compile_plan(graph: LayerGraph, topology: Topology, plan: Plan, problems: Problems) -> Program | None:
    """Return the Program of a plan, or None after reporting why the model cannot be cut like that."""
    local = shard_graph(graph, plan.tp, problems, whole_experts=plan.folds_experts)
    if local and plan.vocab_parallel:
        local = cut_vocabulary(local, plan.tp)
    if local and plan.sequence_parallel:
        local = share_sequence(local, plan.tp, problems)
    local = local and share_experts(local, plan, problems)
    local = local and share_context(local, plan, problems)
    if local and not _splits(local, plan, problems):
        return None
    cuts = cut_stages(local, plan, topology.device(0), problems) if local else None
    if local is None or cuts is None:
        return None
    local = copy_tied_weights(local, cuts)
    options = Options(
        num_stages_per_rank=plan.num_stages_per_rank,
        activation_limit=plan.activation_limit,
        weight_share=_weight_share(local, plan, cuts),
        barrier=plan.optimizer_barrier,
        times=_stage_times(local, plan, topology.device(0)),
        text=plan.schedule_text,
        path=plan.schedule_file,
    )
    schedule = SCHEDULES[plan.schedule].build(plan.pp, plan.num_microbatches, options)
    if len(schedule.placement) != plan.num_stages * schedule.pipelines:
        _refuse_stages(plan, len(schedule.placement), problems)
        return None
    if schedule.pipelines > 1 and plan.updates_parts:
        problems.add(
            "plan.sharding",
            f"{plan.sharding}: the copies of a stage in {plan.schedule} run its blocks in different orders",
            "set sharding: none, or another schedule",
        )
        return None
    if plan.scatter_gather and plan.tp > 1:
        cut = cut_messages(local, cuts, schedule.placement, plan, problems)
        if cut is None:
            return None
        local, cuts = cut
    if plan.vocab_pipeline:
        if not check_pipelined_vocabulary(local, plan, schedule.pipelines, problems):
            return None
        local, cuts = share_vocabulary(local, cuts, schedule.placement, plan.pp)
        schedule = with_vocabulary(schedule, plan.num_microbatches)
    program = Program(
        graph=local,
        plan=plan,
        stages=build_stages(local, plan, cuts, schedule.pipelines),
        lists=schedule.orders,
        placement=schedule.placement,
        pipelines=schedule.pipelines,
    )
    for lower in PASSES:
        program = lower(program)
    return program
