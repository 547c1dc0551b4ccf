"""What a device has of its host when a plan moves things there: the link, memory, and the speed of updates."""

from dataclasses import replace

from simulator.topology.device import Device, HostShare
from simulator.topology.device_schema import DeviceSchema
from simulator.topology.schema import HostSchema

OWN_LINK_SOURCE = "the host is the device: a copy reads its memory and writes it, at half the bandwidth"
OWN_UPDATE_SOURCE = "the host is the device"


def own_host(spec: DeviceSchema) -> HostShare:
    """Return the host of a device that is alone on it."""
    host = HostShare()
    if spec.backend != "cuda":
        host = HostShare(
            link=spec.memory_bandwidth / 2,
            link_source=OWN_LINK_SOURCE,
            update=spec.memory_bandwidth,
            update_source=OWN_UPDATE_SOURCE,
        )
    if spec.host_link:
        host = replace(host, link=spec.host_link.bandwidth, link_source=spec.host_link.source)
    return host


def share_host(device: Device, host: HostSchema | None, count: int) -> Device:
    """Return a device as one of ``count`` on a host; those that are their own host share nothing but memory."""
    share = device.host
    if device.backend == "cuda":
        share = replace(share, update=share.update / count)
    if host and host.update:
        share = replace(share, update=host.update.bandwidth / count, update_source=host.update.source)
    if host and host.memory:
        share = replace(share, memory=host.memory / count)
    return replace(device, host=share)
