"""``plancast calibrate``: measure this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from simulator.commands.options import Models, Plans, Rounds, Settings, Timeout, Topology

if TYPE_CHECKING:
    from simulator.cost import Calibration
    from simulator.load import Inputs


def calibrate(
    *,
    output: Annotated[Path, Parameter(alias="-o", help="Calibration file to write.")],
    model: Models = ["gpt-tiny", "cnn-tiny", "mlp-tiny"],  # noqa: B006 - cyclopts shows it as the default
    topology: Topology = "local-cpu",
    plan: Plans = ["dp2", "tp2", "pp2"],  # noqa: B006
    overlay: Annotated[
        Path | None, Parameter(help="Topology file to write: the given one with the devices as they were measured.")
    ] = None,
    settings: Settings = (),
    rounds: Rounds = 3,
    timeout: Timeout = 60.0,
) -> int:
    """Measure layers, parameter updates, messages and devices of this machine, with all ranks busy at once.

    Measures the layers of the given models as the given plans cut them, and messages of standard sizes. Other layers
    are predicted from a roofline that is scaled to the measured ones.

    Of the devices it measures memory bandwidth, matrix products, launches of kernels and computing beside a message.
    With --overlay a topology takes them over, for predictions of models that were not calibrated
    (docs/calibration.md).
    """
    import tempfile
    from statistics import median

    from simulator.launch import Launch, run
    from simulator.planning import load_calibration
    from simulator.planning.fit import require_fit
    from simulator.planning.overlay import figure_lines
    from simulator.planning.validate import calibrations, merge
    from simulator.results.recording import write_json
    from simulator.units import format_percent

    with tempfile.TemporaryDirectory(prefix="plancast-") as folder:
        launch = Launch(
            models=model,
            topology=topology,
            plans=plan,
            settings=settings,
            out=Path(folder),
            rounds=rounds,
            steps=0,
            warmup=1,
            timeout=timeout,
            calibrate=True,
            sweep=True,
        )
        require_fit(launch.jobs())
        jobs = run(launch)
        parts = [load_calibration(path) for name in jobs for path in calibrations(Path(folder) / name, rounds)]
    measured = merge(parts)
    write_json(output, measured.to_json())
    if overlay:
        _write_overlay(overlay, next(iter(jobs.values())), measured)
    layers, messages = len(measured.layers), sum(map(len, measured.messages.values()))
    print(f"wrote {output}: {layers} layers, {messages} message times, {len(measured.updates)} optimizers")
    print("device, medians (95 % intervals):", *figure_lines(measured), sep="\n  ")
    widths = sorted(most - least for least, most in measured.spread.values())
    if widths:
        print(
            f"of {len(widths)} times measured in several rounds, the median one varied by "
            f"{format_percent(median(widths))} of itself, the worst by {format_percent(widths[-1])}; "
            f"a prediction from this file says what that makes of the step"
        )
    return 0


def _write_overlay(path: Path, inputs: Inputs, measured: Calibration) -> None:
    from simulator.planning.overlay import overlay
    from simulator.reports.yaml_text import yaml_text
    from simulator.results.recording import write_bytes

    (document,) = (each.data for each in inputs.documents if each.name == "topology")
    write_bytes(path, yaml_text(overlay(document, inputs.topology, measured)).encode())
    print(f"wrote {path}: {inputs.topology.name} with its devices as they were measured")
