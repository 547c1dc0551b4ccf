"""Reading files: where keys stand, what is refused and how fast, and what ``--set`` does."""

import time

import pytest

from simulator.errors import Diagnostic, InputError, Problems, RankLostError
from simulator.inputs import plain_yaml
from simulator.inputs.yaml_source import locator, read_document

PLAN = """\
# a comment
name: example
mesh:
  tp: 2
  pp: 6
stages: [3, {layers: 4}]
notes:
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read text from a file whose name the user gave as x.yaml."""
    monkeypatch.chdir(tmp_path)

    def read_text(text):
        (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
        return read_document("x.yaml", "plan")

    return read_text


@pytest.fixture
def refusal(read):
    """Read text that must be refused, without much work, and return the error's lines but for the count."""

    def refused(text):
        start = time.process_time()
        with pytest.raises(InputError) as error:
            read(text)
        assert time.process_time() - start < 10
        return str(error.value).splitlines()[:-1]

    return refused


def test_plain_data(read):
    document = read("a: 80 GiB\nb: [1, 2.5, true, null, '7', ~]\n1: no\nc: 12:30\nd: 010\ne: 2026-11-01\nf: 1e-6\n")
    assert document.data == {
        "a": "80 GiB",
        "b": [1, 2.5, True, None, "7", None],
        "1": "no",
        "c": "12:30",
        "d": "010",
        "e": "2026-11-01",
        "f": "1e-6",
    }


@pytest.mark.parametrize("pure_python", [False, True])
def test_keys_are_located(read, monkeypatch, pure_python):
    if pure_python:
        monkeypatch.setattr(plain_yaml, "_LOADER", plain_yaml.yaml.SafeLoader)
    locate = read(PLAN).locate
    assert locate("plan.mesh.tp") == "x.yaml:4:3"
    assert locate("plan.stages.1.layers") == "x.yaml:6:14"
    assert locate("plan.stages.7") == "x.yaml:6:1"
    assert locate("plan.mesh.missing.deeper") == "x.yaml:3:1"
    assert locate("plan.missing") == "x.yaml:2:1"
    assert locate("plan") == "x.yaml:2:1"


def test_aliases_are_copies_with_places_of_their_own(read):
    document = read("a: &a {tp: 1}\nb: *a\n")
    document.override("b.tp", "2")
    assert document.data == {"a": {"tp": 1}, "b": {"tp": 2}}
    assert document.locate("plan.a.tp") == "x.yaml:1:8"


def test_locator_asks_the_document_that_the_key_names(read):
    locate = locator([read(PLAN)])
    assert locate("plan.mesh") == "x.yaml:3:1"
    assert locate("model.layers") == ""


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 20)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "x.yaml: is empty; a plan is written as keys and values, as in name: example"),
        ("# only a comment\n", "x.yaml: is empty; a plan is written as keys and values, as in name: example"),
        ("- a\n", "x.yaml:1:1: holds a list, not keys and values; begin a plan with, say, name: example"),
        ("hello", 'x.yaml:1:1: holds "hello", not keys and values; begin a plan with, say, name: example'),
        ("a: 1\n---\nb: 2\n", "x.yaml:2:1: holds more than one document; remove the lines that are ---"),
        ("a: &a [*a]\n", "x.yaml:1:8: *a stands for nothing that is complete before it; check the &anchor"),
        ("a: *b\n", "x.yaml:1:4: *b stands for nothing that is complete before it; check the &anchor"),
        ("b:\n  <<: {x: 1}\n", "x.yaml:2:3: plan.b: uses the merge key <<, which is not supported; repeat the keys"),
        ("[a]: 1\n", "x.yaml:1:1: plan: has a list or a mapping as a key; a key is a word"),
        ("a: 1\nb: \x1b[31m\n", "x.yaml:2:4: holds a control character; remove it"),
        ("[" * 10**7, "x.yaml: is larger than the limit of 8 MiB"),
        ("[" * 8 * 10**6, "x.yaml:1:33: is nested deeper than 32 levels"),
        ("{a: " * 10**6, "x.yaml:1:129: is nested deeper than 32 levels"),
        ("".join(" " * i + "a:\n" for i in range(3990)), "x.yaml:33:33: is nested deeper than 32 levels"),
        ("a: &a [x]\n" + "".join(f"b{i}: &a [*a]\n" for i in range(40)), "x.yaml:1:4: is nested deeper than 32 levels"),
        (BOMB, "holds more than 100,000 keys and values (aliases count as they expand)"),
        ("- 1\n" * 10**6, "holds more than 100,000 keys and values (aliases count as they expand)"),
    ],
    ids=range(17),
)
def test_refused_at_once_with_the_place(refusal, text, line):
    assert refusal(text)[-1].endswith(line)


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("a:\n\tb: 1\n", "x.yaml:2:1: is not YAML: ", "indent with spaces, not tabs"),
        ("a: b: c\n", "x.yaml:1:5: is not YAML: ", "put text that contains a colon in quotes"),
        ("a: [1, 2\nb: 3\n", "x.yaml:2:2: is not YAML: ", "that began on line 1; check brackets"),
        ('a: "x\nb: 1\n', "x.yaml:3:1: is not YAML: ", "that began on line 1; a quote is not closed"),
    ],
)
def test_syntax_errors_have_a_place_and_a_hint(refusal, text, where, hint):
    (line,) = refusal(text)
    assert line.startswith(where)
    assert hint in line


