"""Drawings and pictures of clusters."""

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from simulator.commands.topology import show
from simulator.errors import InputError
from simulator.reports.topology_drawing import draw
from simulator.reports.topology_picture import svg
from simulator.topology import Topology

Build = Callable[..., Topology]
SVG = "{http://www.w3.org/2000/svg}"


def drawing(topology: Topology) -> str:
    console = Console(width=160, file=io.StringIO())
    with console.capture() as capture:
        console.print(draw(topology))
    return capture.get()


def test_a_drawing_says_what_hangs_where(shipped: Build) -> None:
    assert "node0/device0 ... node0/device7: 8 x 300 GB/s, 1 us" in drawing(shipped("dgx-a100"))
    assert "gpu1, gpu7: 2 x 150 GB/s, 1 us" in drawing(shipped("ring-8"))
    assert draw(shipped("superpod-h100")) is None


@pytest.mark.parametrize("name", ["dgx-a100", "ring-8", "tpu-v5p", "mixed-a100-h100", "fat-tree-4to1"])
def test_a_picture_shows_every_device_and_cable(name: str, shipped: Build) -> None:
    topology = shipped(name)
    root = ElementTree.fromstring(svg(topology))
    assert len(root.findall(f"{SVG}circle")) == topology.world_size
    assert len(root.findall(f"{SVG}path")) == len(topology.links) / 2
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for circle in root.findall(f"{SVG}circle"):
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height


def test_no_two_devices_lie_on_each_other(shipped: Build) -> None:
    for name in ("mixed-a100-h100", "tpu-v5p", "ring-8"):
        circles = ElementTree.fromstring(svg(shipped(name))).findall(f"{SVG}circle")
        places = {(circle.attrib["cx"], circle.attrib["cy"]) for circle in circles}
        assert len(places) == len(circles)


def test_the_command_writes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show("ring-8", output=tmp_path / "ring.svg", format="csv")
    assert (tmp_path / "ring.svg").read_text().startswith("<svg")
    assert "150" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"pictures are SVG; write ring\.svg"):
        show("ring-8", output=tmp_path / "ring.png")


@pytest.mark.parametrize(
    ("name", "settings", "devices", "cables", "words"),
    [
        # 24 devices, each with a cable to its node's switch and one to its rail's leaf; 2 x 8 leaves below a spine.
        ("superpod-h100", {}, 24, 24 + 24 + 16, "nodes 0, 1 and 32 of 64 and"),
        # 16 devices, 6 cables in each of 4 nodes, a card each; 3 routers with nodes, one on the way between groups.
        ("perlmutter", {}, 16, 4 * 6 + 16 + 3, "nodes 0, 1, 4 and 255 of 256 and"),
        ("gb200-nvl72", {"nodes": "4"}, 144, 288, "nodes 0 and 1 of 4 and"),
        ("tpu-v5p", {"nodes": "512", "fabric.dims": "[8, 8, 8]"}, None, None, "nodes 0, 1 and 292 of 512 and"),
    ],
)
def test_a_large_cluster_is_shown_by_nodes_that_stand_for_it(
    name: str, settings: dict[str, str], devices: int | None, cables: int | None, words: str, shipped: Build
) -> None:
    text = svg(shipped(name, settings))
    root = ElementTree.fromstring(text)
    assert words in text
    if devices is None:
        assert not root.findall(f"{SVG}rect")[1:], "chips that forward are devices, too"
    else:
        assert len(root.findall(f"{SVG}circle")) == devices
        assert len(root.findall(f"{SVG}path")) == cables


def test_of_large_nodes_some_devices_are_shown(built: Build) -> None:
    link = "{between: [device, switch], bandwidth: 1 GB/s, latency: 1 us, source: made up}"
    text = svg(built(f"node: {{device: gpu, count: 300, switches: [switch], links: [{link}]}}\n"))
    assert "node 0, 256 devices of each, and the links between them" in text
    assert len(ElementTree.fromstring(text).findall(f"{SVG}circle")) == 256
