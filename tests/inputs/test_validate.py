"""Schemas: every mistake at its place, in the user's words, with a way out, and all of them at once."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from simulator.errors import Problems
from simulator.inputs.fields import (
    Bandwidth,
    Bytes,
    Flag,
    FlopRate,
    Fraction,
    Name,
    PositiveFraction,
    PositiveInt,
    PositiveNumber,
    Seconds,
    StrictModel,
    Text,
)
from simulator.inputs.validate import did_you_mean, validate
from simulator.inputs.yaml_source import read_document


class Link(StrictModel):
    between: tuple[Name, Name]
    bandwidth: Bandwidth
    latency: Seconds = 0.0


class Rails(StrictModel):
    kind: Literal["rail_optimized"]
    rails: PositiveInt


class Torus(StrictModel):
    kind: Literal["torus"]
    dims: tuple[PositiveInt, ...] = Field(description="ranks along each dimension")
    wrap: Flag = True


class Lab(StrictModel):
    name: Name
    memory: Bytes
    source: Text = "data sheet"
    links: tuple[Link, ...] = ()
    fabric: Annotated[Rails | Torus, Field(discriminator="kind")] | None = None
    peak: dict[Name, FlopRate] = Field(default_factory=dict)
    chunk: Bytes | Literal["auto"] = "auto"
    either: Link | Torus | None = None
    level: Literal["low", "high"] = "low"
    efficiency: PositiveFraction = 1.0
    jitter: Fraction = 0.0
    scale: PositiveNumber = 1.0
    count: PositiveInt = 1

    @model_validator(mode="after")
    def _no_thirteen(self):
        if self.count == 13:
            raise ValueError("13 is unlucky; write 12 or 14")
        return self


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Validate text as a Lab; return the object and the lines of the errors."""
    monkeypatch.chdir(tmp_path)

    def check_text(text, settings=()):
        (tmp_path / "lab.yaml").write_text(text, encoding="utf-8")
        document = read_document("lab.yaml", "topology")
        for key, value in settings:
            document.override(key, value)
        problems = Problems(document.locate)
        lab = validate(document, Lab, problems)
        assert lab is not None or problems
        return lab, [str(diagnostic) for diagnostic in problems.diagnostics]

    return check_text


def test_a_good_document_becomes_an_object_in_si_units(check):
    lab, lines = check(
        "name: a/b-1\nmemory: 80 GiB\nlinks:\n- {between: [a, b], bandwidth: 400 Gb/s, latency: 1.5 us}\n"
        "fabric: {kind: torus, dims: [2, 3]}\npeak: {bf16: 312 TFLOPS}\nchunk: 1 MiB\nefficiency: 80%\n"
        "jitter: 0%\nscale: 1e-6\n"
    )
    assert not lines
    assert lab.memory == 80 * 2**30
    assert lab.links == (Link.model_construct(between=("a", "b"), bandwidth=5e10, latency=1.5e-6),)
    assert lab.fabric.dims == (2, 3)
    assert (lab.peak, lab.chunk, lab.efficiency, lab.jitter) == ({"bf16": 312e12}, 2**20, 0.8, 0)
    assert lab.scale == 1e-6


GOOD = "name: n\nmemory: 3 GB\n"


