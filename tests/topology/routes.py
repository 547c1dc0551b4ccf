"""What every route must be."""

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator.topology import Topology


def check_routes(topology: Topology, sources: NDArray[np.int64], destinations: NDArray[np.int64]) -> None:
    """Routes lead from the one to the other over links that join, and many at once are the same as one by one."""
    routes = topology.routes(sources, destinations)
    for k, (src, dst) in enumerate(zip(sources.tolist(), destinations.tolist(), strict=True)):
        route = topology.route(src, dst)
        assert routes.links[routes.indptr[k] : routes.indptr[k + 1]].tolist() == list(route.links)
        assert routes.latencies[k] == pytest.approx(route.latency, rel=1e-12)
        links = [topology.links[i] for i in route.links]
        ends = [topology.router.endpoint(src), topology.router.endpoint(dst)]
        assert [link.source for link in links] + ends[1:] == ends[:1] + [link.destination for link in links]
        assert route.latency == pytest.approx(sum(link.latency for link in links))
        assert topology.bandwidths(np.array(route.links, dtype=np.int64)).tolist() == [x.bandwidth for x in links]
