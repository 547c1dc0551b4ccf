"""Where an operator comes from: the user's line, and the submodule."""

from __future__ import annotations

import re

from torch import fx

from executor.tracing.source import NOT_THE_USERS

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def place(node: fx.Node) -> str:
    """Return ``file:line`` of the innermost line of the user's that called an operator, of anybody's without one."""
    found = list(_FRAME.finditer(node.meta.get("stack_trace") or ""))
    frames = [frame for frame in found if not frame["file"].startswith(NOT_THE_USERS)] or found
    return f"{frames[-1]['file']}:{frames[-1]['line']}" if frames else node.name


def path(node: fx.Node) -> str:
    """Return the dotted path of the submodule whose forward called an operator; empty for the module itself."""
    stack = node.meta.get("nn_module_stack")
    return str(list(stack.values())[-1][0]) if stack else ""
