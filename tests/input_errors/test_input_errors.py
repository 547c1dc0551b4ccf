"""Everything wrong that a user may write, and what is answered: file:line:column, the key, the rule, a way out."""

import time
from itertools import pairwise
from pathlib import Path

import pytest

from simulator.errors import InputError
from simulator.load import load

MODEL = """\
name: lab
input: {shape: [3, 8, 8]}
layers:
  - {name: conv, kind: conv2d, out_channels: 6, kernel: 3, padding: 1}
  - {name: relu, kind: activation, function: relu}
  - {name: back, kind: conv2d, out_channels: 3, kernel: 3, padding: 1}
  - {name: add, kind: add, inputs: [input, back]}
  - {name: flat, kind: flatten}
  - {name: head, kind: linear, out_features: 10}
"""

TOPOLOGY = """\
name: lab
devices:
  gpu:
    memory: 80 GiB
    memory_bandwidth: 2 TB/s
    peak: {fp32: 20 TFLOP/s}
    launch_overhead: 5 us
    source: made up
graph:
  devices: {d0: gpu, d1: gpu, d2: gpu, d3: gpu}
  switches: [s]
  links:
    - {between: [d0, s], bandwidth: 20 GB/s, latency: 2 us, source: made up}
    - {between: [d1, s], bandwidth: 20 GB/s, latency: 2 us, source: made up}
    - {between: [d2, s], bandwidth: 20 GB/s, latency: 2 us, source: made up}
    - {between: [d3, s], bandwidth: 20 GB/s, latency: 2 us, source: made up}
"""

PLAN = """\
name: lab
dp: 2
tp: 2
pp: 1
microbatch_size: 2
num_microbatches: 4
"""

GPT = """\
name: lab
family: gpt
num_hidden_layers: 6
hidden_size: 60
num_attention_heads: 6
vocab_size: 100
sequence_length: 16
"""

ALIASES = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n" for before, name in pairwise("abcdefghij")
)
"""Each line holds the one before it eight times: ten lines, a thousand million entries."""

TEXTS = {"model": MODEL, "topology": TOPOLOGY, "plan": PLAN}

Change = tuple[str, str, str]
"""(document, what stands there, what is written instead)"""


def errors(folder: Path, texts: dict[str, str]) -> list[str]:
    """One line for each error; the files are called m.yaml, t.yaml and p.yaml."""
    files = {name: folder / f"{name[0]}.yaml" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text)
    with pytest.raises(InputError) as raised:
        load(*(str(files[name]) for name in ("model", "topology", "plan")))
    *lines, total = str(raised.value).replace(f"{folder}/", "").splitlines()
    assert total == ("1 error" if len(lines) == 1 else f"{len(lines)} errors")
    return lines


def changed(*changes: Change, **texts: str) -> dict[str, str]:
    result = {**TEXTS, **texts}
    for document, old, new in changes:
        assert old in result[document]
        result[document] = result[document].replace(old, new, 1)
    return result


