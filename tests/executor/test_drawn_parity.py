"""Plans drawn at random train the model that one process trains: all schemes, in combinations nobody chose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.executor.drawn import THEMES, WORLDS, draw, theme
from tests.executor.parity import assert_equals_one_process, train_together

pytestmark = pytest.mark.distributed

ALL = range(2 * len(THEMES))
"""Plans by number: two of each scheme."""

LIMIT = 600
"""Seconds for all plans of one world size; eight ranks on two cores are slow."""

FEW = [number for number in range(len(THEMES)) if draw(number)[0] == 4][:8]
"""Those of the gate."""


def name(number: int) -> str:
    return f"{number}-{theme(number).partition('.')[2]}"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("drawn"), ALL)


def train(out: Path, numbers: Iterable[int]) -> Path:
    """Train plans, one launch for each world size."""
    plans = {number: draw(number) for number in numbers}
    for world in WORLDS:
        cases = {str(number): (preset, settings) for number, (size, preset, settings) in plans.items() if size == world}
        if cases:
            train_together(out, world, cases, LIMIT)
    return out


@pytest.mark.parametrize("number", FEW, ids=name)
def test_some_drawn_plans_equal_one_process(few: Path, number: int) -> None:
    assert_equals_one_process(few, str(number), *draw(number))


@pytest.mark.exhaustive
@pytest.mark.timeout(len(WORLDS) * LIMIT)
@pytest.mark.parametrize("number", ALL, ids=name)
def test_a_drawn_plan_equals_one_process(everything: Path, number: int) -> None:
    assert_equals_one_process(everything, str(number), *draw(number))


def test_draws_reach_every_axis_and_world_size() -> None:
    plans = [draw(number) for number in ALL]
    assert len(plans) >= 60
    assert set(WORLDS) == {world for world, _, _ in plans}
    parallel = Counter(
        setting.partition("=")[0]
        for _, _, settings in plans
        for setting in settings
        if setting.partition("=")[0] in ("plan.dp", "plan.tp", "plan.cp", "plan.pp") and not setting.endswith("=1")
    )
    assert min(parallel[f"plan.{axis}"] for axis in ("dp", "tp", "cp", "pp")) >= 8
