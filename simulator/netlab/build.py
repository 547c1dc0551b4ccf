"""Builds labs and removes them, whatever is left of them."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from simulator.errors import Diagnostic, ExecutionError, InputError
from simulator.netlab import commands
from simulator.netlab.blueprint import draw
from simulator.netlab.lab import Lab, existing, find, lab_name
from simulator.topology import Topology

ENDING = 10.0
"""Seconds within which killed processes are gone."""


def up(topology: Topology) -> Lab:
    """Build the lab of a topology.

    Raises
    ------
    InputError
        The topology cannot be built, this machine cannot build it, or a lab of the name is up.
    ExecutionError
        The kernel refused something; what had been built by then is removed.
    """
    blueprint, name = draw(topology), lab_name()
    check_machine()
    lab = Lab(name=name, topology=topology.name, blueprint=blueprint, delayed=False)
    try:
        # Written first, so that whatever happens from here on can be undone.
        lab.save(new=True)
    except FileExistsError:
        known = find(name)
        message = f"is up already, as {known.topology if known else 'something else'}"
        hint = "plancast netlab down removes it; with PLANCAST_LAB=NAME there can be another"
        raise InputError([Diagnostic(f"lab {name}", "", message, hint)]) from None
    try:
        return _build(lab)
    except BaseException:
        down(lab)
        raise


def down(lab: Lab) -> None:
    """Remove a lab: the processes in it, its namespaces, with them their interfaces, and at last its file.

    Raises
    ------
    ExecutionError
        Something cannot be removed; the file stays.
    """
    _end(lab)
    for name in set(existing()) & set(lab.namespaces):
        _run(["ip", "netns", "delete", name])
    lab.path.unlink(missing_ok=True)


@contextmanager
def built(topology: Topology) -> Iterator[Lab]:
    """Have a lab for as long as the block lasts, also if it ends by an error, Ctrl-C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        lab = up(topology)
        try:
            yield lab
        finally:
            down(lab)
    finally:
        signal.signal(signal.SIGTERM, before)


def require(topology: Topology) -> Lab:
    """Return the lab that is up, which must be the topology's; raises InputError."""
    name = lab_name()
    lab = find(name)
    if lab is None:
        message, hint = "is not up", f"plancast netlab up {topology.name}"
    elif lab.blueprint != draw(topology):
        message = f"is up as {lab.topology}, whose network is not that of {topology.name} as given"
        hint = f"plancast netlab down, then plancast netlab up {topology.name} with the same --set topology... changes"
    else:
        return lab
    raise InputError([Diagnostic(f"lab {name}", "", message, hint)])


def check_machine() -> None:
    """Refuse a machine that cannot have labs; raises InputError with all that is missing."""
    missing = []
    if platform.system() != "Linux":
        missing.append(("", f"network namespaces are Linux's, and this is {platform.system()}", "use a Linux machine"))
    elif os.geteuid() != 0:
        missing.append(("", "namespaces and interfaces are root's to make", "call plancast as root"))
    for program in ("ip", "tc"):
        if not shutil.which(program):
            missing.append((program, "is not installed", "apt-get install iproute2"))
    if missing:
        raise InputError([Diagnostic("netlab", *each) for each in missing])


def _build(lab: Lab) -> Lab:
    blueprint, names = lab.blueprint, lab.namespaces
    for name in names:
        _run(["ip", "netns", "add", name])
        _set(name)
    _run(["ip", "-batch", "-"], commands.cabling(lab))
    for space, name in enumerate(names):
        _run(["ip", "-n", name, "-batch", "-"], commands.addressing(blueprint, space))
    delayed = _has_netem(names[0]) and any(port.latency for cable in blueprint.cables for port in cable)
    for space, name in enumerate(names):
        _run(["tc", "-n", name, "-batch", "-"], commands.shaping(blueprint, space, delayed))
    lab = Lab(name=lab.name, topology=lab.topology, blueprint=blueprint, delayed=delayed)
    lab.save()
    return lab


def _set(name: str) -> None:
    lines = "".join(f"echo {value} > /proc/sys/{file}\n" for file, value in commands.SETTINGS.items())
    _run(["ip", "netns", "exec", name, "sh", "-e"], lines)


def _has_netem(name: str) -> bool:
    """Try a delay on an interface that nobody uses yet."""
    tried = subprocess.run(
        ["tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "1ms"],
        capture_output=True,
        check=False,
    )
    if tried.returncode == 0:
        _run(["tc", "-n", name, "qdisc", "delete", "dev", "eth0", "root"])
    return tried.returncode == 0


def _end(lab: Lab) -> None:
    """Kill the processes in a lab and wait until they are gone."""
    deadline = time.monotonic() + ENDING
    while left := lab.processes():
        if time.monotonic() > deadline:
            raise ExecutionError(f"lab {lab.name}: processes {', '.join(map(str, left))} cannot be killed")
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def _run(command: Sequence[str], lines: str = "") -> None:
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr or done.stdout).strip()
        raise ExecutionError(f"{' '.join(command)}: {told}; missing kernel parts: veth, sch_tbf (CONFIG_NET_SCH_TBF)?")
