"""Lanes with messages that arrive when the test says so, and the choice of the instruction that a GPU is stuck in."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from executor.lanes import HostLanes, Message, RawSpan, first_unfinished
from simulator.program.instructions import Instruction

LIMIT = 10
"""Seconds after which a thread that should have come on is stuck."""


@dataclass
class FakeHandle:
    """A message under way until it is let through."""

    arrived: threading.Event = field(default_factory=threading.Event)
    failure: str = ""

    def wait(self) -> None:
        assert self.arrived.wait(LIMIT)
        if self.failure:
            raise RuntimeError(self.failure)

    def is_completed(self) -> bool:
        return self.arrived.is_set()


@dataclass
class FakeEvent:
    """A CUDA event that the device has come past, or not."""

    done: bool

    def query(self) -> bool:
        return self.done


def parse(text: str) -> Instruction:
    return Instruction.parse(text)


def nothing() -> Message | None:
    return None


def test_computation_has_an_end_at_once() -> None:
    lanes = HostLanes()
    lanes.launch(0, parse("0F0"), (), nothing)
    (span,) = lanes.close()
    assert span.end is not None and span.end >= span.issued


def test_what_needs_a_message_waits_for_it_and_its_finish() -> None:
    lanes, handle, order = HostLanes(), FakeHandle(), []
    lanes.launch(0, parse("1RECV_F0"), (), lambda: ([handle], lambda: order.append("stored")))
    lanes.launch(1, parse("0F1"), (), lambda: order.append("beside"))
    assert order == ["beside"]
    handle.arrived.set()
    lanes.launch(2, parse("1F0"), (0,), lambda: order.append("after"))
    assert order == ["beside", "stored", "after"]
    received, beside, after = lanes.close()
    assert beside.end is not None and received.end is not None and beside.end <= received.end <= after.issued


def test_the_message_waited_for_is_what_is_reported() -> None:
    lanes, handle = HostLanes(), FakeHandle()
    lanes.launch(0, parse("1RECV_F0"), (), lambda: ([handle], None))
    lanes.launch(1, parse("0F1"), (), nothing)
    waiting = threading.Thread(target=lanes.launch, args=(2, parse("1F0"), (0,), nothing))
    waiting.start()
    while (current := lanes.current) is None or current.instruction != parse("1RECV_F0"):
        assert waiting.is_alive()
    handle.arrived.set()
    waiting.join(LIMIT)
    assert lanes.current is not None and lanes.current.instruction == parse("1F0")


def test_a_reduction_is_noticed_when_it_has_arrived() -> None:
    lanes, handle = HostLanes(), FakeHandle()
    lanes.launch(0, parse("0REDUCE_GRAD.0"), (), lambda: ([handle], None))
    lanes.launch(1, parse("0B0"), (), nothing)
    assert lanes.spans[0].end is None
    handle.arrived.set()
    lanes.launch(2, parse("0B1"), (), nothing)
    assert lanes.spans[0].end == lanes.spans[2].end


def test_a_lost_message_raises_where_it_is_needed() -> None:
    lanes, handle = HostLanes(), FakeHandle(failure="connection closed")
    handle.arrived.set()
    lanes.launch(0, parse("1RECV_F0"), (), lambda: ([handle], None))
    with pytest.raises(RuntimeError, match="connection closed"):
        lanes.launch(1, parse("1F0"), (0,), nothing)


def test_what_was_sent_is_let_go_when_it_has_arrived() -> None:
    lanes, handle, gone = HostLanes(), FakeHandle(), threading.Event()
    lanes.watches_sends = True
    lanes.launch(0, parse("0SEND_F0"), (), lambda: ([handle], gone.set))
    lanes.launch(1, parse("0F1"), (), nothing)
    assert not gone.is_set()
    handle.arrived.set()
    assert gone.wait(LIMIT), "long before the end of the step"
    lanes.close()


def test_a_gpu_is_stuck_in_the_first_instruction_it_has_not_finished() -> None:
    first, second, third = (RawSpan(parse(text), 0.0) for text in ("0F0", "0SEND_F0", "0F1"))
    past, ahead = FakeEvent(True), FakeEvent(False)
    assert first_unfinished([(first, None, past), (second, None, ahead), (third, None, ahead)]) is second
    assert first_unfinished([(first, None, past), (second, None, ahead), (third, None, past)]) is second
    assert first_unfinished([(first, None, past)]) is None