def test_tags_never_construct_objects(refusal):
    (line,) = refusal("a: !!python/object/apply:os.system ['echo no']\n")
    assert line.startswith("x.yaml:1:4: plan.a: has the tag ")


def test_all_repeated_keys_are_reported(refusal):
    assert refusal("a: 1\nb: {x: 1, x: 2}\na: 3\n") == [
        "x.yaml:2:11: plan.b.x: is written twice, first at x.yaml:2:5",
        "x.yaml:3:1: plan.a: is written twice, first at x.yaml:1:1",
    ]


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin").write_bytes(b"a: 1\nb: \xff\n")
    lines = {}
    for path in ("missing.yaml", ".", "latin", "nul\0"):
        with pytest.raises(InputError) as refused:
            read_document(path, "plan")
        lines[path] = str(refused.value).splitlines()[0]
    assert lines["missing.yaml"] == "missing.yaml: cannot be read: no such file or directory"
    assert lines["."] == ".: cannot be read: is a directory"
    assert lines["latin"] == "latin:2:1: is not UTF-8 text; save it as UTF-8"
    assert lines["nul\0"] == "nul : cannot be read: embedded null byte"


@pytest.mark.parametrize(
    ("key", "text", "path", "value"),
    [
        ("mesh.tp", "4", ["mesh", "tp"], 4),
        ("mesh", "{tp: 8}", ["mesh"], {"tp": 8}),
        ("new.deep.key", "80 GiB", ["new", "deep", "key"], "80 GiB"),
        ("notes.x", "1", ["notes", "x"], 1),
        ("stages.1.layers", "[5, 6]", ["stages", 1, "layers"], [5, 6]),
        ("name", "", ["name"], None),
    ],
)
def test_override(read, key, text, path, value):
    document = read(PLAN)
    document.override(key, text)
    found = document.data
    for step in path:
        found = found[step]
    assert found == value
    assert document.locate(f"plan.{key}") == f"--set plan.{key}={text}"


def test_override_forgets_what_the_file_said_below(read):
    document = read(PLAN)
    document.override("mesh", "{tp: 8}")
    assert document.locate("plan.mesh.pp") == "--set plan.mesh={tp: 8}"
    document.override("mesh.tp", "4")
    assert document.locate("plan.mesh.tp") == "--set plan.mesh.tp=4"
    assert document.locate("plan.mesh.pp") == "--set plan.mesh={tp: 8}"


def test_override_names_a_mapping_that_it_created(read):
    document = read(PLAN)
    document.override("a.b", "1")
    assert document.locate("plan.a") == "--set plan.a.b=1"


@pytest.mark.parametrize(
    ("key", "text", "line"),
    [
        ("name.b", "1", '--set plan.name.b=1: plan.name: is "example", so it has no "b" inside'),
        ("stages.9", "1", '--set plan.stages.9=1: plan.stages: is a list that has entries 0 to 1, not "9"'),
        ("stages.x", "1", '--set plan.stages.x=1: plan.stages: is a list that has entries 0 to 1, not "x"'),
        ("a..b", "1", '--set plan.a..b=1: "a..b" is not a key; write names separated by dots, as in mesh.tp'),
        ("", "1", '--set plan.=1: "" is not a key; write names separated by dots, as in mesh.tp'),
        ("name", "[", "--set plan.name=[: is not YAML: did not find expected node content; check brackets"),
        ("name", "\udcff", "--set plan.name= : is not UTF-8 text"),
        (".".join("a" * 50), "1", "is not a key; write names separated by dots, as in mesh.tp"),
        ("name", "[" * 10**6, "is nested deeper than 32 levels"),
    ],
)
def test_override_refused(read, key, text, line):
    with pytest.raises(InputError) as refused:
        read(PLAN).override(key, text)
    assert line in str(refused.value).splitlines()[0]


def test_problems_are_sorted_and_said_once():
    places = {"plan.a": "x.yaml:10:1", "plan.b": "x.yaml:9:3", "plan.c": "--set plan.c=1"}
    problems = Problems(lambda key: places.get(key, ""))
    assert not problems
    problems.raise_if_any()
    for key in ("plan.c", "plan.a", "plan.b", "plan.a", "plan.d"):
        problems.add(key, "is wrong", "do better" if key == "plan.b" else "")
    with pytest.raises(InputError) as error:
        problems.raise_if_any()
    assert str(error.value).splitlines() == [
        "x.yaml:9:3: plan.b: is wrong; do better",
        "x.yaml:10:1: plan.a: is wrong",
        "plan.d: is wrong",
        "--set plan.c=1: plan.c: is wrong",
        "4 errors",
    ]


def test_a_hopeless_input_does_not_flood_the_terminal():
    text = str(InputError(Diagnostic("", f"k{i}", "is wrong") for i in range(5000)))
    assert text.endswith("\n... and 4900 more\n5000 errors")


def test_errors_cross_process_borders():
    import pickle

    lost = pickle.loads(pickle.dumps(RankLostError("timed out after 30 s", rank=3, instruction="2RECV_F1", peer=2)))
    assert str(lost) == "rank 3 at 2RECV_F1, waiting for rank 2: timed out after 30 s"
    wrong = pickle.loads(pickle.dumps(InputError([Diagnostic("f:1:1", "plan.a", "is wrong")])))
    assert str(wrong) == "f:1:1: plan.a: is wrong\n1 error"
