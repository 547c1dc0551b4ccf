"""Starts the executor's processes on this machine with torchrun, and reads what they left."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.errors import Diagnostic, ExecutionError, InputError
from simulator.load import Inputs, load_jobs
from simulator.netlab import spawn
from simulator.plan.plan import EXECUTED
from simulator.processes import run_all
from simulator.results.recover import NAME, recover
from simulator.topology import Topology
from simulator.topology.torchrun import on_nodes

EARLIER = "measured-earlier.json.gz"
"""What a run had measured that was then resumed: its recording, before the new one has all of it."""

CHECKPOINTS = "checkpoint-*"

RESULTS = (*(NAME, EARLIER, CHECKPOINTS, "predicted.json.gz", "trace.json.gz", "partial-rank*", "calibration-*.json"),)
"""What a run leaves in a job's folder."""

UNFINISHED = (".partial-rank*", ".measured.json.gz.*", ".calibration-*", ".checkpoint-*")
"""Files that a process was writing when it was ended; they get their names once they are whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to run: every model with every plan, in turns.

    Parameters
    ----------
    models, plans
        Files or presets.
    topology
        File or preset; its world size is the number of processes.
    settings
        ``--set`` changes.
    out
        Folder for recordings, one folder a job in it.
    rounds, steps, warmup
        Turns of each job, recorded steps a turn, unrecorded steps before.
    timeout
        Seconds that an instruction may take.
    calibrate, sweep
        Measure layers and links between the steps; standard message sizes too.
    checkpoint_every, check_every
        Steps between checkpoints, and between comparisons of losses and replicas; 0: none.
    resume
        Go on from what an earlier run has left in ``out``.
    lab
        Name of the netlab in whose hosts the ranks run; empty for this machine as it is.
    """

    models: Sequence[str]
    topology: str
    plans: Sequence[str]
    settings: Sequence[str] = ()
    out: Path
    rounds: int = 1
    steps: int = 10
    warmup: int = 3
    timeout: float = 60.0
    calibrate: bool = False
    sweep: bool = False
    checkpoint_every: int = 0
    check_every: int = 10
    resume: bool = False
    lab: str = ""

    def jobs(self) -> dict[str, Inputs]:
        """Return the inputs of each job by the name of its folder; raises InputError."""
        return load_jobs(self.models, self.topology, self.plans, self.settings)

    def command(self, world_size: int) -> list[str]:
        """Return the command line of torchrun, or of what stands for it in a netlab."""
        options = {
            "--model": self.models,
            "--plan": self.plans,
            "--set": self.settings,
            "--topology": [self.topology],
            "--out": [str(self.out)],
            "--rounds": [str(self.rounds)],
            "--steps": [str(self.steps)],
            "--warmup": [str(self.warmup)],
            "--timeout": [str(self.timeout)],
            "--checkpoint-every": [str(self.checkpoint_every)],
            "--check-every": [str(self.check_every)],
        }
        words = [
            "-m",
            "executor",
            *(word for option, given in options.items() for each in given for word in (option, each)),
        ]
        switches = {"--calibrate": self.calibrate, "--sweep": self.sweep, "--resume": self.resume}
        words += [option for option, given in switches.items() if given]
        if self.lab:
            return spawn.command(self.lab, range(world_size), words)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        return [*torchrun, "--nproc-per-node", str(world_size), *words]


def run(launch: Launch) -> dict[str, Inputs]:
    """Train all jobs on this machine; return their inputs.

    Raises
    ------
    InputError
        Something is wrong with the input; no process was started.
    ExecutionError
        torch is missing, a process could not be started, or the run failed. What had been measured by then lies in
        ``measured.json.gz``, marked incomplete.
    """
    if importlib.util.find_spec("torch") is None:
        raise ExecutionError("running needs torch: pip install 'plancast[executor]'")
    jobs = launch.jobs()
    _check_devices(jobs, launch)
    sizes = {inputs.plan.mesh.world_size for inputs in jobs.values()}
    assert len(sizes) == 1, "one topology has one world size"
    launch.out.mkdir(parents=True, exist_ok=True)
    if launch.resume:
        _check_resumes(launch, jobs)
    for name in jobs:
        _forget(launch.out / name, launch.resume)
    try:
        run_all(launch.command(sizes.pop()))
    except (ExecutionError, KeyboardInterrupt) as error:
        folders = _recover_all(launch, jobs)
        if folders:
            print(f"what was measured by then lies in {', '.join(map(str, folders))}", file=sys.stderr)
        raise error
    for name in jobs:
        (launch.out / name / EARLIER).unlink(missing_ok=True)
    return jobs


