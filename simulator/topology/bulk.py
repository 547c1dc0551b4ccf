"""Many routes at once: of equal nodes, each way is worked out once for a pair of places and moved to other nodes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.topology.link import Link, RepeatedLinks, Routes
from simulator.topology.routes import Router, TemplateRouter

Ints = NDArray[np.int64]


class Ways(NamedTuple):
    """Link ids of several ways, one after the other; way k begins at ``starts[k]`` and has ``lengths[k]`` links."""

    links: Ints
    starts: Ints
    lengths: Ints


def find_routes(router: Router, links: Sequence[Link], sources: Ints, destinations: Ints) -> Routes:
    """Return the routes from each source to the destination at the same place."""
    if isinstance(router, TemplateRouter):
        return _repeated(router, links, sources, destinations)
    ways = _ways([router.path(*pair) for pair in zip(sources.tolist(), destinations.tolist(), strict=True)])
    indptr = np.concatenate(([0], np.cumsum(ways.lengths)))
    return Routes(indptr=indptr, links=ways.links, latencies=_latencies(ways, links))


def find_bandwidths(links: Sequence[Link], ids: Ints) -> NDArray[np.float64]:
    """Return the bytes/s of links."""
    if isinstance(links, RepeatedLinks):
        pattern = np.array([link.bandwidth for link in links.pattern])
        found: NDArray[np.float64] = pattern[ids % len(pattern)]
        return found
    return np.array([links[i].bandwidth for i in ids.tolist()], dtype=np.float64)


def _repeated(router: TemplateRouter, links: Sequence[Link], sources: Ints, destinations: Ints) -> Routes:
    """Return routes of a template: the ways between places of nodes 0 and 1, moved to the nodes in question."""
    size, period = router.devices_per_node, router.links_per_node
    (src_node, src), (dst_node, dst) = np.divmod(sources, size), np.divmod(destinations, size)
    kinds = ((src_node != dst_node) * size + src) * size + dst
    used = np.flatnonzero(np.bincount(kinds, minlength=1))
    pairs = [(kind // size % size, kind % size + (kind >= size * size) * size) for kind in used.tolist()]
    # Ids from `period` on belong to node 1, the destination's.
    ways = _ways([router.path(*pair) for pair in pairs])
    kind = np.searchsorted(used, kinds)
    lengths = ways.lengths[kind]
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    within = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - ways.starts[kind], lengths)
    local = ways.links[within]
    node = np.where(local < period, np.repeat(src_node, lengths), np.repeat(dst_node, lengths))
    return Routes(indptr=indptr, links=local % period + node * period, latencies=_latencies(ways, links)[kind])


def _ways(paths: Sequence[tuple[int, ...]]) -> Ways:
    lengths = np.array([len(path) for path in paths], dtype=np.int64)
    links = np.array([link for path in paths for link in path], dtype=np.int64)
    return Ways(links, np.cumsum(lengths) - lengths, lengths)


def _latencies(ways: Ways, links: Sequence[Link]) -> NDArray[np.float64]:
    """Return the sum of the latencies of each way, in the order of its links."""
    latency = {i: links[i].latency for i in np.unique(ways.links).tolist()}
    ids = ways.links.tolist()
    spans = zip(ways.starts.tolist(), ways.lengths.tolist(), strict=True)
    return np.array([sum([latency[i] for i in ids[first : first + count]]) for first, count in spans], dtype=np.float64)
