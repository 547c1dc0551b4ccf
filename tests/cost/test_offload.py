"""What a plan moves to its host: bytes on both sides, and seconds by hand."""

import pytest

from simulator.cost.memory import host_memory, peak_memory
from simulator.errors import InputError
from simulator.load import load
from simulator.planning.predict import predict
from simulator.program.instructions import Kind
from tests.cost.box import inputs

MIXED = ("plan.dtype=bf16", "plan.offload=optimizer")
LINK, UPDATE = 26.28e9, 39.6e9
"""Bytes/s that pcie-box's devices have by default."""


def test_the_device_keeps_parameters_and_gradients_alone() -> None:
    gpt = inputs("gpt-tiny", *MIXED)
    parameters = gpt.graph.num_parameters
    memory = peak_memory(gpt.program, 0)
    assert (memory.params, memory.grads, memory.optimizer_state) == (2 * parameters, 2 * parameters, 0)
    # Master weight, two moments of Adam, and a 16-bit gradient.
    assert host_memory(gpt.program, 0) == 14 * parameters
    assert host_memory(inputs("gpt-tiny").program, 0) == 0


def test_gradients_that_leave_at_once_take_two_buckets() -> None:
    gpt = inputs("gpt-tiny", *MIXED, "plan.sharding=zero2", "plan.bucket_size=1 MiB")
    memory = peak_memory(gpt.program, 0)
    largest = sorted((bucket.elements for bucket in gpt.program.stages[0].buckets), reverse=True)[:2]
    assert (memory.params, memory.grads, memory.comm_buffers) == (2 * gpt.graph.num_parameters, 0, 2 * sum(largest))


@pytest.mark.parametrize("sharding", ["zero1", "zero2", "fsdp"])
def test_a_rank_moves_and_updates_its_part(sharding: str) -> None:
    gpt = inputs("gpt-tiny", *MIXED, f"plan.sharding={sharding}", "plan.num_microbatches=1", devices=4)
    part = gpt.program.updated_parameters(0)
    assert host_memory(gpt.program, 0) == 14 * part
    sizes = dict.fromkeys((Kind.GRAD_TO_HOST, Kind.PARAM_FROM_HOST), 0.0)
    for each in gpt.program.lists[0]:
        if each.kind in sizes:
            sizes[each.kind] += gpt.program.message(each).size
    assert set(sizes.values()) == {2.0 * part}


def test_the_host_updates_between_the_last_gradient_and_the_first_parameter() -> None:
    bucket = "plan.bucket_size=100 GB"
    gpt = inputs("gpt-tiny", *MIXED, bucket, "plan.num_microbatches=1")
    prediction = predict(gpt)
    spans = {span.instruction.kind: span.end - span.start for span in prediction.timeline.spans}
    parameters = gpt.graph.num_parameters
    for kind in (Kind.GRAD_TO_HOST, Kind.PARAM_FROM_HOST):
        assert spans[kind] == pytest.approx(2 * parameters / LINK)
    # Four devices share a host; alone, one has it for itself. Adam touches 28 bytes a parameter.
    assert spans[Kind.OPTIM] == pytest.approx(28 * parameters / UPDATE)
    last = max(span.end for span in prediction.timeline.spans if span.instruction.kind is Kind.B)
    assert prediction.timeline.step_time == pytest.approx(last + (2 + 2) * parameters / LINK + spans[Kind.OPTIM])
    shared = predict(inputs("gpt-tiny", *MIXED, bucket, "plan.num_microbatches=1", devices=4))
    (update,) = (each.end - each.start for each in shared.timeline.spans if each.instruction.kind is Kind.OPTIM)
    assert update == pytest.approx(4 * spans[Kind.OPTIM])


def test_gradients_travel_while_backward_goes_on() -> None:
    whole, buckets = (
        predict(inputs("gpt-tiny", *MIXED, f"plan.bucket_size={size}", "plan.num_microbatches=1")).timeline.step_time
        for size in ("100 GB", "1 MiB")
    )
    assert buckets < whole


def test_the_basis_says_where_the_hosts_numbers_come_from() -> None:
    settings = [*MIXED, "topology.node.host={memory: 64 GiB, update: {bandwidth: 80 GB/s, source: measured here}}"]
    prediction = predict(load("gpt-tiny", "dgx-h100", "single", [*settings, "plan.dp=auto"]))
    assert prediction.basis["host_link"].startswith("51 GB/s each way: H100 SXM: 51 GB/s to the device")
    assert prediction.basis["host_update"] == "10 GB/s a device: measured here"
    assert {(each.host_capacity, each.fits) for each in prediction.memory} == {(8 * 2**30, True)}
    assert prediction.result()["host_memory_bytes"] == host_memory(prediction.inputs.program, 0)
    tight = [*settings, "plan.dp=auto", "topology.node.host={memory: 8 MiB}"]
    assert not predict(load("gpt-tiny", "dgx-h100", "single", tight)).fits


def test_gradients_of_norms_that_come_too_late_are_refused() -> None:
    with pytest.raises(InputError) as refused:
        inputs("gpt-tiny", *MIXED, "plan.tp=2", "plan.sequence_parallel=true", devices=2)
    (found,) = refused.value.diagnostics
    assert "gone to the host" in found.message
    assert found.hint == "set sequence_parallel: false, or leave offload out"