def test_the_files_are_right_before_they_are_damaged(tmp_path: Path) -> None:
    for name, text in TEXTS.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    inputs = load(*(str(tmp_path / f"{name}.yaml") for name in ("model", "topology", "plan")))
    assert inputs.topology.world_size == inputs.plan.mesh.world_size == 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # keys
        (("plan", "tp: 2", "tpp: 2"), "p.yaml:3:1: plan.tpp: unknown key; did you mean tp?"),
        (
            ("topology", "memory: 80", "memroy: 80"),
            "t.yaml:4:5: topology.devices.gpu.memroy: unknown key; did you mean",
        ),
        (("model", "kernel: 3", "kernl: 3"), "m.yaml:4:49: model.layers.0.kernl: unknown key; did you mean kernel?"),
        (("topology", "latency: 2 us, ", ""), "t.yaml:13:7: topology.graph.links.0.latency: is missing; "),
        (("plan", "pp: 1", "tp: 1"), "p.yaml:4:1: plan.tp: is written twice, first at p.yaml:3:1"),
        # units
        (
            ("topology", "20 GB/s", "20"),
            't.yaml:13:26: topology.graph.links.0.bandwidth: "20" has no unit; write 20 Gb/s',
        ),
        (
            ("topology", "80 GiB", "80 GB/s"),
            't.yaml:4:5: topology.devices.gpu.memory: "80 GB/s" is not a size; write 80 GB',
        ),
        (
            ("topology", "20 TFLOP/s", "20 GB"),
            't.yaml:6:12: topology.devices.gpu.peak.fp32: "20 GB" is not a compute rate',
        ),
        (
            ("topology", "2 us", "2 GB"),
            't.yaml:13:46: topology.graph.links.0.latency: "2 GB" is not a time; write 2 us',
        ),
        # sizes
        (("plan", "tp: 2", "tp: 0"), "p.yaml:3:1: plan.tp: 0 is less than 1; write 1 or more"),
        (("plan", "microbatch_size: 2", "microbatch_size: -2"), "p.yaml:5:1: plan.microbatch_size: -2 is less than 1"),
        (("plan", "tp: 2", "tp: 2.0"), "p.yaml:3:1: plan.tp: 2.0 is not a whole number"),
        (("plan", "tp: 2", "tp: two"), 'p.yaml:3:1: plan.tp: "two" is not a whole number'),
        (
            ("model", "out_features: 10", "out_features: 0"),
            "m.yaml:9:32: model.layers.5.out_features: 0 is less than 1",
        ),
        (("topology", "80 GiB", "0 GiB"), 't.yaml:4:5: topology.devices.gpu.memory: "0 GiB" is zero'),
        (("topology", "20 GB/s", "-20 GB/s"), 't.yaml:13:26: topology.graph.links.0.bandwidth: "-20 GB/s" is negative'),
        # parallel sizes
        (("plan", "tp: 2", "tp: 3"), "p.yaml:2:1: plan.dp: dp(2) * tp(3) * pp(1) = 6, but the topology has 4 devices"),
        (
            ("plan", "dp: 2", "dp: 1"),
            "p.yaml:2:1: plan.dp: dp(1) * tp(2) * pp(1) = 2, but the topology has 4 devices; dp 2",
        ),
        (
            ("plan", "dp: 2\ntp: 2", "tp: 3"),
            "p.yaml:2:1: plan.tp: tp(3) * pp(1) = 3 does not divide the topology's 4 devices",
        ),
        (("plan", "dp: 2\ntp: 2\npp: 1", "tp: 1\npp: 3"), "p.yaml:3:1: plan.pp: tp(1) * pp(3) = 3 does not divide the"),
        (
            ("plan", "dp: 2\ntp: 2", "tp: 4"),
            "p.yaml:2:1: plan.tp: 4 does not divide the channels of conv = 6 (remainder 2)",
        ),
        (
            ("plan", "num_microbatches: 4", "global_batch_size: 9"),
            "p.yaml:6:1: plan.global_batch_size: dp(2) does not divide 9 (remainder 1); nearest: 8 or 10",
        ),
        (
            ("plan", "num_microbatches: 4", "global_batch_size: 10"),
            "p.yaml:5:1: plan.microbatch_size: 2 does not divide global_batch_size(10) / dp(2) = 5 (remainder 1)",
        ),
        (
            ("plan", "tp: 2", "tp: 2\naxes: [pp, dp]"),
            "p.yaml:4:1: plan.axes: ['pp', 'dp'] must name each of pp, dp, tp once",
        ),
        (
            ("plan", "tp: 2", "tp: 2\nschedule: 2f2b"),
            "p.yaml:4:1: plan.schedule: '2f2b' is not a schedule; known: naive, gpipe, 1f1b, ",
        ),
        (
            ("plan", "tp: 2", "tp: 2\nschedule: 1F1B"),
            "p.yaml:4:1: plan.schedule: '1F1B' is not a schedule; did you mean 1f1b?",
        ),
        (
            ("plan", "tp: 2", "tp: 2\ndtype: bf16"),
            "p.yaml:4:1: plan.dtype: device gpu has no peak for bf16; it has fp32",
        ),
        # the cluster
        (("topology", "[d3, s]", "[d2, d3]"), "t.yaml:12:3: topology.graph.links: no route from d0 to d3; "),
        (
            ("topology", "[d3, s]", "[d2, s]"),
            "t.yaml:16:8: topology.graph.links.3.between: joins d2 and s, as links.2 does",
        ),
        (("topology", "[s]", "[d1]"), 't.yaml:11:14: topology.graph.switches.0: "d1" names something else already'),
        (("topology", "d3: gpu", "d2: gpu"), "t.yaml:10:40: topology.graph.devices.d2: is written twice"),
        (
            ("topology", "d3: gpu", "d3: gpx"),
            't.yaml:10:40: topology.graph.devices.d3: "gpx" is not under devices; did you',
        ),
        # the layers
        (("model", "name: relu", "name: conv"), "m.yaml:5:6: model.layers.1.name: duplicate name 'conv' (layers.0)"),
        (
            ("model", "function: relu", "inputs: [back]"),
            "m.yaml:3:1: model.layers: the layers form a cycle: relu -> back -> relu",
        ),
        (("model", "[input, back]", "[input, bck]"), "m.yaml:7:28: model.layers.3.inputs: no layer is called 'bck'"),
        (("model", "[input, back]", "[back]"), "m.yaml:7:28: model.layers.3.inputs: add reads 2 tensors, 1 given"),
        (
            ("model", "out_channels: 3", "out_channels: 4"),
            "m.yaml:7:5: model.layers.3: add: add needs two inputs of one shape, got [3, 8, 8] and [4, 8, 8]",
        ),
        (("model", "kernel: 3", "kernel: 30"), "m.yaml:4:5: model.layers.0: conv: "),
        (("model", "kind: flatten", "kind: flaten"), 'm.yaml:8:18: model.layers.4.kind: "flaten" is not '),
        (
            ("model", "[input, back]", "[relu, relu]"),
            "m.yaml:3:1: model.layers: 2 layers are read by nobody: back, head",
        ),
    ],
    ids=lambda value: value[2].replace("\n", " ") if isinstance(value, tuple) else "",
)
def test_one_mistake(tmp_path: Path, change: Change, expected: str) -> None:
    lines = errors(tmp_path, changed(change))
    assert any(line.startswith(expected) for line in lines), lines


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ("tp: 3\npp: 2", "p.yaml:2:1: plan.tp: tp(3) * pp(2) = 6 does not divide the topology's 4 devices "),
        ("tp: 2\npp: 3", "p.yaml:3:1: plan.pp: tp(2) * pp(3) = 6 does not divide the topology's 4 devices "),
        ("tp: 2\npp: 4", "p.yaml:3:1: plan.pp: tp(2) * pp(4) = 8 does not divide the topology's 4 devices "),
    ],
    ids=["tp", "pp", "only together"],
)
def test_one_wrong_size_is_one_error(tmp_path: Path, sizes: str, expected: str) -> None:
    axis = expected.split("plan.")[1][:2]
    (line,) = errors(tmp_path, changed(("plan", "dp: 2\ntp: 2\npp: 1", sizes)))
    assert line == f"{expected}(remainder 4); legal neighbour: {axis} 2"


