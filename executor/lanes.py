"""Where instructions run and how they are timed: a host thread with pending messages, or CUDA streams with events.

Both offer the same calls. Neither adds a synchronisation to the step: the CPU reads a monotonic clock where the
thread passes anyway, the GPU records events that are read after the step.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from executor.transport import Handle
from simulator.program.instructions import PARAMETER_GATHERS, RECEIVES, SENDS, SUMS, UNSHARDS, Instruction, Kind, Lane
from simulator.units import parse_seconds

MILLISECOND = parse_seconds("1 ms")
"""torch's unit of elapsed time between CUDA events, in seconds."""

AWAITED = (*RECEIVES, *UNSHARDS.values(), Kind.PARAM_FROM_HOST, *PARAMETER_GATHERS.values())
"""Kinds that come long before they are needed, so that a thread of their own must tell when they were there."""

WATCHED = (*SENDS, Kind.PP_F, Kind.ROOT_B)
"""Kinds after which a rank may have nothing left to wait for."""

Finish = Callable[[], None]
Message = tuple[Sequence[Handle], Finish | None]
"""Handles to wait on, and what remains to be done when the message has arrived."""


@dataclass(slots=True)
class RawSpan:
    """One instruction as a rank saw it, in seconds of its own clock; no end while a message is under way."""

    instruction: Instruction
    issued: float
    end: float | None = None


class Lanes(Protocol):
    """What the runtime needs of a device."""

    @property
    def current(self) -> RawSpan | None:
        """The instruction that the device is busy with, the same object while it lasts: what a watchdog reports."""

    def launch(
        self, position: int, instruction: Instruction, needs: tuple[int, ...], action: Callable[[], Message | None]
    ) -> None:
        """Run an instruction as soon as what it needs is done."""

    def keep(self, thing: object) -> None:
        """Let the tensors in a thing live for as long as work under way may read them."""

    def close(self) -> list[RawSpan]:
        """Wait for everything and return the step's spans, complete."""


class Arrivals:
    """Waits for messages in a thread of its own: a received one's time is known, a sent one's memory is free at once.

    gloo cannot be asked whether a message is there, and the host thread may come to wait for it long after.
    """

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[RawSpan, Message, threading.Event]] = queue.SimpleQueue()
        self._failures: dict[threading.Event, Exception] = {}
        threading.Thread(target=self._work, daemon=True).start()

    def expect(self, span: RawSpan, message: Message) -> threading.Event:
        """Return an event that is set when a message is done and finished; the span then has its end."""
        done = threading.Event()
        self._queue.put((span, message, done))
        return done

    def wait(self, done: threading.Event) -> None:
        """Block until an expected message is there; raises what its transport raised."""
        done.wait()
        if failure := self._failures.pop(done, None):
            raise failure

    def _work(self) -> None:
        while True:
            # A message's tensors die with it, not when the next one comes: no name outlives it.
            self._await(*self._queue.get())

    def _await(self, span: RawSpan, message: Message, done: threading.Event) -> None:
        handles, finish = message
        try:
            for handle in handles:
                handle.wait()
            span.end = time.perf_counter()
            if finish:
                finish()
        except Exception as error:
            self._failures[done] = error
        done.set()


class HostLanes:
    """CPU: computation blocks the thread; messages go on beside it until somebody needs them.

    Attributes
    ----------
    watches_sends
        Let threads wait for sent messages too, so that their tensors die on arrival and not at the end of the step. A
        thread that wakes up takes a core from one that computes, so steps that are timed do without.
    """

    def __init__(self) -> None:
        self.watches_sends = False
        self.current: RawSpan | None = None
        self.spans: list[RawSpan] = []
        self._pending: dict[int, tuple[RawSpan, Message]] = {}
        self._arrivals: dict[Lane, Arrivals] = {}
        self._expected: dict[int, threading.Event] = {}

    def launch(
        self, position: int, instruction: Instruction, needs: tuple[int, ...], action: Callable[[], Message | None]
    ) -> None:
        """Wait for the messages that the instruction needs, then run it."""
        for need in needs:
            self._wait(need)
        span = self.current = RawSpan(instruction, time.perf_counter())
        self.spans.append(span)
        message = action()
        if message:
            if instruction.kind in AWAITED or (self.watches_sends and instruction.kind in WATCHED):
                message = self._expect(position, span, message)
            self._pending[position] = (span, message)
            return
        span.end = time.perf_counter()
        if self._pending:
            self._notice(span.end)

    def _expect(self, position: int, span: RawSpan, message: Message) -> Message:
        """Let a thread wait for a message; return what remains to be done by this one, which alone stores tensors."""
        handles, finish = message
        receives = span.instruction.kind in RECEIVES
        lane = span.instruction.lane
        if lane not in self._arrivals:
            self._arrivals[lane] = Arrivals()
        self._expected[position] = self._arrivals[lane].expect(span, (handles, None if receives else finish))
        return (), finish if receives else None

    def keep(self, thing: object) -> None:
        """Do nothing: whatever the thread lets go of has been read, and messages under way hold their own."""

    def hear(self) -> None:
        """Wait until the threads have heard of all that is under way."""
        for done in self._expected.values():
            done.wait()

    def close(self) -> list[RawSpan]:
        """Wait for everything and return the step's spans."""
        for position in list(self._pending):
            self._wait(position)
        spans, self.spans = self.spans, []
        return spans

    def _wait(self, position: int) -> None:
        if position not in self._pending:
            return
        span, (handles, finish) = self._pending[position]
        self.current = span
        if done := self._expected.pop(position, None):
            self._arrivals[span.instruction.lane].wait(done)
        else:
            for handle in handles:
                handle.wait()
        if span.end is None:
            span.end = time.perf_counter()
        if finish:
            finish()
        del self._pending[position]

    def _notice(self, now: float) -> None:
        """Note the end of reductions that have arrived meanwhile; gloo tells it of collectives only."""
        for span, (handles, _) in self._pending.values():
            if span.end is not None or span.instruction.kind not in SUMS:
                continue
            if all(handle.is_completed() for handle in handles):
                span.end = now


