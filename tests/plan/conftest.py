"""Plans on one box of equal devices."""

from collections.abc import Callable

import pytest

from simulator.load import Inputs, load

Plan = Callable[..., Inputs]


@pytest.fixture(scope="session")
def planned() -> Plan:
    """Compile a preset model; further arguments are keys of the plan as `tp=2`, or whole keys as `model.x=3`."""

    def plan(model: str, devices: int, *changes: str) -> Inputs:
        settings = [change if "." in change.partition("=")[0] else f"plan.{change}" for change in changes]
        count = f"topology.node.count={devices}"
        return load(model, "pcie-box", "single", [count, "plan.dp=auto", *settings])

    return plan
