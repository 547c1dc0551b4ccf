"""From samples of all ranks to a calibration: the arithmetic, on samples made by hand."""

import math

import numpy as np
import pytest

from executor.calibrate import message_follows
from executor.calibrate_samples import Samples, _line, combine, jitter_of, trimmed_mean
from simulator.cost.calibration import BACKWARD, FORWARD, Calibration
from simulator.load import load


def passes(*rows: list[float]) -> Samples:
    return Samples(passes={(0, index, "F"): row for index, row in enumerate(rows)})


def test_trimmed_mean_forgets_stalls_of_both_kinds() -> None:
    assert trimmed_mean([*[1.0] * 18, 2.0, 1000.0]) == pytest.approx(1.0)
    assert trimmed_mean([0.0, *[3.0] * 8, 1000.0]) == pytest.approx(3.0)


def test_trimmed_mean_of_few_values_is_their_mean() -> None:
    assert trimmed_mean([1.0, 2.0, 6.0]) == pytest.approx(3.0)
    assert trimmed_mean([5.0]) == 5.0


def test_line_goes_through_points_on_a_line() -> None:
    assert _line({100: 2.0, 200: 3.0, 400: 5.0}) == pytest.approx((1.0, 0.01))


def test_line_of_one_point_is_a_proportion() -> None:
    assert _line({200: 3.0}) == pytest.approx((0.0, 0.015))


@pytest.mark.parametrize("points", [{100: 1.0, 200: 4.0}, {100: 4.0, 200: 1.0}], ids=["fixed < 0", "slope < 0"])
def test_line_never_predicts_negative_time(points: dict[int, float]) -> None:
    assert _line(points) == pytest.approx((0.0, sum(points.values()) / sum(points)))


def test_drift_that_all_share_is_no_jitter() -> None:
    assert jitter_of([passes([1.0, 2.0, 1.5]), passes([10.0, 20.0, 15.0])]) == pytest.approx(0.0, abs=1e-12)


def test_jitter_by_hand() -> None:
    """Deviation 0.1 of every value, twice too few degrees of freedom twice, and a normal's mean deviation."""
    expected = 0.1 * math.sqrt(math.pi / 2) / math.sqrt(1 / 4)
    assert jitter_of([passes([0.9, 1.1]), passes([1.1, 0.9])]) == pytest.approx(expected)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_jitter_finds_the_standard_deviation(sigma: float) -> None:
    noise = np.random.default_rng(0)
    drift = 1 + 0.3 * noise.standard_normal(40).cumsum() / 40
    ranks = [passes(*(drift * noise.normal(1, sigma, (20, 40))).tolist()) for _ in range(2)]
    assert jitter_of(ranks) == pytest.approx(sigma, rel=0.1)


def test_nothing_to_compare_is_no_jitter() -> None:
    assert jitter_of([]) == 0.0
    assert jitter_of([passes([1.0, 2.0])]) == 0.0
    assert jitter_of([passes([1.0], [2.0]), passes([3.0])]) == 0.0


def test_layers_are_means_over_samples_and_ranks() -> None:
    samples = [
        Samples(layers={("linear", FORWARD): [1.0, 3.0], ("linear", BACKWARD): [8.0]}),
        Samples(layers={("linear", FORWARD): [5.0], ("norm", FORWARD): [7.0]}),
    ]
    assert combine(samples, {}).layers == {"linear": {FORWARD: 3.0, BACKWARD: 8.0}, "norm": {FORWARD: 7.0}}


def test_a_collective_takes_from_its_last_arrival_to_its_mean_end() -> None:
    key = ("all_reduce", (0, 1), 4096.0)
    samples = [Samples(messages={key: [(0.0, 3.0), (10.0, 14.0)]}), Samples(messages={key: [(2.0, 4.0), (9.0, 14.0)]})]
    assert combine(samples, {}).messages == {"all_reduce x2": ((4096.0, pytest.approx((1.5 + 4.0) / 2)),)}


def test_a_message_ends_with_its_receiver() -> None:
    key = ("send", (1, 0), 64.0)
    receiver, sender = Samples(messages={key: [(0.0, 5.0)]}), Samples(messages={key: [(2.0, 2.1)]})
    assert combine([receiver, sender], {}).messages == {"send x2": ((64.0, pytest.approx(3.0)),)}


def test_clocks_that_disagree_give_no_negative_time() -> None:
    key = ("send", (0, 1), 64.0)
    samples = [Samples(messages={key: [(3.0, 3.1)]}), Samples(messages={key: [(0.0, 2.9)]})]
    assert combine(samples, {}).message_seconds("send", 2, 64.0) == 0.0


def test_sizes_are_ascending_and_groups_of_one_size_are_pooled() -> None:
    samples = [Samples() for _ in range(4)]
    for ranks, size, seconds in (((0, 1), 64.0, 2.0), ((0, 1), 8.0, 1.0), ((2, 3), 64.0, 4.0)):
        for rank in ranks:
            samples[rank].messages["all_reduce", ranks, size].append((0.0, seconds))
    assert combine(samples, {}).messages == {"all_reduce x2": ((8.0, 1.0), (64.0, 3.0))}


def test_updates_become_a_line() -> None:
    samples = [Samples(updates={("adam fp32", 100): [1.0, 3.0]}), Samples(updates={("adam fp32", 300): [4.0]})]
    assert combine(samples, {}).updates == {"adam fp32": pytest.approx((1.0, 0.01))}


def test_a_calibration_survives_its_file() -> None:
    samples = [
        Samples(layers={("linear", FORWARD): [1.0]}, updates={("sgd fp32", 10): [2.0]}, passes={(0, 0, "F"): [1.0]})
    ]
    calibration = combine(samples, {"machine": "by hand"})
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize(
    ("settings", "quiet"),
    [
        ((), 0),
        (("plan.recompute=full",), 2),
        (("plan.recompute=full", "plan.sharding=fsdp"), 0),
    ],
)
def test_messages_stand_where_training_has_some(settings: tuple[str, ...], quiet: int) -> None:
    """Segments that are apart only to be recomputed one by one are computed without a message between them."""
    inputs = load("mlp-tiny", "local-cpu", "dp2", ["model.hidden_sizes=[8,6]", *settings])
    (stage,) = inputs.program.stages
    follows = [message_follows(stage, part, inputs.plan) for part in stage.computing]
    assert follows.count(False) == quiet
    assert follows[-1]


def test_messages_stand_before_exchanges_of_what_is_recomputed() -> None:
    inputs = load("mlp-tiny", "local-cpu", "tp2", ["plan.recompute=full"])
    (stage,) = inputs.program.stages
    exchanged = {
        part for part in stage.computing if part + 1 < len(stage.segments) and stage.segments[part + 1].exchange
    }
    assert exchanged
    assert all(message_follows(stage, part, inputs.plan) for part in exchanged)
