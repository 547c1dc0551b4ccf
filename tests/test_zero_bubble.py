"""The zero-bubble paper's schedules come in the published order, but for one pair whose throughputs are alike."""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MISSED = {"throughput": {"GPT 6.2B, 96": ["1F1B-I and ZB-1p"]}, "bubble": {}}
"""Published 2 % apart, predicted 0.3 % apart the other way round: docs/fidelity.md."""


@pytest.fixture(scope="module")
def runs() -> dict[str, dict[str, dict[str, tuple[float, float]]]]:
    """Return quantity -> setting -> schedule -> (published, predicted)."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    import zero_bubble

    found: dict[str, dict[str, dict[str, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    with zero_bubble.ROWS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            setting = f"{row['model']}, {row['global_batch']}"
            predicted = zero_bubble.predict_row(row)
            found["throughput"][setting][row["schedule"]] = float(row["samples_per_s"]), predicted.throughput
            found["bubble"][setting][row["schedule"]] = float(row["bubble_rate"]), predicted.bubble
    return found


@pytest.mark.parametrize("quantity", ["throughput", "bubble"])
def test_schedules_come_in_the_published_order(
    runs: dict[str, dict[str, dict[str, tuple[float, float]]]], quantity: str
) -> None:
    import zero_bubble

    assert len(runs[quantity]) == 12
    swapped = {
        setting: zero_bubble.discordant({name: pairs[name] for name in zero_bubble.SCHEDULES})
        for setting, pairs in runs[quantity].items()
    }
    assert {setting: pairs for setting, pairs in swapped.items() if pairs} == MISSED[quantity]
