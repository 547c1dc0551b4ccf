"""``plancast demo``: the whole path once, on this machine."""

from __future__ import annotations

import time

from simulator.commands.options import Output, Topology

MODELS = ("gpt-tiny", "cnn-tiny")
PLANS = ("dp2", "tp2", "pp2")


def demo(*, topology: Topology = "local-cpu", output: Output = None) -> int:
    """Calibrate this machine, predict six plans, train them on two processes, and print both side by side.

    The plans need a topology with two devices.
    """
    from simulator.commands.calibrate import calibrate
    from simulator.commands.options import run_folder
    from simulator.commands.validate import validate
    from simulator.reports.terminal import note

    out = output or run_folder("demo")
    start = time.monotonic()
    note("calibrating layers and links of this machine with two processes ...")
    calibrate(
        output=out / "calibration.json",
        overlay=out / "calibrated.yaml",
        model=list(MODELS),
        topology=topology,
        plan=list(PLANS),
        rounds=2,
    )
    note(f"calibrated in {time.monotonic() - start:.0f} s; now predicting and training each plan ...")
    code = validate(
        model=list(MODELS),
        topology=topology,
        plan=list(PLANS),
        calibration=out / "calibration.json",
        output=out,
    )
    note(f"done in {time.monotonic() - start:.0f} s")
    return code
