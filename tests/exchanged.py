"""A graph with every exchange, as a rewriting for two ranks would leave it."""

from simulator.model.graph import INPUT, LayerGraph, Node
from simulator.model.layers import Activation, Add, CrossEntropy, Exchange, Layer, Linear, Norm
from simulator.model.layers.exchange import NOTHING

RANKS, ROWS, WIDTH = 2, 8, 16


def exchange(forward: str, backward: str, **dimensions: int) -> Exchange:
    return Exchange(axis="tp", forward=forward, backward=backward, num_ranks=RANKS, **dimensions)


def linear(features: int = WIDTH) -> Linear:
    return Linear(in_features=features, out_features=features)


def exchanged_graph() -> LayerGraph:
    """Sums shared out by rows, normalised, shifted, exchanged for columns, gathered and added."""
    layers: list[tuple[str, Layer, tuple[str, ...]]] = [
        ("first", linear(), (INPUT,)),
        ("shares", exchange("reduce_scatter", "all_gather"), ("first",)),
        ("norm", Norm(features=WIDTH), ("shares",)),
        ("shifts", exchange("shift", "shift"), ("norm",)),
        ("beside", linear(), ("norm",)),
        ("again", exchange("shift", "shift"), ("shifts",)),
        ("far", linear(), ("shifts",)),
        ("both", Add(), ("beside", "far")),
        ("columns", exchange("all_to_all", "all_to_all", shared=1, joined=0), ("both",)),
        ("relu", Activation(function="relu"), ("columns",)),
        ("rows", exchange("all_to_all", "all_to_all", shared=0, joined=1), ("relu",)),
        ("all", Add(), ("rows", "again")),
        ("gathers", exchange("all_gather", "reduce_scatter"), ("all",)),
        ("f", exchange(NOTHING, "all_reduce"), ("gathers",)),
        ("partial", linear(), ("f",)),
        ("g", exchange("all_reduce", NOTHING), ("partial",)),
        ("sum", Add(), ("g", "gathers")),
        ("loss", CrossEntropy(), ("sum",)),
    ]
    nodes = tuple(Node(name=name, layer=layer, inputs=inputs, block=name) for name, layer, inputs in layers)
    return LayerGraph(name="exchanged", input_shape=(ROWS, WIDTH), nodes=nodes)
