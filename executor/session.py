"""A run: jobs trained in turns, round by round, with calibration in between, and their recordings written."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from executor.calibrate import Calibrator
from executor.calibrate_device import DeviceMeter
from executor.checkpoint import Checkpoints
from executor.device import about, device_of
from executor.emulated import Emulated
from executor.health import UnhealthyError, examine
from executor.job import Job
from executor.memory import held_bytes
from executor.recorder import clock_offset, plain
from executor.runtime import Runtime
from executor.schedule import Every, Schedule
from executor.transport import Transport
from executor.watchdog import START, Watchdog
from executor.written import save, write
from simulator.errors import ExecutionError
from simulator.load import Inputs
from simulator.topology.torchrun import on_nodes

GRACE = 30
"""Seconds more than the watchdog's after which torch itself ends a message that hangs."""

SAVE_EVERY = 10
"""Steps after which a rank writes what it has: as much may be lost with it."""

IN_A_ROW = 2
"""Measured steps between two calibration samples."""


class Session:
    """The processes of one launch.

    Parameters
    ----------
    inputs
        Jobs by name; all of one world size and backend.
    out
        Folder for what is written; one folder a job in it.
    timeout
        Seconds that an instruction may take.
    """

    def __init__(self, inputs: dict[str, Inputs], out: Path, timeout: float) -> None:
        self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.out = out
        self.jobs: list[Job] = []
        self.checkpoints: dict[str, Checkpoints] = {}
        self._every = Every()
        first = next(iter(inputs.values()))
        self._check_world(inputs)
        backend = first.topology.device(self.rank).backend
        self._interpreter = Emulated if backend == "emulated" else Runtime
        self.device = device_of(backend)
        self._about = about(self.device, first.topology.device(self.rank).kind, self.world_size)
        # Later than the watchdog, which says more and saves what there is. Groups do not inherit it from each other.
        self._lost_after = 2 * timeout + GRACE
        store, _, _ = next(rendezvous("env://", timeout=datetime.timedelta(seconds=timeout + START)))
        self._inputs = inputs
        self._recording = False
        self.watchdog = Watchdog(PrefixStore("plancast", store), self.rank, self.world_size, timeout, self._save_all)
        try:
            self._connect(store, backend, timeout)
        except Exception as error:
            self.watchdog.fail(f"{type(error).__name__}: {_first_line(error)}")

    def _connect(self, store: Store, backend: str, timeout: float) -> None:
        """Make the group of all ranks, and one that only controls the run."""
        dist.init_process_group(
            "nccl" if backend == "cuda" else "gloo",
            store=PrefixStore("groups", store),
            rank=self.rank,
            world_size=self.world_size,
            timeout=datetime.timedelta(seconds=self._lost_after),
        )
        # Ranks that share cores wait here while the others take their turns.
        turns = max(its.topology.devices_per_node for its in self._inputs.values())
        self.control = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=self._lost_after * turns))
        self.offset, self._clock_error = clock_offset(self.control)

    def run(self, schedule: Schedule) -> None:
        """Train all jobs and write their recordings; any failure ends the process with its cause named."""
        try:
            self.watchdog.look_away("building")
            self._build(schedule)
            for job in self.jobs:
                if not (schedule.resume and self._resume(job)):
                    self._train(job, None, schedule.warmup)
            for turn in range(schedule.rounds):
                for job in self.jobs:
                    if job.is_done(turn, schedule.steps):
                        continue
                    self._turn(job, turn, schedule)
                    self._save(job)
                    if schedule.every.checkpoint or turn < schedule.rounds - 1:
                        self._checkpoint(job)
                    if self.rank == 0:
                        print(
                            f"progress: round {turn + 1} of {schedule.rounds}: {job.name}", file=sys.stderr, flush=True
                        )
            for job in self.jobs:
                if self._every.check and job.losses:
                    self._examine(job)
                self._count_memory(job)
                self.watchdog.look_away("writing")
                write(job, self.out / job.name, self.control, self._clock_error, self._about)
            dist.barrier(group=self.control)
            for job in self.jobs:
                self._partial(job).unlink(missing_ok=True)
                if not schedule.every.checkpoint:
                    self.checkpoints[job.name].forget()
            self.watchdog.stop()
            # Without an agent rank 0 keeps the store: it stays until nobody's watchdog asks it any more.
            dist.barrier(group=self.control)
        except Exception as error:
            self.watchdog.fail(f"{type(error).__name__}: {_first_line(error)}")
        dist.destroy_process_group()

    def _check_world(self, inputs: dict[str, Inputs]) -> None:
        for name, job in inputs.items():
            expected = job.plan.mesh.world_size
            if expected != self.world_size:
                raise ExecutionError(
                    f"{name} needs {expected} processes, torchrun started {self.world_size}; "
                    f"use {'; '.join(on_nodes(job.topology))}"
                )

    def _build(self, schedule: Schedule) -> None:
        # torch seeds its generators anew in each process; a module that draws from them must train the same every time.
        torch.manual_seed(self.rank)
        self._every = schedule.every
        self.watchdog.graceful = schedule.every.checkpoint > 0 and schedule.every.check > 0
        meter = self._meter() if schedule.calibrate and schedule.sweep else None
        for name, inputs in self._inputs.items():
            runtime = self._interpreter(inputs, self.rank, Transport(inputs.program, self._lost_after), self.device)
            calibrator = None
            if schedule.calibrate:
                if not isinstance(runtime, Runtime):
                    raise ExecutionError("emulated devices have no layers to calibrate; leave out --calibrate")
                calibrator = Calibrator(runtime, self.control, self.offset, meter)
            self.jobs.append(Job(name, inputs, runtime, calibrator))
            self.checkpoints[name] = Checkpoints(self.out / name, runtime, self.control)

    def _meter(self) -> DeviceMeter:
        """Return what measures this rank's device, in the dtypes that it trains in."""
        inputs = list(self._inputs.values())
        dtypes = {each.plan.dtype for each in inputs}
        return DeviceMeter(self.device, inputs[0].topology.device(self.rank), dtypes, self.control)

    def _resume(self, job: Job) -> bool:
        """Go on from a job's last checkpoint; return whether there is one."""
        self.watchdog.look_away("resuming")
        record = self.checkpoints[job.name].restore()
        if record is not None:
            job.take_up(record)
        if self.rank == 0:
            found = f"goes on after step {job.runtime.step_index}" if record else "has no checkpoint, and begins anew"
            print(f"progress: {job.name} {found}", file=sys.stderr, flush=True)
        return record is not None

    def _checkpoint(self, job: Job) -> None:
        self.watchdog.look_away("writing")
        self.checkpoints[job.name].save(job.record())

    def _turn(self, job: Job, turn: int, schedule: Schedule) -> None:
        """One step to wake caches and memory that slept while other jobs ran; then samples and steps by turns."""
        if job.calibrator is None:
            self._train(job, turn, job.remaining(turn, schedule.steps))
            return
        self._train(job, None, 1)
        self.watchdog.look_away("calibrating")
        for done in range(0, schedule.steps, IN_A_ROW):
            job.calibrator.sample()
            self._train(job, turn, min(IN_A_ROW, schedule.steps - done))
            self.watchdog.look_away("calibrating")
        job.calibrator.sample()
        job.samples.append(job.calibrator.take())

    def _train(self, job: Job, turn: int | None, steps: int) -> None:
        """Train some steps; without a turn they are warm-up and leave no record.

        A step is measured from the end of the one before, so that all that a rank does for it counts, however early
        it gets a core. After any pause one step more is run that is not measured.
        """
        self.watchdog.look_at(job.runtime.lanes, job.inputs.program)
        self._recording = turn is not None
        lead = turn is not None
        while steps:
            spans, loss = job.runtime.step()
            steps -= not lead
            if turn is not None:
                job.steps.append(plain(spans, self.offset))
                job.rounds.append(turn)
                job.losses.append(loss)
                job.leads.append(lead)
            paused = self._pause(job)
            lead = paused and self._recording
        self.watchdog.look_away("between steps")

    def _pause(self, job: Job) -> bool:
        """Do what is due between two steps; return whether anything was."""
        recorded, step = len(job.steps) if self._recording else 0, job.runtime.step_index
        saves = recorded > 0 and recorded % SAVE_EVERY == 0
        examines = recorded > 0 and self._every.check > 0 and recorded % self._every.check == 0
        checkpoints = self._every.checkpoint > 0 and step % self._every.checkpoint == 0
        if not (saves or examines or checkpoints):
            return False
        if saves:
            self.watchdog.look_away("writing")
            self._save(job)
        stopping = self._examine(job) if examines else []
        if checkpoints or stopping:
            self._checkpoint(job)
        if stopping:
            self._stop(stopping[0], f"told to stop: its state after step {step} is kept; go on with --resume")
        self.watchdog.look_at(job.runtime.lanes, job.inputs.program)
        return True

    def _examine(self, job: Job) -> list[int]:
        """Compare the ranks; return those that were told to stop."""
        self.watchdog.look_away("comparing replicas")
        recent = job.losses[-self._every.check :]
        try:
            return examine(job.runtime, recent, self.watchdog.stopping, self.control)
        except UnhealthyError as error:
            self._stop(error.rank, error.message)
            raise

    def _stop(self, rank: int, reason: str) -> None:
        """End the process, as all others do; one rank says why."""
        self.watchdog.leave(reason if rank == self.rank else "")

    def _count_memory(self, job: Job) -> None:
        """Run one more step that is not timed: counting slows it, and the steps before it do the same.

        Emulated devices hold no activations.
        """
        if not isinstance(job.runtime, Runtime):
            return
        self.watchdog.look_at(job.runtime.lanes, job.inputs.program)
        self._recording = False
        job.held = held_bytes(job.runtime)
        self.watchdog.look_away("between steps")

    def _save(self, job: Job, error: str = "") -> None:
        save(job, self._partial(job), self.offset, self._recording, error)

    def _save_all(self, error: str) -> None:
        for job in self.jobs:
            self._save(job, error)

    def _partial(self, job: Job) -> Path:
        return self.out / job.name / f"partial-rank{self.rank}.json.gz"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