@pytest.mark.parametrize(
    ("yaml", "line"),
    [
        ("sorce: x", "topology.sorce: unknown key; did you mean source?"),
        ("LEVEL: low", "topology.LEVEL: unknown key; did you mean level?"),
        ("links: [{between: [a, b], bandwidth: 1 GB/s, latncy: 1 s}]", "latncy: unknown key; did you mean latency?"),
        ("links: [{between: [a, b]}]", "links.0.bandwidth: is missing; write bandwidth: 400 Gb/s"),
        ("fabric: {kind: torus}", "topology.fabric.dims: is missing; ranks along each dimension"),
        ("fabric: {kind: torus, dims: [1], wrp: 1}", "topology.fabric.wrp: unknown key; did you mean wrap?"),
        ("fabric: {kind: tors}", 'fabric.kind: "tors" is not rail_optimized or torus; did you mean torus?'),
        ("fabric: {dims: [1]}", "topology.fabric.kind: is missing; it says which kind this is"),
        ("links: [{between: [a, 405], bandwidth: 1 GB/s}]", "between.1: 405 is not text; put it in quotes"),
        ("links: [{between: [a, b, c], bandwidth: 1 GB/s}]", "between: has 3 entries, at most 2 are allowed"),
        ("links: [5]", "topology.links.0: 5 is not a mapping; write keys and values"),
        ("links: {a: b}", "topology.links: a mapping is not a list; write [first, second]"),
        ("links:", "topology.links: has no value"),
        ("peak: {bf16: 312e12}", 'topology.peak.bf16: "312e12" has no unit; write 312 TFLOP/s'),
        ("peak: {bf16: -1 TFLOP/s}", 'topology.peak.bf16: "-1 TFLOP/s" is negative; write, say, 312 TFLOP/s'),
        ("peak: {a b: 1 TFLOP/s}", 'peak.a b: "a b" is not a name; use at most 100 letters, digits and . _ - + /'),
        ("chunk: 5 GB/s", '"5 GB/s" is not a size and is not auto; write 5 GB (10^9 bytes) or 5 GiB (2^30 bytes)'),
        ("chunk: 0 B", '"0 B" is zero and is not auto; write, say, 80 GiB'),
        ("chunk: [1]", "a list is not a number with a unit and is not auto; write, say, 80 GiB"),
        ("level: lo", 'topology.level: "lo" is not low or high; did you mean low?'),
        ("level: 3", "topology.level: 3 is not low or high"),
        ("efficiency: 0.8", 'topology.efficiency: "0.8" has no unit; write 80%, with the percent sign'),
        ("efficiency: 120%", 'topology.efficiency: "120%" is too much; write, say, 80%'),
        ("scale: -1", "topology.scale: -1 is not more than 0"),
        ("scale: .inf", 'topology.scale: ".inf" is not a finite number; write, say, 1.25'),
        ("scale: true", "topology.scale: true is not a finite number; write, say, 1.25"),
        ("count: 0", "topology.count: 0 is less than 1; write 1 or more"),
        ("count: -3", "topology.count: -3 is less than 1; write 1 or more"),
        ("count: 2.0", "topology.count: 2.0 is not a whole number"),
        ("count: true", "topology.count: true is not a whole number"),
        ("count: 13", "topology: 13 is unlucky; write 12 or 14"),
        (f"count: {'9' * 90}", "topology.count: 9999999999999999999999999999999999999... is more than 90071"),
        ("source: ' '", "topology.source: is empty; write some text"),
    ],
)
def test_one_mistake_one_line(check, yaml, line):
    _, lines = check(f"{GOOD}{yaml}\n")
    assert len(lines) == 1
    assert line in lines[0]
    assert lines[0].startswith("lab.yaml:1:1: " if "unlucky" in line else "lab.yaml:3:")


def test_all_mistakes_at_once_in_the_order_of_the_file(check):
    _, lines = check(
        "nme: a\nmemory: 80\nlinks:\n- {between: [a, b], bandwith: 400 gb/s}\ncount: no\n", [("level", "x")]
    )
    assert lines == [
        "lab.yaml:1:1: topology.name: is missing",
        "lab.yaml:1:1: topology.nme: unknown key; did you mean name?",
        'lab.yaml:2:1: topology.memory: "80" has no unit; write 80 GB (10^9 bytes) or 80 GiB (2^30 bytes)',
        "lab.yaml:4:3: topology.links.0.bandwidth: is missing; write bandwidth: 400 Gb/s",
        "lab.yaml:4:21: topology.links.0.bandwith: unknown key; did you mean bandwidth?",
        'lab.yaml:5:1: topology.count: "no" is not a whole number',
        '--set topology.level=x: topology.level: "x" is not low or high',
    ]


def test_a_mapping_that_the_command_line_made_up_is_an_unknown_key(check):
    _, (line,) = check(GOOD, [("a.b", "1")])
    assert line.startswith("--set topology.a.b=1: topology.a: unknown key; known: name, memory, ")


def test_a_union_without_a_discriminator_judges_by_what_was_written(check):
    _, lines = check(f"{GOOD}either: {{kind: torus, dms: [1]}}\n")
    assert "lab.yaml:3:1: topology.either.dms: unknown key; did you mean dims?" not in lines
    assert any("topology.either.dms: unknown key; did you mean dims?" in line for line in lines)
    assert not any("either.kind" in line for line in lines)


def test_a_hopeless_document_is_explained_only_in_part(check):
    _, lines = check("links:\n" + "- {bandwith: 3, latenc: 3, x: {}}\n" * 12_000)
    assert len(lines) == 1001
    assert "lab.yaml:1:1: topology: 59,002 more errors are not shown" in lines


def test_did_you_mean():
    assert did_you_mean("TP", ["dp", "tp", "pp"]) == "did you mean tp?"
    assert did_you_mean("unrelated", ["dp", "tp", "pp"]) == ""
    assert did_you_mean("x" * 10**6, ["dp"]) == ""


def test_json_schema_asks_for_text_with_a_unit():
    schema = Lab.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["memory"] == {"type": "string", "examples": ["80 GiB", "40 GB"], "title": "Memory"}