class Query(Protocol):
    """The part of a CUDA event that says whether the device has come past it."""

    def query(self) -> bool:
        """Return whether all work before it is done."""


def first_unfinished(entries: Iterable[tuple[RawSpan, object, Query]]) -> RawSpan | None:
    """Return the first queued instruction that the device has not finished.

    What an instruction waits for was queued before it, so the first one waits for nothing on this device: it runs.
    """
    return next((span for span, _, end in entries if not end.query()), None)


class CudaLanes:
    """GPU: one CUDA stream for each lane of the Program; dependencies and times are events.

    The host runs far ahead of the device and would let go of tensors that other streams have yet to read; torch's
    caching allocator knows only the stream that a tensor was made on. What crosses streams is kept until the step ends.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._queued: RawSpan | None = None
        self._streams: dict[Lane, torch.cuda.Stream] = {}
        self._events: dict[int, tuple[RawSpan, torch.cuda.Event, torch.cuda.Event]] = {}
        self._kept: list[object] = []
        self._zero = torch.cuda.Event(enable_timing=True)
        self._zero_time = 0.0

    @property
    def current(self) -> RawSpan | None:
        """What the device is busy with; if with nothing, what the host thread is."""
        entries = list(self._events.values())
        try:
            # The asking thread must not open a context of its own on the first GPU.
            with torch.cuda.device(self._device):
                return first_unfinished(entries) or self._queued
        except RuntimeError:  # The device has failed and answers nothing; the host thread will hear of it and say so.
            return self._queued

    def _begin(self) -> None:
        """Tie the device's clock to the host's before a step; what it reads has then been written on any stream."""
        torch.cuda.synchronize(self._device)
        self._zero.record()
        self._zero.synchronize()
        self._zero_time = time.perf_counter()

    def launch(
        self, position: int, instruction: Instruction, needs: tuple[int, ...], action: Callable[[], Message | None]
    ) -> None:
        """Queue an instruction on its stream, behind the events of what it needs."""
        if not self._events:
            self._begin()
        span = self._queued = RawSpan(instruction, time.perf_counter())
        if instruction.lane not in self._streams:
            self._streams[instruction.lane] = torch.cuda.Stream(self._device)
        stream = self._streams[instruction.lane]
        issued, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        with torch.cuda.stream(stream):
            for need in needs:
                if need in self._events:
                    stream.wait_event(self._events[need][2])
            issued.record(stream)
            message = action()
            if message:
                handles, finish = message
                for handle in handles:
                    handle.wait()  # NCCL: this stream waits, the host goes on.
                if finish:
                    finish()
            end.record(stream)
        self._events[position] = (span, issued, end)

    def keep(self, thing: object) -> None:
        """Hold on to a thing until the device is done with the step."""
        self._kept.append(thing)

    def close(self) -> list[RawSpan]:
        """Wait for the device and read the events."""
        torch.cuda.synchronize(self._device)
        spans = [
            RawSpan(span.instruction, self._host_time(issued), self._host_time(end))
            for span, issued, end in self._events.values()
        ]
        self._events.clear()
        self._kept.clear()
        return spans

    def _host_time(self, event: torch.cuda.Event) -> float:
        return self._zero_time + self._zero.elapsed_time(event) * MILLISECOND


def lanes_for(device: torch.device) -> Lanes:
    """Return the lanes of a device."""
    return CudaLanes(device) if device.type == "cuda" else HostLanes()
