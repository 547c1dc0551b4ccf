"""A model that is somebody's ``torch.nn.Module``: where it comes from, and what goes in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from simulator.model.layers.base import Shape, count

ModuleLoss = Literal["cross_entropy", "mse", "module"]

_TENSOR = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<sizes>[1-9]\d*(?:x[1-9]\d*)*)(?::int:(?P<below>[1-9]\d*))?")

EXAMPLE = "write 3x224x224 for real numbers, 128:int:50257 for token ids below 50257, NAME=... for a keyword argument"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTensor:
    """One tensor that a module reads.

    Parameters
    ----------
    shape
        Of one sample.
    below
        Whole numbers from 0 up to here; 0 for real numbers.
    name
        Keyword that it is passed by; empty: by its place.
    """

    shape: Shape
    below: int = 0
    name: str = ""

    @property
    def size(self) -> int:
        """Elements of one sample."""
        return count(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSource:
    """Where a module comes from, and what it reads.

    Parameters
    ----------
    path
        ``package.module:function`` or ``file.py:function``.
    inputs
        All real or all whole numbers; several lie side by side in the graph's one input, each flattened.
    target
        What the module computes its own loss from; None where the loss is one of ours.
    loss
        Which.
    """

    path: str
    inputs: tuple[ModuleTensor, ...]
    target: ModuleTensor | None = None
    loss: ModuleLoss = "cross_entropy"

    @property
    def is_integer(self) -> bool:
        """Whether the inputs are whole numbers."""
        return self.inputs[0].below > 0

    @property
    def input_shape(self) -> Shape:
        """Per-sample shape of the graph's input."""
        return self.inputs[0].shape if len(self.inputs) == 1 else (sum(each.size for each in self.inputs),)


def parse_tensor(text: str) -> ModuleTensor:
    """Return the tensor that ``[NAME=]SIZExSIZE[:int:BELOW]`` describes; raises ValueError."""
    match = _TENSOR.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no tensor; {EXAMPLE}")
    sizes = tuple(int(size) for size in match["sizes"].split("x"))
    return ModuleTensor(shape=sizes, below=int(match["below"] or 0), name=match["name"] or "")


def module_source(path: str, inputs: list[str], target: str | None, loss: ModuleLoss) -> ModuleSource:
    """Return the source that texts describe; raises ValueError for the first thing that is wrong."""
    tensors = tuple(map(parse_tensor, inputs))
    if len({each.below > 0 for each in tensors}) > 1:
        raise ValueError("some inputs are real and some are whole numbers; they travel as one tensor, so must be alike")
    if (target is None) == (loss == "module"):
        raise ValueError(
            "a module that computes its own loss needs a target, as --target labels=128:int:50257"
            if target is None
            else f"a target is what the module's own loss reads, and the loss is {loss}; use loss module"
        )
    return ModuleSource(path=path, inputs=tensors, target=parse_tensor(target) if target else None, loss=loss)
