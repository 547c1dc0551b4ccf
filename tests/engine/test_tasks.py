"""Instructions that run as one task take the times that they take one by one."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.prices import Prices
from simulator.load import Inputs
from simulator.program.instructions import Kind
from simulator.program.merging import Merging
from simulator.program.tasks import tasks
from simulator.results import Timeline
from simulator.results.metrics import measure

VOCABULARY = {"vocab_parallel": True}
SEQUENCE = {"vocab_parallel": True, "sequence_parallel": True}
SCHEDULES = ["gpipe", "1f1b", "zb_h1", "interleaved_1f1b"]


def one_by_one(lab: Any, inputs: Inputs, *, folding: bool) -> Timeline:
    """Simulate with every instruction a task of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prices, "merging", lambda self, rank, varies: Merging.NOTHING)
        # A program keeps what its tasks cost, so this takes another one.
        return lab.run(replace(inputs, program=replace(inputs.program)), folding=folding)


def check(lab: Any, inputs: Inputs, *, folding: bool) -> None:
    merged, single = lab.run(inputs, folding=folding), one_by_one(lab, inputs, folding=folding)
    assert merged.step_time == pytest.approx(single.step_time, rel=1e-12)
    ours, theirs = lab.times(merged), lab.times(single)
    assert len(merged.spans) == len(list(merged.spans)) == len(single.spans)
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        assert ours[key] == pytest.approx(expected, rel=0, abs=1e-12 * single.step_time), key
    assert measure(merged) == measure(replace(merged, columns=None))
    for rank in merged.ranks:
        spans = merged.of(rank)
        assert all(one.end <= other.end for one, other in pairwise(spans))
        for point, reference in zip(merged.memory[rank], single.memory[rank], strict=True):
            assert point == pytest.approx(reference)


@settings(max_examples=80)
@given(st.data())
def test_as_one_by_one(lab: Any, data: st.DataObject) -> None:
    pp, dp, tp = data.draw(st.sampled_from([(1, 2, 2), (2, 1, 2), (2, 2, 2), (4, 1, 2), (1, 1, 4), (2, 2, 1)]))
    count = pp * dp * tp
    kinds = data.draw(st.lists(st.sampled_from(["fast", "fast", "slow"]), min_size=count, max_size=count))
    links = [lab.link(f"d{index}", "s0") for index in range(count)]
    # Cables between neighbours leave the switch to the others, so that tensor-parallel groups have links of their own.
    pairs = [lab.link(f"d{index}", f"d{index + 1}", "9 GB/s") for index in range(0, count - 1, 2)]
    schedule = data.draw(st.sampled_from(SCHEDULES))
    plan = {
        "schedule": schedule,
        "num_microbatches": pp * data.draw(st.integers(1, 2)),
        "sharding": data.draw(st.sampled_from(["none", "fsdp"])),
        "recompute": data.draw(st.sampled_from(["none", "selective", "full"])),
        **data.draw(st.sampled_from([SEQUENCE, VOCABULARY, {}] if tp > 1 else [{}])),
        "framework": data.draw(st.sampled_from(["none", "none", "megatron-deepspeed"])),
        "p2p_overlap": data.draw(st.booleans()),
        "dp_overlap": data.draw(st.booleans()),
        "optimizer_barrier": data.draw(st.booleans()),
    }
    if schedule == "interleaved_1f1b":
        plan["num_stages_per_rank"] = 2
    if plan["sharding"] == "fsdp":
        plan |= {"dp_overlap": True}
    topology = lab.graph(kinds, [*links, *pairs], switches=1)
    model = {**lab.gpt, "num_hidden_layers": 8}
    inputs = lab.compile(model, topology, pp=pp, dp=dp, tp=tp, bucket_size="60 kB", **plan)
    check(lab, inputs, folding=data.draw(st.booleans()))


def test_a_pass_is_one_task(lab: Any) -> None:
    inputs = lab.compile(lab.gpt, lab.box(4), pp=2, tp=2, num_microbatches=4, schedule="1f1b")
    found = tasks(inputs.program, 0, Merging.COLLECTIVES)
    texts = [[str(inputs.program.lists[0][at]) for at in positions] for positions in found.positions]
    passing = [
        str(each) for each in inputs.program.lists[0] if each.kind in (Kind.F, Kind.TP_F) and not each.microbatch
    ]
    assert texts[0] == passing
    assert len(passing) > 8
    assert len(found.positions) < len(inputs.program.lists[0]) / 4
    assert len(set(found.shapes)) < len(found.shapes) / 2


@pytest.mark.parametrize("merging", list(Merging))
def test_every_instruction_is_in_one_task(lab: Any, merging: Merging) -> None:
    inputs = lab.compile(lab.gpt, lab.box(8), pp=2, tp=2, dp=2, num_microbatches=4, schedule="zb_h1")
    for rank, instructions in enumerate(inputs.program.lists):
        found = tasks(inputs.program, rank, merging)
        assert sorted(at for positions in found.positions for at in positions) == list(range(len(instructions)))
        assert sorted(task for queue in found.lanes.values() for task in queue) == list(range(len(found.positions)))
        for positions in found.positions:
            assert len({instructions[positions[end]].lane for end in (0, -1)}) == 1
            assert merging or len(positions) == 1
