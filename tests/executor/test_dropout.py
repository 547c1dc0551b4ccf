"""Masks of dropout: as random as they should be, and the same for an element wherever it is drawn."""

import pytest
import torch

from executor.modules.dropout import Draws, Samples
from executor.modules.functions import FORWARD
from executor.modules.operations import PLAIN
from executor.places import Places
from simulator.model.graph import Node
from simulator.model.layers import Dropout

B, S, H = 4, 12, 64
QUARTER = Dropout(rate=0.25)
NODE = Node(name="block0.dropout1", layer=QUARTER, inputs=("block0.out",))


def run(x: torch.Tensor, samples: Samples, draws: Draws | None = None, layer: Dropout = QUARTER) -> torch.Tensor:
    return FORWARD["dropout"](PLAIN, layer, {}, x, samples, draws=draws or Draws.of(NODE))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_the_rate_is_that_asked_for_and_the_mean_stays(rate: float) -> None:
    count = 1_000_000
    dropped = run(torch.ones(100, 100, 100), Samples(), layer=Dropout(rate=rate))
    assert set(dropped.unique().tolist()) <= {0.0, dropped.max().item()}
    # Five standard deviations of a sum of so many Bernoulli numbers.
    spread = 5 * (rate * (1 - rate) / count) ** 0.5
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=spread)
    assert dropped.mean().item() == pytest.approx(1, abs=spread / (1 - rate) + 1e-6)


def test_layers_steps_samples_and_rows_differ() -> None:
    x = torch.ones(B, S, H)
    here = run(x, Samples())
    other = Draws.of(Node(name="block0.dropout2", layer=NODE.layer, inputs=NODE.inputs))
    for unlike in (run(x, Samples(), other), run(x, Samples(step=1)), run(x, Samples(first=1)), here.roll(1, 1)):
        # Independent masks agree where both keep or both drop: 3/4 x 3/4 + 1/4 x 1/4.
        assert (here == unlike).float().mean().item() == pytest.approx(0.625, abs=0.05)


def test_an_element_is_dropped_under_every_plan_or_under_none() -> None:
    x = torch.randn(B, S, H)
    whole = run(x, Samples(step=2))
    torch.testing.assert_close(run(x[2:], Samples(2, 2)), whole[2:])
    for rank in range(2):
        part = run(x.chunk(2, 1)[rank], Samples(2), Draws.of(NODE, rank), Dropout(rate=0.25, num_parts=2))
        torch.testing.assert_close(part, whole.chunk(2, 1)[rank])
        places = Places(rank=rank, num_ranks=2, sequence=S, paired=True)
        part = run(x[:, places.own], Samples(2), Draws.of(NODE, places=places))
        torch.testing.assert_close(part, whole[:, places.own])