def trace(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers of a ``torch.nn.Module`` as keys of a model file.

    Parameters
    ----------
    source
        What ``simulator.model.module.module_source`` takes.

    Raises
    ------
    InputError
        The module cannot be built or traced.
    ExecutionError
        torch is missing, or the process that traces failed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ExecutionError("tracing needs torch: pip install 'plancast[executor]'")
    command = [sys.executable, "-m", "executor.tracing", json.dumps(dict(source))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    if "problems" in answer:
        raise InputError(Diagnostic(**problem) for problem in answer["problems"])
    if done.returncode:
        raise ExecutionError(f"tracing {source['path']} failed with exit code {done.returncode}")
    return answer


def emulated(topology: Topology) -> bool:
    """Return whether devices are timers, which take the predicted time and can be calibrated no further."""
    return any(device.backend == "emulated" for device in topology.devices)


def _check_resumes(launch: Launch, jobs: dict[str, Inputs]) -> None:
    """Refuse a folder in which no run of these jobs has been."""
    missing = [name for name in jobs if not (launch.out / name).is_dir()]
    if missing:
        message = f"there is nothing of {', '.join(missing)} in it"
        raise InputError(
            [Diagnostic(f"--resume {launch.out}", "", message, "give the folder and the inputs of the run")]
        )


def _forget(folder: Path, resumes: bool) -> None:
    """Remove what an earlier run left in a job's folder, so that nothing of it is taken for this run's.

    A run that is resumed has its checkpoints, and what was measured before, until this one has written more.
    """
    if resumes and (folder / NAME).exists():
        (folder / NAME).replace(folder / EARLIER)
    kept = {EARLIER, *(path.name for path in folder.glob(CHECKPOINTS))} if resumes else set()
    for pattern in (*RESULTS, *UNFINISHED):
        for path in folder.glob(pattern):
            if path.name not in kept:
                path.unlink()


def _check_devices(jobs: dict[str, Inputs], launch: Launch) -> None:
    """Refuse what this machine is not, before a dozen processes import torch to find out."""
    first = next(iter(jobs.values())).topology
    if first.num_nodes > 1 and not launch.lab:
        raise ExecutionError(
            f"{first.name} has {first.num_nodes} nodes, and this starts processes on one machine; on each node run:\n"
            + "\n".join(
                f"{line} -m executor --model ... --topology ... --plan ... --out ..." for line in on_nodes(first)
            )
        )
    if launch.calibrate and emulated(first):
        raise ExecutionError(
            f"{first.name} has emulated devices: they take the time that the topology says, so there is nothing to "
            "calibrate; calibrate on --topology local-cpu, or simulate without a calibration"
        )
    if not emulated(first):
        check_trains(jobs)
    drivers = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]
    if first.device(0).backend == "cuda" and not drivers:
        raise ExecutionError(
            f"{first.name} has {first.device(0).kind} devices, and this machine has no GPU driver; "
            "run on a machine with GPUs, or use --topology local-cpu"
        )


def check_trains(jobs: dict[str, Inputs]) -> None:
    """Refuse plans that the executor cannot train on any device. Raises ExecutionError."""
    for inputs in jobs.values():
        if inputs.plan.dtype not in EXECUTED:
            raise ExecutionError(
                f"plan {inputs.plan.name} trains in {inputs.plan.dtype}, and the executor in {' or '.join(EXECUTED)}; "
                "simulate it, or set plan.dtype=bf16"
            )
        if inputs.plan.gradient_dtype not in ("same", "fp32", inputs.plan.dtype):
            raise ExecutionError(
                f"plan {inputs.plan.name} sums gradients in {inputs.plan.gradient_dtype}, and the executor in fp32 or "
                f"as dtype {inputs.plan.dtype} stores them; simulate it, or set plan.gradient_dtype=same"
            )
        if inputs.plan.sequence_parallel and inputs.plan.reduces_each:
            raise ExecutionError(
                f"plan {inputs.plan.name} reduces gradients in each micro-batch, and the executor sums those of "
                "sequence parallelism at the end; simulate it, or set plan.sequence_parallel=false"
            )


def _recover_all(launch: Launch, jobs: dict[str, Inputs]) -> list[Path]:
    """Put together what ranks left behind; return the folders where it lies now."""
    recovered: list[Path | None] = []
    for name, inputs in jobs.items():
        folder = launch.out / name
        for pattern in UNFINISHED:
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)
        try:
            recovered.append(folder if (folder / NAME).exists() else recover(folder, inputs))
        except (OSError, ValueError) as error:
            print(f"{folder}: what the ranks left cannot be put together: {error}", file=sys.stderr)
    return [folder for folder in recovered if folder]
