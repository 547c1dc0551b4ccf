"""When concurrent flows are done, by SimGrid's max-min model: cases in, times out, as JSON on the standard streams.

The system's Python runs this, for Debian's python3-simgrid lives there; nothing of this project is imported.

A case is ``{"bandwidths": [bytes/s of each link], "latency": s, "flows": [...]}``, a flow ``{"begin": s, "size": bytes,
"route": [links], "limit": bytes/s or null}``; a link that a route names twice is loaded twice. The answer: a list of
seconds for each case.

SimGrid's CM02 [1]_ shares in proportion to 1 / latency of a route, as TCP does. It is plain max-min when all latencies
are equal: hence one latency a case, on an access link that each flow has to itself and that also holds its limit.

.. [1] H. Casanova, L. Marchal, A network model for simulation of grid application, LIP research report 2002-40.
"""

import json
import sys
import tempfile
from xml.etree import ElementTree

from simgrid import Actor, Comm, Engine, Host, this_actor

PLAIN_MAX_MIN = {
    "network/model": "CM02",
    "network/TCP-gamma": "0",  # no window
    "network/crosstraffic": "no",  # no acknowledgements
    "network/latency-factor": "1",
    "network/bandwidth-factor": "1",
    "network/weight-S": "0",
    # The defaults, 1e-5 of a bandwidth and 1e-5 s, are coarser than what is compared.
    "maxmin/precision": "1e-10",
    "surf/precision": "1e-10",
}
HEAD = '<?xml version="1.0"?><!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">'
WIDE = 1e15  # bytes/s of the access link of a flow without a limit


def platform(cases):
    """All cases side by side: SimGrid simulates once a process, and flows that share no link do not meet."""
    root = ElementTree.Element("platform", version="4.1")
    zone = ElementTree.SubElement(root, "zone", id="cases", routing="Full")
    hosts, links, routes = [("origin", {"speed": "1f"})], [], []
    for number, case in enumerate(cases):
        for link, bandwidth in enumerate(case["bandwidths"]):
            links.append((f"{number}/{link}", {"bandwidth": f"{bandwidth!r}Bps", "latency": "0s"}))
        for index, flow in enumerate(case["flows"]):
            name = f"{number}/flow{index}"
            hosts.append((name, {"speed": "1f"}))
            links.append((name, {"bandwidth": f"{flow['limit'] or WIDE!r}Bps", "latency": f"{case['latency']!r}s"}))
            routes.append((name, [name, *(f"{number}/{link}" for link in flow["route"])]))
    for name, values in hosts:
        ElementTree.SubElement(zone, "host", id=name, **values)
    for name, values in links:
        ElementTree.SubElement(zone, "link", id=name, **values)
    for name, crossed in routes:
        route = ElementTree.SubElement(zone, "route", src="origin", dst=name, symmetrical="NO")
        for link in crossed:
            ElementTree.SubElement(route, "link_ctn", id=link)
    return HEAD + ElementTree.tostring(root, encoding="unicode")


def send(name, flow, found, index):
    if flow["begin"] > 0:
        this_actor.sleep_until(flow["begin"])
    Comm.sendto(Host.by_name("origin"), Host.by_name(name), flow["size"])
    found[index] = Engine.clock


def main():
    cases = json.load(sys.stdin)
    options = [f"--cfg={key}:{value}" for key, value in PLAIN_MAX_MIN.items()]
    engine = Engine(["referee", "--log=root.thresh:error", *options])
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(platform(cases))
        file.flush()
        engine.load_platform(file.name)
    found = [[None] * len(case["flows"]) for case in cases]
    for number, case in enumerate(cases):
        for index, flow in enumerate(case["flows"]):
            name = f"{number}/flow{index}"
            Actor.create(name, Host.by_name("origin"), send, name, flow, found[number], index)
    engine.run()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
