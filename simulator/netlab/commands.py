"""A blueprint as the commands of iproute2 that build it."""

from __future__ import annotations

from simulator.netlab.blueprint import Blueprint, Port
from simulator.netlab.lab import Lab
from simulator.units import parse_bytes, parse_seconds

MICROSECOND = parse_seconds("1 us")

BURST = parse_bytes("16 kB")
"""What tbf lets pass at full speed after a pause: small beside any message that is worth predicting, and more than
ten frames, so that the timer need not fire for each."""

WINDOW = parse_bytes("512 KiB")
"""What one connection may have under way: the product of 200 Mb/s and 10 ms, and as much again for the kernel's own."""

QUEUE = 16 * WINDOW
"""What waits before a slow link instead of being lost: the windows of more connections than meet at one."""

PACKETS = 10000
"""The same for netem, which counts packets and has latency's worth of them in its queue besides."""

SETTINGS = {
    "net/ipv4/ip_forward": "1",
    # Routes of a topology may differ by direction.
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    # A step pauses its connections for as long as ranks compute, and must not begin anew with a small window.
    "net/ipv4/tcp_slow_start_after_idle": "0",
    "net/ipv4/tcp_no_metrics_save": "1",
    "net/ipv4/tcp_congestion_control": "reno",
    "net/ipv4/tcp_wmem": f"4096 16384 {WINDOW:.0f}",
}
"""Kernel settings of each namespace, as files under /proc/sys. reno: with queues in which nothing is
lost, competing flows share a link by their windows, which are equal; every kernel has it."""


def cabling(lab: Lab) -> str:
    """Return a batch for ``ip`` that lays all cables; they begin inside the namespaces, so none is ever outside."""
    return "".join(
        f"link add {one.interface} netns {lab.namespace(one.space)} type veth "
        f"peer name {other.interface} netns {lab.namespace(other.space)}\n"
        for one, other in lab.blueprint.cables
    )


def addressing(blueprint: Blueprint, space: int) -> str:
    """Return a batch for ``ip`` inside a namespace: interfaces up, one address, a route to each host."""
    own = blueprint.spaces[space]
    lines = ["link set lo up", f"address add {own.address}/32 dev eth0"]
    lines += [f"link set {port.interface} up" for port in ports(blueprint, space)]
    lines += [
        f"route add {blueprint.spaces[hop.to].address}/32 via {blueprint.spaces[hop.via].address} "
        f"dev {hop.interface} onlink src {own.address}"
        for hop in blueprint.hops
        if hop.space == space
    ]
    return "\n".join(lines) + "\n"


def shaping(blueprint: Blueprint, space: int, delayed: bool) -> str:
    """Return a batch for ``tc`` inside a namespace: each interface sends at its link's rate, and late if so wanted."""
    lines = []
    for port in ports(blueprint, space):
        # tc's bps are bytes per second.
        rate = f"rate {port.rate:.0f}bps burst {BURST:.0f} limit {QUEUE:.0f}"
        lines.append(f"qdisc add dev {port.interface} root handle 1: tbf {rate}")
        if delayed and port.latency:
            delay = f"delay {port.latency / MICROSECOND:.0f}us limit {PACKETS}"
            lines.append(f"qdisc add dev {port.interface} parent 1:1 handle 10: netem {delay}")
    return "\n".join(lines) + "\n"


def ports(blueprint: Blueprint, space: int) -> list[Port]:
    """Return the ends of cables in a namespace, in the order of their names."""
    return [port for cable in blueprint.cables for port in cable if port.space == space]
