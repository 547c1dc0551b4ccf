"""Compiled programs of the shipped presets."""

from collections.abc import Callable

import pytest

from simulator.load import load
from simulator.program import Program

Compile = Callable[..., Program]


@pytest.fixture(scope="session")
def program() -> Compile:
    """Compile a preset model on 8 equal devices; arguments are keys of the plan as `tp=2`."""

    def compile_program(model: str = "gpt-tiny", *changes: str, devices: int = 8) -> Program:
        plan = ["dp=auto", "num_microbatches=4", *changes]
        settings = [f"topology.node.count={devices}", *(f"plan.{change}" for change in plan)]
        return load(model, "pcie-box", "single", settings).program

    return compile_program
