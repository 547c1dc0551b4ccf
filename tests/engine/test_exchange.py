"""Exchanges in a simulated step: what they cost, and that one that is issued early runs beside the computation."""

from typing import Any

import pytest

from simulator.program import Kind, verify
from simulator.program import compile as compiler
from simulator.program.liveness import held_after
from tests.engine.test_tasks import check
from tests.exchanged import ROWS, WIDTH, exchanged_graph


@pytest.fixture
def exchanged(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(compiler, "shard_graph", lambda *_, **__: exchanged_graph())

    def compile_plan(**plan: Any) -> Any:
        box = lab.box(2, lab.link("device", "switch", "1 MB/s"))
        return lab.compile(lab.mlp, box, tp=2, **plan)

    return compile_plan


def test_the_order_is_the_graphs(exchanged: Any) -> None:
    program = exchanged(num_microbatches=1).program
    verify(program)
    text = " ".join(map(str, program.lists[0]))
    assert text.startswith(
        "0F0.0 0TP_F0.1 0F0.2 0TP_F0.3 0F0.4 0TP_F0.5 0F0.6 0TP_F0.7 0F0.8 0TP_F0.9 0F0.10 0TP_F0.11 "
    )
    assert " 0F0.13 0TP_F0.14 0F0.15 0B0.15 0B0.13 0TP_B0.12 0TP_B0.11 0B0.10 " in text
    assert held_after(program, 0)[-1] == 0


def test_messages_are_those_of_the_layer(exchanged: Any) -> None:
    program = exchanged(num_microbatches=1).program
    whole = 2 * ROWS * WIDTH * 4
    found = {
        (each.kind, each.part): (program.message(each).operation, program.message(each).size)
        for each in program.lists[0]
        if each.kind in (Kind.TP_F, Kind.TP_B)
    }
    assert found[Kind.TP_F, 1] == ("reduce_scatter", whole)
    assert found[Kind.TP_B, 1] == ("all_gather", whole)
    assert found[Kind.TP_F, 3] == found[Kind.TP_B, 3] == ("shift", whole / 2)
    assert found[Kind.TP_F, 7] == found[Kind.TP_B, 7] == ("all_to_all", whole / 2)
    assert found[Kind.TP_B, 12] == ("all_reduce", whole)


def test_an_early_exchange_runs_beside_what_does_not_read_it(lab: Any, exchanged: Any) -> None:
    """The layer beside the shift begins with it; the one that reads what was shifted waits."""
    timeline = lab.run(exchanged(num_microbatches=1))
    spans = {str(span.instruction): span for span in timeline.of(0)}
    shift, beside, reader = spans["0TP_F0.3"], spans["0F0.4"], spans["0F0.6"]
    assert beside.start == shift.start
    assert beside.end < shift.end
    assert reader.start == shift.end


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb_h1"])
def test_tasks_change_nothing(lab: Any, exchanged: Any, schedule: str, recompute: str) -> None:
    check(lab, exchanged(num_microbatches=2, schedule=schedule, recompute=recompute), folding=True)