def test_all_mistakes_of_all_files_at_once(tmp_path: Path) -> None:
    texts = changed(
        ("model", "kernel: 3", "kernl: 3"),
        ("model", "out_features: 10", "out_features: ten"),
        ("topology", "80 GiB", "80"),
        ("topology", "2 us", "-2 us"),
        ("plan", "tp: 2", "tp: 0"),
        ("plan", "pp: 1", "ppp: 1"),
    )
    places = [line.split(": ")[0] for line in errors(tmp_path, texts)]
    assert {"m.yaml:4:49", "m.yaml:9:32", "t.yaml:4:5", "t.yaml:13:46", "p.yaml:3:1", "p.yaml:4:1"} <= set(places)
    assert places == sorted(places, key=lambda place: (place.split(":")[0], *map(int, place.split(":")[1:])))


def test_contradictions_are_found_beside_unknown_keys(tmp_path: Path) -> None:
    """An unknown key is taken for the one that it resembles, so that the rest can be checked in the same go."""
    plan = "name: lab\ntpp: 4\nshedule: naive\nnum_stages_per_rank: 3\nmicrobatch_size: 1\n"
    found = errors(tmp_path, changed(("topology", "80 GiB", "80 GiB\n    nonsense: 1"), model=GPT, plan=plan))
    keys = [line.split(": ")[1] for line in found]
    assert keys == ["plan.tpp", "plan.shedule", "plan.num_stages_per_rank", "topology.devices.gpu.nonsense"], found


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (
            "tp: 4",
            "p.yaml:2:1: plan.tp: 4 does not divide the heads of block0.attention = 6 (remainder 2); legal neighbour",
        ),
        (
            "pp: 4\nstages: even",
            "p.yaml:2:1: plan.pp: 4 does not divide the 6 repeated blocks (remainder 2); legal neighbour",
        ),
        ("pp: 4\nstages: [block0, block1]", "p.yaml:3:1: plan.stages: 2 blocks named for pp(4) stages"),
    ],
)
def test_plans_that_do_not_suit_a_gpt(tmp_path: Path, plan: str, expected: str) -> None:
    (line,) = errors(tmp_path, changed(model=GPT, plan=f"name: lab\n{plan}\nmicrobatch_size: 1\n"))
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("", "m.yaml: is empty"),
        ("# only a comment\n", "m.yaml: is empty"),
        ("just words\n", 'm.yaml:1:1: holds "just words", not keys and values'),
        ("- a\n- list\n", "m.yaml:1:1: holds a list, not keys and values"),
        ("name: [unclosed\n", "m.yaml:2:1: is not YAML"),
        ("name: lab\n\tfamily: gpt\n", "m.yaml:2:1: is not YAML"),
        ("name: a\n---\nname: b\n", "m.yaml:2:1: holds more than one document"),
        ("name: lab\nfamily: gtp\n", "m.yaml:2:1: model.family: 'gtp' is not a family; did you mean gpt?"),
        (
            GPT.replace("heads: 6", "heads: 7"),
            "m.yaml:5:1: model.num_attention_heads: 7 does not divide hidden_size 60",
        ),
        (ALIASES, "m.yaml:1:8: holds more than 100,000 keys and values (aliases count as they expand)"),
    ],
    ids=["empty", "comment", "text", "list", "unclosed", "tab", "two", "family", "heads", "aliases"],
)
def test_files_that_are_no_model(tmp_path: Path, model: str, expected: str) -> None:
    lines = errors(tmp_path, changed(model=model))
    assert lines[0].startswith(expected), lines


