"""Notices that a rank is lost or stuck, says which and what it did, saves what was measured, and ends the process.

gloo and NCCL block in C++, where no Python signal handler runs; so a thread watches. Each rank counts a heartbeat up in
torch's key-value store; a rank whose count stands still is lost, unless it has left word why it ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

from executor.lanes import Lanes
from simulator.program.program import Program
from simulator.units import format_seconds

BEAT = 0.25
"""Seconds between heartbeats."""

SILENCE = 8
"""Heartbeats that may fail to come before a rank counts as lost; a busy machine may delay some."""

START = 60.0
"""Seconds more that a rank may take to its first heartbeat: a dozen processes load torch from one disk."""

STOPS = (signal.SIGTERM, signal.SIGINT)
"""What tells a rank to stop: torchrun passes on what it gets itself."""


class Watchdog:
    """One thread beside the training.

    Parameters
    ----------
    store
        torch's store; it must outlive the ranks (torchrun's agent keeps it).
    rank, world_size
        Of this process.
    timeout
        Seconds that an instruction may take.
    save
        Called once before the process is ended.

    Attributes
    ----------
    graceful
        Whether a signal to stop only sets ``stopping``, for the training to end at its next pause.
    stopping
        Whether the process was told to stop.
    """

    def __init__(self, store: Store, rank: int, world_size: int, timeout: float, save: Callable[[str], None]) -> None:
        # A connection of its own: a blocking call of another thread would hold up the heartbeats.
        clone = getattr(store, "clone", None)
        self._store: Store = clone() if clone else store
        self._rank = rank
        self._next = (rank + 1) % world_size
        self._world_size = world_size
        self._timeout = timeout
        self._save = save
        self._lanes: Lanes | None = None
        self._program: Program | None = None
        self._phase = "starting"
        self.graceful = self.stopping = False
        self._beats = (0, time.monotonic())
        self._stopped = threading.Event()
        self._ending = threading.Lock()
        # Threads inherit the mask: signals wait until the watchdog takes them, whatever the main thread is blocked in.
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def look_at(self, lanes: Lanes, program: Program) -> None:
        """Watch the instructions of a runtime."""
        self._lanes, self._program = lanes, program

    def look_away(self, phase: str) -> None:
        """Watch no instructions, but whether the others live, while this rank does something else."""
        self._lanes, self._program, self._phase = None, None, phase

    def stop(self) -> None:
        """End the watch at the end of the run, in the thread that began it; signals then end the process again."""
        self._stopped.set()
        self._thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def fail(self, reason: str) -> None:
        """Say what happened and who is lost, save, and end the process; does not return."""
        self._ending.acquire()
        # Asked at once: what is stuck now may be given up while the others' heartbeats are listened to.
        message = f"rank {self._rank}: {self._doing()}: {reason}"
        lost = self._lost()
        if lost:
            message += f"; lost: {', '.join(f'rank {rank}{self._last_words(rank)}' for rank in lost)}"
        self._end(message)

    def leave(self, reason: str = "") -> None:
        """End the process as all ranks have agreed to, the reason told by one of them; does not return."""
        self._ending.acquire()
        self._end(f"rank {self._rank}: {reason}" if reason else "")

    def _end(self, message: str) -> None:
        """End the process. Only the first caller gets here."""
        try:
            if message:
                print(message, file=sys.stderr, flush=True)
            self._store.set(f"left/{self._rank}", "")
            self._save(message)
        except Exception as error:
            print(f"rank {self._rank}: cannot save what it has measured: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(1)

    def _watch(self) -> None:
        previous: object = None
        since = time.monotonic()
        while not self._stopped.is_set():
            got = signal.sigtimedwait(STOPS, BEAT)
            try:
                self._store.add(f"beat/{self._rank}", 1)
                current = self._lanes.current if self._lanes else None
                doing = current or self._phase
                if doing is not previous:
                    previous, since = doing, time.monotonic()
                    self._store.set(f"doing/{self._rank}", str(current.instruction) if current else self._phase)
                silent = self._silence()
            except Exception as error:
                self.fail(f"the store is gone ({type(error).__name__}): rank 0's host or the launcher was lost")
            if got is not None and self.graceful and not self.stopping and not self._lost():
                self.stopping = True
            elif got is not None:
                self.fail(f"told to stop ({signal.Signals(got.si_signo).name})")
            if current is not None and time.monotonic() - since > self._timeout:
                self.fail(f"timed out after {format_seconds(self._timeout)}")
            if silent > self._timeout:
                self.fail(f"rank {self._next} has given no sign of life for {format_seconds(self._timeout)}")

    def _silence(self) -> float:
        """Return for how many seconds the next rank has been silent; in a ring, so that somebody listens to each."""
        beats, now = self._store.add(f"beat/{self._next}", 0), time.monotonic()
        if beats != self._beats[0]:
            self._beats = beats, now
        return now - self._beats[1] - (0.0 if beats else START)

    def _doing(self) -> str:
        current = self._lanes.current if self._lanes else None
        if current is None or self._program is None:
            return self._phase
        peers = [peer for peer in self._program.peers(self._rank, current.instruction) if peer != self._rank]
        if not peers:
            return f"in {current.instruction}"
        return f"in {current.instruction} with rank {', '.join(map(str, peers))}"

    def _lost(self) -> list[int]:
        """Return the ranks whose heartbeat stands still."""
        others = [rank for rank in range(self._world_size) if rank != self._rank]
        try:
            before = {rank: self._store.add(f"beat/{rank}", 0) for rank in others}
            for _ in range(SILENCE):
                time.sleep(BEAT)
                # This may be the thread that counts.
                self._store.add(f"beat/{self._rank}", 1)
            still = [rank for rank in others if self._store.add(f"beat/{rank}", 0) == before[rank]]
            return [rank for rank in still if not self._store.check([f"left/{rank}"])]
        except Exception:
            return []

    def _last_words(self, rank: int) -> str:
        try:
            if self._store.check([f"doing/{rank}"]):
                return f" (last seen in {self._store.get(f'doing/{rank}').decode()})"
        except Exception:
            return ""
        return ""
