"""The user's module: found, built, and what goes wrong in it said with the user's own line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException

from simulator.errors import Diagnostic, InputError

SEED = 0
"""Of torch's generator while a module is built: every rank, and every plan, starts from the same values."""

NOT_THE_USERS = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
"""Where installed code lies: the innermost frame outside is the one to show."""


def refuse(place: str, message: str, hint: str = "") -> NoReturn:
    """Raise the error of one mistake."""
    raise InputError([Diagnostic(place, "", message, hint)])


def build(path: str) -> nn.Module:
    """Return the module that ``package.module:function`` or ``file.py:function`` builds, in training mode.

    Raises
    ------
    InputError
        There is no such module or function, it raises, or what it returns is no ``nn.Module``.
    """
    name, colon, attribute = path.rpartition(":")
    if not colon or not name or not attribute.isidentifier():
        refuse(path, "does not name a function", "write package.module:function or file.py:function")
    python = _import(path, name)
    found = getattr(python, attribute, None)
    if found is None:
        known = [each for each, value in vars(python).items() if callable(value) and not each.startswith("_")]
        refuse(path, f"{name} has no {attribute}", f"it has {', '.join(known[:12])}" if known else "")
    module = found if isinstance(found, nn.Module) else _called(path, found)
    if not isinstance(module, nn.Module):
        refuse(path, f"returned a {type(module).__name__}, not a torch.nn.Module", "return the module itself")
    return module.train()


def build_fake(path: str) -> nn.Module:
    """Return the module of fake tensors, which take no memory; real where its constructor reads numbers out of tensors.

    Some initialisations do, as ``trunc_normal_``.
    """
    try:
        with FakeTensorMode():
            return build(path)
    except InputError as error:
        if not isinstance(error.__context__, DataDependentOutputException):
            raise
        print(f"{path}: the constructor reads numbers out of tensors, so the weights are made", file=sys.stderr)
        return build(path)


def _called(path: str, function: Callable[[], Any]) -> Any:
    with told(path, "raised"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return function()


def _import(path: str, name: str) -> ModuleType:
    with told(path, "cannot be imported:"):
        if not name.endswith(".py"):
            return importlib.import_module(name)
        if not Path(name).is_file():
            refuse(path, f"there is no file {name}", f"looked in {Path.cwd()}" if not Path(name).is_absolute() else "")
        spec = importlib.util.spec_from_file_location(Path(name).stem, name)
        assert spec and spec.loader
        python = importlib.util.module_from_spec(spec)
        # Dataclasses and pickles look their module up by name.
        sys.modules[spec.name] = python
        spec.loader.exec_module(python)
        return python


@contextmanager
def told(path: str, verb: str, hint: str = "") -> Iterator[None]:
    """Turn whatever the user's code raises into an error that shows the innermost line of the user's.

    The hint is for control flow that depends on data.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = str(error).strip().splitlines() or [""]
        place, source = _innermost(error)
        shown = f" (at: {source})" if source else ""
        by_data = "data-dependent" in str(error)
        refuse(place or path, f"{path} {verb} {type(error).__name__}: {said[0]}{shown}", hint if by_data else "")


def _innermost(error: Exception) -> tuple[str, str]:
    """Return place and text of the innermost line that is neither installed nor ours; empty if there is none."""
    ours = str(Path(__file__).parents[1])
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if frame.filename.startswith((*NOT_THE_USERS, ours, "<")):
            continue
        return f"{frame.filename}:{frame.lineno}", frame.line or ""
    return "", ""