@pytest.mark.parametrize("text", ["[" * 10_000_000, "a: " + "{b: " * 2_500_000, "- " * 5_000_000], ids=["[", "{", "-"])
@pytest.mark.parametrize("size", [1_000_000, 10_000_000])
def test_ten_megabytes_of_nested_yaml_are_refused_at_once(tmp_path: Path, text: str, size: int) -> None:
    began = time.process_time()
    (line,) = errors(tmp_path, changed(model=text[:size]))
    assert time.process_time() - began < 20
    assert line.startswith("m.yaml")
    assert "larger than the limit" in line if size > 8_000_000 * 1.05 else "nested deeper than 32 levels" in line


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load(str(tmp_path / "none.yaml"), "no-such-topology", "dp22")
    lines = str(raised.value).splitlines()
    assert "none.yaml: cannot be read: no such file or directory" in lines[0]
    assert lines[1].startswith('topologies: no preset is called "no-such-topology"; there are: dgx-1v, dgx-a100')
    assert lines[2] == 'plans: no preset is called "dp22"; did you mean dp2?'
    assert lines[3] == "3 errors"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("plan.tp=3", "--set plan.tp=3: plan.tp: 3 does not divide the heads"),
        ("plan.tpp=2", "--set plan.tpp=2: plan.tpp: unknown key; did you mean tp?"),
        (
            "topology.node.count=many",
            '--set topology.node.count=many: topology.node.count: "many" is not a whole number',
        ),
        ("plna.tp=2", "--set plna.tp=2: plna.tp: names no document; did you mean plan?"),
        ("tp=2", "--set tp=2: is not a change; write --set plan.tp=2"),
        ("nodes=4", "--set nodes=4: is not a change; write --set topology.nodes=4"),
        ("hidden_size=4", "--set hidden_size=4: is not a change; write --set model.hidden_size=4"),
        ("hiden=4", "--set hiden=4: is not a change; write --set plan.tp=4"),
        ("plan.tp", "--set plan.tp: is not a change; write --set plan.tp=4"),
    ],
)
def test_changes_from_the_command_line_are_checked_like_files(setting: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        load("gpt-tiny", "pcie-box", "single", ["topology.node.count=3", "plan.dp=auto", setting])
    assert any(line.startswith(expected) for line in str(raised.value).splitlines()), str(raised.value)
