"""``plancast model import``: make a model file of somebody's ``torch.nn.Module``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def import_(
    module: str,
    /,
    *,
    input: Annotated[
        list[str],
        Parameter(
            negative=(),
            help="Shape of an input of one sample: 3x224x224 of real numbers, 128:int:50257 of ids below 50257; with "
            "NAME= before it passed by that keyword; repeat for several.",
        ),
    ],
    output: Annotated[Path | None, Parameter(alias="-o", help="Model file to write; stdout if absent.")] = None,
    loss: Annotated[
        Literal["cross_entropy", "mse", "module"],
        Parameter(help="What becomes of the output; module: it is the loss, computed from --target."),
    ] = "cross_entropy",
    target: Annotated[str | None, Parameter(help="Input from which the module computes its own loss.")] = None,
    name: Annotated[str | None, Parameter(help="The model's name; the function's if absent.")] = None,
) -> int:
    """Trace a module layer by layer, without its weights, and write its model file.

    Parameters
    ----------
    module
        Function that returns the module: package.module:function or file.py:function.
    """
    from simulator.errors import Diagnostic, InputError
    from simulator.launch import trace
    from simulator.model.module import module_source

    try:
        module_source(module, input, target, loss)
    except ValueError as error:
        raise InputError([Diagnostic("model import", "", str(error))]) from None
    given: dict[str, Any] = {"inputs": input} | ({"target": target} if target else {}) | {"loss": loss}
    found = trace({"path": module, "target": target, **given})
    short = name or module.rpartition(":")[2].strip("_").lower() or "imported"
    _write(output, {"name": short, "module": module, **given, **found})
    layers = found["layers"]
    if output:
        traced = sum(layer["kind"] == "traced" for layer in layers)
        print(f"wrote {output}: {len(layers)} layers, {traced} of them traced ({len(found['operations'])} operations)")
    return 0


def _write(output: Path | None, data: dict[str, Any]) -> None:
    from simulator.reports.yaml_text import yaml_text
    from simulator.results.recording import write_bytes

    text = yaml_text(data)
    if output:
        write_bytes(output, text.encode())
    else:
        print(text, end="")
