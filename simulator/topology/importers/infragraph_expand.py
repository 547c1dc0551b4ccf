"""InfraGraph's blueprints -> every component and every edge by name, within limits."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from simulator.topology.importers.infragraph_schema import (
    DeviceSchema,
    EdgeSchema,
    InfrastructureSchema,
    LinkSchema,
)

MAX_PARTS = 100_000
"""Components, and edges, of the whole file once all is written out."""

MAX_DEPTH = 8
"""Devices within devices."""

Refuse = Callable[[str, str], NoReturn]
"""Raises an error: its dotted key in the file, and what is wrong."""

_ELEMENT = re.compile(r"([^\[\]]+?)\s*(?:\[([0-9:]*)\])?")


@dataclass(frozen=True, slots=True)
class Part:
    """A component: its type, its name in the blueprint, and the instance of a device (`server.0`) that holds it."""

    choice: str
    component: str
    instance: str


@dataclass(frozen=True, slots=True)
class Edge:
    """One link between two parts."""

    one: str
    other: str
    link: LinkSchema


@dataclass(frozen=True, slots=True)
class Expanded:
    """Parts by full name (`server.0.xpu.3`) and the edges between them."""

    parts: dict[str, Part] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)


def expand(spec: InfrastructureSchema, refuse: Refuse) -> Expanded:
    """Write out every instance of every device and every edge."""
    return _Expansion(spec, refuse).result


class _Expansion:
    def __init__(self, spec: InfrastructureSchema, refuse: Refuse) -> None:
        self._refuse = refuse
        self._devices = {device.name: device for device in spec.devices}
        self._keys = {device.name: f"infragraph.devices.{i}" for i, device in enumerate(spec.devices)}
        self._instances = {instance.name: instance for instance in spec.instances}
        self.result = Expanded()
        for i, instance in enumerate(spec.instances):
            key = f"infragraph.instances.{i}"
            for k in range(min(instance.count, MAX_PARTS)):
                name = f"{instance.name}.{k}"
                self._add_device(name, self._device(instance.device, f"{key}.device"), key, 0, name)
        links = {link.name: link for link in spec.links}
        for i, edge in enumerate(spec.edges):
            self._add_edge(edge, links, "", None, f"infragraph.edges.{i}")

    def _device(self, name: str, key: str) -> DeviceSchema:
        if name not in self._devices:
            self._refuse(key, f'"{name[:40]}" is no device')
        return self._devices[name]

    def _add_device(self, prefix: str, device: DeviceSchema, key: str, depth: int, instance: str) -> None:
        if depth > MAX_DEPTH:
            self._refuse(key, f"device {device.name} is inside more than {MAX_DEPTH} others, or inside itself")
        own = self._keys[device.name]
        for i, component in enumerate(device.components):
            if len(self.result.parts) + component.count > MAX_PARTS:
                self._refuse(key, f"writes out more than {MAX_PARTS:,} components")
            for k in range(component.count):
                name = f"{prefix}.{component.name}.{k}"
                if component.choice == "device":
                    inner = self._device(component.name, f"{own}.components.{i}.name")
                    self._add_device(name, inner, key, depth + 1, instance)
                else:
                    self.result.parts[name] = Part(component.choice, component.name, instance)
        links = {link.name: link for link in device.links}
        for i, edge in enumerate(device.edges):
            self._add_edge(edge, links, f"{prefix}.", device, f"{own}.edges.{i}")

    def _add_edge(
        self, edge: EdgeSchema, links: Mapping[str, LinkSchema], prefix: str, device: DeviceSchema | None, key: str
    ) -> None:
        if edge.link not in links:
            self._refuse(f"{key}.link", f'"{edge.link[:40]}" is no link here')
        ends: list[list[str]] = []
        for name, end in (("ep1", edge.ep1), ("ep2", edge.ep2)):
            path = end.component if end.device is None else f"{end.device}.{end.component}"
            if device is None:
                ends.append(self._instance_parts(end.instance or "", path, f"{key}.{name}"))
            else:
                ends.append([prefix + each for each in self._device_parts(device, path, f"{key}.{name}")])
        pairwise = edge.scheme == "one2one"
        count = min(map(len, ends)) if pairwise else len(ends[0]) * len(ends[1])
        if len(self.result.edges) + count > MAX_PARTS:
            self._refuse(key, f"writes out more than {MAX_PARTS:,} edges")
        pairs = zip(*ends, strict=False) if pairwise else ((a, b) for a in ends[0] for b in ends[1])
        self.result.edges.extend(Edge(a, b, links[edge.link]) for a, b in pairs if a != b)

    def _instance_parts(self, instance: str, path: str, key: str) -> list[str]:
        name, indices = self._split(instance, f"{key}.instance")
        if name not in self._instances:
            self._refuse(f"{key}.instance", f'"{name[:40]}" is no instance')
        owner = self._instances[name]
        parts = self._device_parts(self._device(owner.device, key), path, key)
        chosen = self._chosen(owner.count, indices, f"{key}.instance")
        if len(chosen) * len(parts) > MAX_PARTS:
            self._refuse(key, f"names more than {MAX_PARTS:,} components")
        return [f"{name}.{k}.{part}" for k in chosen for part in parts]

    def _device_parts(self, device: DeviceSchema, path: str, key: str) -> list[str]:
        """Names within the device of what a path like `cx5[0:2].port[0]` means."""
        found = [""]
        for step in path.split("."):
            name, indices = self._split(step, f"{key}.component")
            component = next((each for each in device.components if each.name == name), None)
            if component is None:
                self._refuse(f"{key}.component", f'"{name[:40]}" is no component of {device.name}')
            chosen = self._chosen(component.count, indices, f"{key}.component")
            if len(found) * len(chosen) > MAX_PARTS:
                self._refuse(key, f"names more than {MAX_PARTS:,} components")
            found = [f"{before}{name}.{k}." for before in found for k in chosen]
            device = self._devices[name] if component.choice == "device" and name in self._devices else device
        return [name[:-1] for name in found]

    def _split(self, text: str, key: str) -> tuple[str, str | None]:
        match = _ELEMENT.fullmatch(text.strip())
        if match is None:
            self._refuse(key, f'"{text[:40]}" is not a name with a slice, as in xpu[0:4]')
        return match[1], match[2]

    def _chosen(self, count: int, indices: str | None, key: str) -> Sequence[int]:
        """The indices that a slice takes from `count`."""
        if indices is None or indices == "":
            return range(count)
        words = [int(word[:9]) if word else None for word in indices.split(":")]
        if len(words) == 1 and words[0] is not None:
            words = [words[0], words[0] + 1]
        bounds = (words[0] or 0, count if len(words) < 2 or words[1] is None else words[1])
        step = 1 if len(words) < 3 or words[2] is None else words[2]
        if len(words) > 3 or not step or bounds[1] > count or bounds[0] >= bounds[1]:
            self._refuse(key, f"[{indices[:20]}] takes nothing, or more than the {count} there are")
        return range(bounds[0], bounds[1], step)


def xpus(expanded: Expanded) -> Iterator[str]:
    """Names of the parts that compute, in the order of the file: the ranks."""
    return (name for name, part in expanded.parts.items() if part.choice in ("xpu", "npu"))
