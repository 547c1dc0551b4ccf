"""Torch's own parallel stack sends what the Program says; docs/dry-run.md explains the one line that differs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]


@pytest.fixture
def torch_stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import torch_stack

    yield torch_stack
    sys.modules.pop("torch_stack")


def test_torch_sends_what_the_program_says(torch_stack: ModuleType) -> None:
    differing = {}
    for name in torch_stack.CASES:
        for operation, ours, our_bytes, theirs, their_bytes in torch_stack.compared(name):
            assert ours
            if (ours, our_bytes) != (theirs, their_bytes):
                differing[name, operation] = (ours - theirs, our_bytes - their_bytes)
    again = 2 * torch_stack.BLOCKS
    whole = torch_stack.BATCH * torch_stack.SEQUENCE * torch_stack.HIDDEN * 4
    assert differing == {("DTensor sequence parallel, blocks, 8 ranks", "all_gather"): (again, again * whole)}
