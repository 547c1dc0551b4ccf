"""Predictions beside measurements, made by hand: what the tests of intervals and verdicts share."""

from simulator.load import load
from simulator.results.compare import Comparison, compare
from simulator.results.recording import Recording
from simulator.results.timeline import Span, Timeline

INPUTS = load("linear-regression", "local-cpu", "dp2", ["plan.num_microbatches=1"])


def recording(source: str, times: list[float]) -> Recording:
    """One step a round, on two ranks that go forward all the time."""

    def step(seconds: float) -> Timeline:
        first = INPUTS.program.lists[0][0]
        spans = tuple(Span(rank, first, 0.0, 0.0, seconds) for rank in (0, 1))
        return Timeline(source=source, begin=0.0, end=seconds, spans=spans, ranks={0: (0,), 1: (1,)})

    return Recording(
        source=source, inputs=INPUTS.resolved(), steps=tuple(map(step, times)), rounds=tuple(range(len(times)))
    )


def compared(errors: list[float]) -> Comparison:
    predicted = recording("predicted", [1 + error for error in errors])
    return compare(predicted, recording("measured", [1.0] * len(errors)), INPUTS.program)
