"""Who meets whom: groups along every axis, and of experts inside the dp x cp plane."""

from dataclasses import replace
from typing import Any

import pytest

from simulator.errors import InputError
from simulator.plan import Mesh
from simulator.program import Program

AXES = ("pp", "dp", "cp", "tp", "ep", "dp_expert", "dp_shard", "dp_replicate")


def laid_out(program: Program, sizes: tuple[int, ...], ep: int, axes: tuple[str, ...] = AXES[:4]) -> Program:
    """Return the program on another mesh."""
    mesh = Mesh(axes, sizes)
    return replace(program, plan=replace(program.plan, mesh=mesh, ep=ep, expert_tp=mesh.size("tp")))


def test_experts_are_on_neighbours_of_a_plane(program: Any) -> None:
    """dp 2 x cp 2 of ranks 0, 2, 4, 6 for tp rank 0: experts 0 and 1 on 0 and 2, and again on 4 and 6."""
    compiled = laid_out(program("gpt-tiny", "pp=2"), (1, 2, 2, 2), ep=2)
    assert compiled.group(0, "dp") == (0, 2, 4, 6)
    assert compiled.group(4, "cp") == (4, 6)
    assert compiled.group(4, "ep") == (4, 6)
    assert compiled.group(4, "dp_expert") == (0, 4)
    assert compiled.group(7, "dp_expert") == (3, 7)


@pytest.mark.parametrize("ep", [1, 2, 4])
@pytest.mark.parametrize("axes", [AXES[:4], ("cp", "tp", "dp", "pp"), ("tp", "dp", "pp", "cp")])
@pytest.mark.parametrize("schedule", ["1f1b", "chimera"])
def test_tables_are_the_groups(program: Any, schedule: str, axes: tuple[str, ...], ep: int) -> None:
    sizes = {"pp": 2, "dp": 2, "cp": 2, "tp": 2}
    compiled = laid_out(
        program("gpt-tiny", "pp=2", f"schedule={schedule}"), tuple(sizes[each] for each in axes), ep, axes
    )
    for axis in AXES:
        table = [tuple(row) for row in compiled.group_table(axis).tolist()]
        assert sorted(table) == sorted(compiled.groups(axis))
        assert sorted(rank for group in table for rank in group) == list(range(16))


def test_neighbours_share_a_copy(program: Any) -> None:
    """dp 4 of ranks 0, 2, 4, 6 for tp rank 0: one copy on 0 and 2, the other on 4 and 6; 0 and 4 hold the same part."""
    compiled = program("gpt-tiny", "tp=2", "sharding=hsdp", "dp_shard=2")
    assert compiled.group(4, "dp_shard") == (4, 6)
    assert compiled.group(4, "dp_replicate") == (0, 4)
    assert compiled.group(4, "dp") == (0, 2, 4, 6)
    for axis in AXES:
        assert sorted(map(tuple, compiled.group_table(axis).tolist())) == sorted(compiled.groups(axis))
    whole = program("gpt-tiny", "tp=2", "sharding=fsdp")
    assert whole.group(4, "dp_shard") == whole.group(4, "dp")
    assert whole.group(4, "dp_replicate") == (4,)


def test_axes_that_split_nothing_are_refused(program: Any) -> None:
    for axis, model, scheme in (("cp", "mlp-tiny", "context"), ("ep", "gpt-tiny", "expert")):
        with pytest.raises(InputError, match=f"plan.{axis}: no layer of {model} is split by {scheme} parallelism"):
            program(model, f"{axis}=2")


def test_experts_must_divide_the_plane(program: Any) -> None:
    with pytest.raises(
        InputError, match=r"plan.ep: 3 does not divide dp\(4\) \* cp\(2\) = 8 \(remainder 2\).*ep 2 or 4"
    ):
        program("gpt-tiny", "ep=3", "cp=2")


def test_the_product_of_all_axes_is_the_world(program: Any) -> None:
    with pytest.raises(InputError, match=r"dp\(2\) \* tp\(1\) \* pp\(2\) \* cp\(3\) = 12, but .* 8 devices"):
        program("gpt-tiny", "dp=2", "pp=2", "cp=3")
    with pytest.raises(InputError, match=r"plan.cp: tp\(1\) \* pp\(1\) \* cp\(3\) = 3 does not divide.*cp 2 or 4"):
        program("gpt-tiny", "cp=3")
