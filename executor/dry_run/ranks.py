"""Which ranks of a cluster stand for all others."""

from __future__ import annotations

from simulator.plan.mesh import Mesh


def representatives(mesh: Mesh) -> tuple[int, ...]:
    """Return the first and the last rank, along all other axes, of the first, the middle and the last place of ``pp``.

    Ranks of one place of the pipeline run the same list; what may differ between them are their peers, and what they
    have of a vocabulary, a sequence or a bucket, of which the last part may be another than the first.
    """
    size = mesh.size("pp")
    others = [axis for axis in mesh.axes if axis != "pp"]
    corners = [0, sum((mesh.size(axis) - 1) * mesh.stride(axis) for axis in others)]
    places = [mesh.stride("pp") * place for place in (0, size // 2, size - 1)]
    return tuple(dict.fromkeys(sorted(place + corner for place in places for corner in corners)))
