"""The processes of a launch: what they say, how they are ended, and who of them was lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from simulator.errors import ExecutionError, RankLostError

OURS = re.compile(r"^rank (\d+): ")
"""How a line of a rank begins that tells why it ends; everything else on stderr is torchrun's."""

PROGRESS = "progress: "
"""How a line begins that says how far the run is; it is passed on as it comes."""

LAST_LINES = 40
"""Lines of foreign output that are kept: torchrun's account of a failure has about 20."""

SHOWN_LINES = 15
"""Those that a failure shows when no rank said anything."""

GRACE = 30.0
"""Seconds that the processes have for ending after an interrupt."""

ENDING = 15.0
"""Seconds that they have once a rank has told why it ends: the others listen for each other's heartbeats, and save."""

POLL = 0.1
"""Seconds between two looks at the processes."""

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the processes: Ctrl-C, a batch system, a terminal that is closed."""

FIRST_TO_FAIL = re.compile(r"Root Cause.*?rank\s*: (\d+) .*?exitcode\s*: (-?\d+)", re.DOTALL)
"""Whom torchrun saw failing first, and how."""


@dataclass(slots=True)
class Told:
    """What the processes said.

    Parameters
    ----------
    causes
        Lines of ranks that tell why they end, first one first.
    others
        The last lines of everything else.
    since
        When the first cause was told, on the monotonic clock in seconds; None before.
    """

    causes: list[str] = field(default_factory=list)
    others: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    since: float | None = None

    def listen(self, lines: Iterable[str]) -> None:
        """Take lines as they come."""
        for line in lines:
            if OURS.match(line):
                self.causes.append(line.rstrip())
                self.since = self.since or time.monotonic()
            elif line.startswith(PROGRESS):
                print(line.removeprefix(PROGRESS), end="", file=sys.stderr, flush=True)
            else:
                self.others.append(line.rstrip())


class Interrupts:
    """Notes signals that ask this process to end, so that none can come between a process and its record."""

    def __init__(self) -> None:
        self.number: int | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.number = number

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note signals for a while; only the main thread may say so, and gets them."""
        main = threading.current_thread() is threading.main_thread()
        before = [(each, signal.signal(each, self.note)) for each in INTERRUPTS] if main else []
        try:
            yield
        finally:
            for each, handler in before:
                signal.signal(each, handler)


def run_all(command: Sequence[str]) -> None:
    """Run a launcher of ranks to its end.

    Raises
    ------
    ExecutionError
        The run failed; a `RankLostError` where a rank was lost.
    KeyboardInterrupt
        This process was told to end; no process of the launch is left.
    """
    told, interrupts = Told(), Interrupts()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    # In a session of their own: a terminal's Ctrl-C reaches this process alone, which ends them so that they can save.
    with (
        interrupts.watched(),
        subprocess.Popen(
            command, env=environment, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process,
    ):
        reader = threading.Thread(target=told.listen, args=(process.stderr,), daemon=True)
        reader.start()
        _wait(process, told, interrupts)
        reader.join(ENDING)
    if interrupts.number is not None:
        print("\n".join(told.causes), file=sys.stderr)
        raise KeyboardInterrupt(signal.Signals(interrupts.number).name)
    if process.returncode:
        raise failure(process.returncode, told)


def _wait(process: subprocess.Popen[str], told: Told, interrupts: Interrupts) -> None:
    """Wait for the end; after an interrupt or a failure no longer than ranks need to save what they have.

    torchrun alone waits 30 s for a rank that is stopped. Ranks die with torchrun, whatever state they are in.
    """
    asked: float | None = None
    while process.poll() is None:
        time.sleep(POLL)
        now = time.monotonic()
        if interrupts.number is not None and asked is None:
            process.terminate()
            asked = now
        if (asked is not None and now - asked > GRACE) or (told.since is not None and now - told.since > ENDING):
            process.kill()


def failure(code: int, told: Told) -> ExecutionError:
    """Return the error that names the culprit: whom a signal ended, whom others missed, or who failed by itself."""
    first = FIRST_TO_FAIL.search("\n".join(told.others))
    killed = int(first[1]) if first and int(first[2]) < 0 and -int(first[2]) != signal.SIGTERM else None
    missed = [line for line in told.causes[:1] if "lost: rank" in line]
    if killed is None and not missed:
        lines = ["the run failed", *told.causes] if told.causes else _unexplained(code, told)
        return ExecutionError("\n".join(lines))
    missing = re.search(r"lost: rank (\d+)", missed[0]) if missed else None
    rank = killed if killed is not None else int(missing[1]) if missing else 0
    how = f"{_ended_by(-int(first[2]))}; the run ended" if first and killed is not None else "lost; the run ended"
    seen = next((re.search(rf"rank {rank} \(last seen in ([^)]+)\)", line) for line in told.causes), None)
    waiting = next((re.search(rf"^rank (\d+): .* with rank .*\b{rank}\b", line) for line in told.causes), None)
    peer = int(waiting[1]) if waiting else None
    return RankLostError("\n".join([how, *told.causes]), rank, seen[1] if seen else "", peer)


def _ended_by(number: int) -> str:
    return f"ended by {signal.Signals(number).name}" if number in set(signal.Signals) else f"ended by signal {number}"


def _unexplained(code: int, told: Told) -> list[str]:
    return [f"torchrun ended with code {code}", *list(told.others)[-SHOWN_LINES:]]
