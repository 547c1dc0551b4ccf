"""The same orders as torch.distributed.pipelining, where it has the schedule."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from tests.program.schedules.making import make, rows

visualizer = pytest.importorskip("torch.distributed.pipelining._schedule_visualizer")

MICROBATCHES = range(2, 17)


@pytest.fixture(scope="module", autouse=True)
def _one_mock() -> Iterator[None]:
    """Torch describes its stage class anew for every listing, which takes longer than the listing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visualizer.mock, "create_autospec", cache(visualizer.mock.create_autospec))
        yield


def flat(actions: list[Any]) -> Iterator[str]:
    """F, B, I and W alone: no gaps, no gradient reduction, and its pairs of F and B as two actions."""
    for action in actions:
        if action is None:
            continue
        if action.sub_actions:
            yield from flat(action.sub_actions)
        elif action.computation_type.value in "FBIW":
            yield str(action)


def torch_rows(name: str, p: int, m: int, v: int | None) -> list[str]:
    return [" ".join(flat(rank)) for rank in visualizer.get_schedule_ops(name, p, m, v)]


def has_rounds(p: int, m: int) -> bool:
    """Torch interleaves only if rounds come out even."""
    return m % max(1, m // p) == 0


@pytest.mark.parametrize("p", range(2, 9))
@pytest.mark.parametrize(
    ("ours", "theirs", "v"),
    [
        ("gpipe", "GPipe", None),
        ("interleaved_1f1b", "Interleaved1F1B", 2),
        ("interleaved_1f1b", "Interleaved1F1B", 3),
        ("looped_bfs", "LoopedBFS", 2),
        ("looped_bfs", "LoopedBFS", 3),
        ("interleaved_zero_bubble", "InterleavedZeroBubble", 2),
        ("interleaved_zero_bubble", "InterleavedZeroBubble", 3),
        ("zbv", "ZBVZeroBubble", 2),
        ("dualpipe_v", "DualPipeV", 2),
    ],
)
def test_same_order(ours: str, theirs: str, v: int | None, p: int) -> None:
    for m in MICROBATCHES:
        if (theirs.startswith("Interleaved") and not has_rounds(p, m)) or (ours == "dualpipe_v" and m < 2 * p):
            with pytest.raises(ValueError, match="requires"):
                torch_rows(theirs, p, m, v)
        else:
            assert rows(make(ours, p, m, v)) == torch_rows(theirs, p, m, v)


@pytest.mark.parametrize("p", range(2, 9))
def test_same_1f1b(p: int) -> None:
    """Torch 2.13's listing numbers the last rank's forwards from 1. It does not take fewer micro-batches than ranks."""
    for m in range(p, 17):
        *others, last = torch_rows("1F1B", p, m, None)
        forwards = [f"{p - 1}F{index}" for index in range(m + 1)]
        if "F0 " not in last:
            last = " ".join(forwards[forwards.index(text) - 1] if text in forwards else text for text in last.split())
        assert rows(make("1f1b", p, m)) == [*others, last]
