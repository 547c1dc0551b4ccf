"""Starts the executor's processes on this machine with torchrun, and reads what they left."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.errors import Diagnostic, ExecutionError, InputError, RankLostError
from simulator.load import Inputs, load_jobs
from simulator.plan.plan import EXECUTED
from simulator.results.assemble import Recorded, assemble_all
from simulator.results.recording import Recording, read_json
from simulator.topology import Topology
from simulator.topology.torchrun import on_nodes

OURS = re.compile(r"^rank (\d+): ")
"""How a line of a rank begins; everything else on stderr is torchrun's."""

PROGRESS = "progress: "
"""How a line begins that says how far the run is; it is passed on as it comes."""

LAST_LINES = 15
"""Lines of foreign output that a failure shows when no rank said anything."""

GRACE = 30.0
"""Seconds that the processes have for ending after an interrupt."""


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

    def jobs(self) -> dict[str, Inputs]:
        """Return the inputs of each job by the name of its folder; raises InputError."""
        return load_jobs(self.models, self.topology, self.plans, self.settings)

    def command(self, world_size: int) -> list[str]:
        """Return the torchrun command line."""
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
        }
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*torchrun, "--nproc-per-node", str(world_size), "-m", "executor"]
        command += [word for option, values in options.items() for value in values for word in (option, value)]
        return command + ["--calibrate"] * self.calibrate + ["--sweep"] * self.sweep


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
    _check_devices(jobs, launch.calibrate)
    sizes = {inputs.plan.mesh.world_size for inputs in jobs.values()}
    assert len(sizes) == 1, "one topology has one world size"
    launch.out.mkdir(parents=True, exist_ok=True)
    for name in jobs:
        _forget(launch.out / name)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    # In a session of their own: a terminal's Ctrl-C reaches this process alone, which ends them so that they can save.
    with subprocess.Popen(
        launch.command(sizes.pop()),
        env=environment,
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            told, others = _listen(process)
        except KeyboardInterrupt:
            _recover_all(launch, jobs)
            print(f"interrupted; what was measured by then lies in {launch.out}", file=sys.stderr)
            raise
    if process.returncode:
        _recover_all(launch, jobs)
        raise _failure(process.returncode, told, others)
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


def _forget(folder: Path) -> None:
    """Remove what an earlier run left in a job's folder, so that nothing of it is taken for this run's."""
    for pattern in ("measured.json.gz", "predicted.json.gz", "trace.json.gz", "partial-rank*", "calibration-*.json"):
        for path in folder.glob(pattern):
            path.unlink()


def _check_devices(jobs: dict[str, Inputs], calibrate: bool) -> None:
    """Refuse what this machine is not, before a dozen processes import torch to find out."""
    first = next(iter(jobs.values())).topology
    if first.num_nodes > 1:
        raise ExecutionError(
            f"{first.name} has {first.num_nodes} nodes, and this starts processes on one machine; on each node run:\n"
            + "\n".join(
                f"{line} -m executor --model ... --topology ... --plan ... --out ..." for line in on_nodes(first)
            )
        )
    if calibrate and emulated(first):
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


def _listen(process: subprocess.Popen[str]) -> tuple[list[str], deque[str]]:
    """Collect what the processes say until they end; an interrupt ends them too."""
    told: list[str] = []
    others: deque[str] = deque(maxlen=LAST_LINES)

    def read(lines: Iterable[str]) -> None:
        for line in lines:
            if OURS.match(line):
                told.append(line.rstrip())
            elif line.startswith(PROGRESS):
                print(line.removeprefix(PROGRESS), end="", file=sys.stderr, flush=True)
            else:
                others.append(line.rstrip())

    assert process.stderr
    reader = threading.Thread(target=read, args=(process.stderr,), daemon=True)
    reader.start()
    try:
        process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        reader.join()
    return told, others


def _failure(code: int, told: list[str], others: deque[str]) -> ExecutionError:
    """Return the error that names the culprit: the first rank that somebody found lost."""
    for line in told:
        if lost := re.search(r"lost: rank (\d+)", line):
            seen = re.search(r"last seen in ([^\s)]+)", line)
            message = "\n".join(["lost; the run ended", *told])
            return RankLostError(message, int(lost[1]), seen[1] if seen else "")
    if told:
        return ExecutionError("\n".join(["the run failed", *told]))
    return ExecutionError("\n".join([f"torchrun ended with code {code}", *others]))


def _recover_all(launch: Launch, jobs: dict[str, Inputs]) -> None:
    for name, inputs in jobs.items():
        if not (launch.out / name / "measured.json.gz").exists():
            recover(launch.out / name, inputs)


def recover(folder: Path, inputs: Inputs) -> None:
    """Make a recording, marked incomplete, of what the ranks of a failed run left behind."""
    world_size = inputs.plan.mesh.world_size
    paths = [folder / f"partial-rank{rank}.json.gz" for rank in range(world_size)]
    nothing: dict[str, Any] = {"error": "", "rounds": [], "leads": [], "steps": []}
    parts: list[dict[str, Any]] = [read_json(path) if path.exists() else nothing for path in paths]
    count = max(len(part["steps"]) for part in parts)
    if not count:
        return
    rounds, leads = (max((part[key] for part in parts), key=len) for key in ("rounds", "leads"))
    records: list[list[Recorded]] = [
        [part["steps"][index] if index < len(part["steps"]) else [] for part in parts] for index in range(count)
    ]
    timelines = assemble_all(inputs.program, records, leads)
    # The last step shows where the run ended, also if it was not to be measured.
    kept = [index for index in range(count) if not leads[index] or index == count - 1]
    Recording(
        source="measured",
        inputs=inputs.resolved(),
        steps=tuple(timelines[index] for index in kept),
        rounds=tuple(rounds[index] for index in kept),
        about={"errors": [part["error"] for part in parts if part["error"]]},
        complete=False,
    ).save(folder / "measured.json.gz")
    for path in paths:
        path.unlink(missing_ok=True)
