"""``plancast check``: whether a plan is legal, free of deadlocks, and fits."""

from __future__ import annotations

from simulator.commands.options import DOES_NOT_FIT, Format, Model, Plan, Settings, Topology, print_csv, print_json


def check(*, model: Model, topology: Topology, plan: Plan, settings: Settings = (), format: Format = "table") -> int:
    """Check a plan without simulating it: legal, free of deadlocks, fits into memory.

    Exit code 0: all is well; 1: it does not fit; 2: the input is wrong, and all that is wrong with it is listed.
    """
    from simulator.load import load
    from simulator.planning.fit import fit, remedy, worst

    inputs = load(model, topology, plan, settings)
    fits = fit(inputs.program, inputs.topology)
    fitting = worst(fits).fits
    advice = () if fitting else remedy(inputs)
    instructions = sum(map(len, inputs.program.lists))
    if format != "table":
        fullest = worst(fits)
        body = {
            "fits": fitting,
            "peak_memory_bytes": fullest.memory.total,
            "memory": fullest.memory.terms(),
            "memory_capacity_bytes": fullest.capacity,
            "largest_term": fullest.memory.dominant(),
            "fits_with": list(advice),
            "deadlock_free": True,
            "instructions": instructions,
            "world_size": inputs.topology.world_size,
        }
        if format == "json":
            print_json(body)
        else:
            from simulator.reports.summary import flat

            print_csv([flat(body) | {"fits_with": " ".join(advice)}])
    else:
        from simulator.reports.summary import advise, headline, verdict
        from simulator.reports.terminal import show

        lists = len(inputs.program.lists)
        proof = (
            f"legal and deadlock-free: {instructions} instructions of {lists} pipeline rank{'s'[: lists != 1]} verified"
        )
        show(headline(inputs), proof, verdict(fits, advise(advice)))
    return 0 if fitting else DOES_NOT_FIT
