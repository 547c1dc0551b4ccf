"""The automatic scheduler: as good as the listings, and within its limit."""

from itertools import accumulate, pairwise

import numpy as np
import pytest

from simulator.load import load
from simulator.program import Instruction, Kind
from simulator.program.liveness import changes, held_after
from simulator.program.schedules import SCHEDULES, Options, Schedule, Times
from tests.program.schedules.list_scheduler import run
from tests.program.schedules.making import make

TIMES = [(1.0, 1.0, 1.0), (1.0, 1.3, 0.7), (1.0, 0.8, 1.2), (1.0, 2.0, 0.5), (1.0, 0.5, 2.0), (0.3, 0.1, 0.2)]
SIZES = [(1, 3), (2, 5), (4, 8), (4, 16), (8, 32)]


def auto(
    p: int,
    m: int,
    times: tuple[float, float, float],
    limit: float | None = None,
    share: float = 1,
    barrier: bool = True,
) -> Schedule:
    forward, input_grad, weight_grad = times
    options = Options(
        activation_limit=limit,
        weight_share=share,
        barrier=barrier,
        times=Times(forward=forward, input_grad=input_grad, weight_grad=weight_grad),
    )
    return SCHEDULES["zb_auto"].build(p, m, options)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_holds_no_more_than_the_limit(p: int, m: int, times: tuple[float, float, float]) -> None:
    for limit in (1, 1.5, max(1, p // 2), p, 2 * p, 3 * p):
        assert max(run(auto(p, m, times, limit), m, *times).peaks) <= limit


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_no_longer_than_the_listings(p: int, m: int, times: tuple[float, float, float]) -> None:
    for name, limit in (("zb_h1", None), ("zb_h2", 2 * p - 1)):
        assert run(auto(p, m, times, limit), m, *times).bubble <= run(make(name, p, m), m, *times).bubble + 1e-5


@pytest.mark.parametrize("times", TIMES)
def test_more_memory_is_worth_it(times: tuple[float, float, float]) -> None:
    bubbles = [run(auto(4, 16, times, limit), 16, *times).bubble for limit in (1, 2, 4, 7, 12)]
    assert all(less <= more + 1e-9 for more, less in pairwise(bubbles))


@pytest.mark.parametrize("times", TIMES)
def test_one_micro_batch_at_a_time(times: tuple[float, float, float]) -> None:
    """Under a limit of 1 the first rank waits for each micro-batch's way down and up."""
    assert run(auto(4, 8, times, 1), 8, *times).bubble == pytest.approx(8 * 3 * (times[0] + times[1]))


def most_held(order: tuple[Instruction, ...], share: float) -> float:
    """Return the most activations that a rank holds, if ``share`` of those of a micro-batch are left behind its I."""
    change = {Kind.F: 1.0, Kind.I: share - 1, Kind.W: -share}
    return max(accumulate(change[action.kind] for action in order))


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.43, 1.0])
def test_what_waits_for_weights_counts_by_its_share(times: tuple[float, float, float], share: float) -> None:
    for limit in (1, 4, 5.5, 8):
        assert max(most_held(order, share) for order in auto(4, 16, times, limit, share).orders) <= limit + 1e-9


@pytest.mark.parametrize("p", [4, 8, 16])
def test_no_idle_time_where_weights_need_little(p: int) -> None:
    """Qi et al. 2023, table 5: with room for 2p micro-batches, W short and M_W / M_B = 0.43, nothing idles in between.

    Were the whole of a micro-batch held until its W, about (p-1)(F+I-2W) would remain, as in ZB-H2.
    """
    times, m = (1.0, 1.0, 0.7), 4 * p

    def idle(share: float) -> float:
        return max(run(auto(p, m, times, 2 * p, share, barrier=False), m, *times).windows)

    assert idle(0.43) == pytest.approx(0, abs=1e-4)
    assert idle(1.0) > 0.4 * (p - 1)


def test_the_barrier_decides_what_counts() -> None:
    """Without one each rank's own window is to be short, even if the last rank ends later."""
    times, p, m = (1.0, 1.2, 1.1), 8, 16
    together, apart = (run(auto(p, m, times, 12, barrier=barrier), m, *times) for barrier in (True, False))
    assert max(apart.windows) < max(together.windows) - 1
    assert apart.bubble > together.bubble


SEQUENCE = ["topology.node.count=32", "plan.tp=8", "plan.sequence_parallel=true", "plan.dp=1", "model.vocab_size=8192"]


@pytest.mark.parametrize(
    "changes_made",
    [
        ["plan.attention=math"],
        ["plan.attention=flash"],
        ["plan.attention=math", "plan.recompute=full"],
        ["plan.attention=math", "model.dropout=0.1", *SEQUENCE],
    ],
    ids=["math", "flash", "recompute", "sequence-parallel"],
)
def test_a_plan_keeps_to_its_limit_in_bytes(changes_made: list[str]) -> None:
    """What a rank holds, as the memory curve has it, is that of so many micro-batches where each is largest."""
    settings = ["topology.node.count=4", "model.num_hidden_layers=8", "plan.pp=4"]
    settings += ["plan.schedule=zb_auto", "plan.num_microbatches=16", "plan.activation_limit=6"]
    program = load("gpt-tiny", "pcie-box", "single", [*settings, *changes_made]).program
    for rank in range(4):
        first = [
            index for index, its in enumerate(program.lists[rank]) if its.microbatch == 0 and its.kind is not Kind.OPTIM
        ]
        most = np.cumsum(changes(program, rank)[first]).max()
        assert most < max(held_after(program, rank)) <= 6 * most


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="hold 1 micro-batch"):
        Options(activation_limit=0.5)
    with pytest.raises(ValueError, match="nor all zero"):
        Times(forward=0, input_grad=0, weight_grad=0)
