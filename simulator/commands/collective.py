"""``plancast collective``: what a collective takes on a cluster, algorithm by algorithm."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from simulator.commands.options import Format, Settings, Topology, print_csv, print_json

LARGEST = "1 GiB"
"""Size at which a sweep ends that is given none."""


def collective(
    *,
    topology: Topology,
    op: Annotated[
        str, Parameter(help="all_reduce, all_gather, reduce_scatter, all_to_all, broadcast, shift or send.")
    ] = "all_reduce",
    size: Annotated[
        str | None, Parameter(help="Bytes of each rank's buffer, as 256MiB; without it, a sweep up to 1 GiB.")
    ] = None,
    sweep: Annotated[bool, Parameter(negative=(), help="Sizes from 1 KiB up to --size.")] = False,
    ranks: Annotated[str | None, Parameter(help="Ranks of the group, as 0-7, 0,8,16 or 0-63:8; default: all.")] = None,
    algorithm: Annotated[str | None, Parameter(help="Only this one: ring, tree, hierarchical, ...")] = None,
    chosen: Annotated[bool, Parameter(negative=(), help="Only what the library would take at each size.")] = False,
    settings: Settings = (),
    format: Format = "table",
) -> None:
    """Predict a collective that has the cluster to itself: time, algbw and busbw as nccl-tests defines them.

    The algorithm that the communication library would take at each size is marked. Sizes are those of nccl-tests: the
    whole input of a reduce-scatter, the whole output of an all-gather, what a rank sends in an all-to-all. Protocol
    bare means the links alone, without what the library costs: a bound.
    """
    from simulator.load import load_topology
    from simulator.planning.collectives import compare_algorithms, parse_ranks, sweep_sizes

    largest = _bytes(size or LARGEST)
    built = load_topology(topology, settings)
    group = parse_ranks(ranks, built)
    sizes = sweep_sizes(largest) if sweep or size is None else [largest]
    rows = [row for row in compare_algorithms(built, group, op, sizes, algorithm) if row.chosen or not chosen]
    if format == "json":
        plain = [row.to_json() for row in rows]
        print_json({"topology": built.name, "operation": op, "ranks": list(group), "rows": plain})
    elif format == "csv":
        print_csv([row.to_json() for row in rows])
    else:
        from simulator.reports.collective import render
        from simulator.reports.terminal import show

        show(render(rows, op, built.name, len(group)))


def _bytes(text: str) -> float:
    """Return the bytes of ``--size``; raises InputError."""
    from simulator.errors import Diagnostic, InputError
    from simulator.units import parse_bytes

    try:
        size = parse_bytes(text)
        if size < 1:
            raise ValueError("is less than a byte; write, say, 256 MiB")
    except ValueError as error:
        raise InputError([Diagnostic(f"--size {text}", "", str(error))]) from None
    return size
