"""A rank is slow beside those that do the same work, never beside those that do another."""

from simulator.program.instructions import Instruction
from simulator.results.stragglers import Straggler, stragglers
from simulator.results.timeline import Span, Timeline


def step(*seconds: tuple[int, float]) -> Timeline:
    """Return a step in which each rank computes one forward of a stage, for some seconds, and then waits for others."""
    spans = []
    for rank, (stage, length) in enumerate(seconds):
        spans.append(Span(rank, Instruction.parse(f"{stage}F0.0"), 0.0, 0.0, length))
        spans.append(Span(rank, Instruction.parse(f"{stage}REDUCE_GRAD.0"), length, 9.0, 10.0))
    ranks = {rank: (rank,) for rank in range(len(seconds))}
    return Timeline(source="measured", begin=0.0, end=10.0, spans=tuple(spans), ranks=ranks)


def test_the_slow_one_of_three_replicas_is_named_with_figures() -> None:
    assert stragglers([step((0, 1.0), (0, 1.5), (0, 1.1))] * 3) == [
        Straggler(rank=1, seconds=1.5, peers=(0, 2), typical=1.05)
    ]


def test_one_slow_step_of_three_is_no_straggler() -> None:
    assert not stragglers([step((0, 1.0), (0, 1.0)), step((0, 1.0), (0, 5.0)), step((0, 1.0), (0, 1.0))])


def test_a_longer_stage_is_no_straggler() -> None:
    assert not stragglers([step((0, 1.0), (1, 3.0), (0, 1.0), (1, 3.0))])


def test_a_rank_alone_has_no_peers() -> None:
    assert not stragglers([step((0, 1.0))])
