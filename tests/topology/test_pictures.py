"""Drawings and pictures of clusters."""

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from simulator.commands.topology import show
from simulator.errors import InputError, PlancastError
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


def test_large_clusters_have_no_picture(shipped: Build) -> None:
    with pytest.raises(PlancastError, match="superpod-h100 has 512 ranks, more than the 256"):
        svg(shipped("superpod-h100"))
