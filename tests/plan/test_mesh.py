"""Ranks, coordinates and process groups."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.plan import Mesh

MESHES = st.builds(
    Mesh,
    st.permutations(["pp", "dp", "tp"]).map(tuple),
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
)


def test_default_order() -> None:
    mesh = Mesh(("pp", "dp", "tp"), (2, 2, 2))
    assert mesh.groups("tp") == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert mesh.groups("dp") == [(0, 2), (1, 3), (4, 6), (5, 7)]
    assert mesh.groups("pp") == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert mesh.shift(1, "pp", +1) == 5
    assert mesh.shift(5, "pp", +1) == 1


@given(MESHES)
def test_groups_along_an_axis_part_the_ranks(mesh: Mesh) -> None:
    for axis in mesh.axes:
        groups = mesh.groups(axis)
        assert sorted(rank for group in groups for rank in group) == list(range(mesh.world_size))
        for group in groups:
            assert [mesh.coordinate(rank, axis) for rank in group] == list(range(mesh.size(axis)))
            others = {tuple(mesh.coordinate(rank, other) for other in mesh.axes if other != axis) for rank in group}
            assert len(others) == 1
            assert all(mesh.group(rank, axis) == group for rank in group)


@given(MESHES, st.integers(-5, 5))
def test_shift_moves_along_one_axis_and_back(mesh: Mesh, step: int) -> None:
    for rank in range(mesh.world_size):
        for axis in mesh.axes:
            there = mesh.shift(rank, axis, step)
            assert there in mesh.group(rank, axis)
            assert mesh.shift(there, axis, -step) == rank


@pytest.mark.parametrize("axes", list(permutations(["pp", "dp", "tp"])))
def test_the_last_axis_varies_fastest(axes: tuple[str, ...]) -> None:
    mesh = Mesh(axes, (2, 3, 4))
    assert mesh.group(0, axes[2]) == (0, 1, 2, 3)
    assert mesh.group(0, axes[1]) == (0, 4, 8)
    assert mesh.group(0, axes[0]) == (0, 12)
