"""What the documents claim about files and commands is so."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from simulator.cli import build_app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```sh\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"\b[A-Z]+_TABLE\b|\b(?:TODO|FIXME|TBD|XXX)\b")
ABSOLUTE = re.compile(r"(?<![\w.>*-])/(?:work|root)(?![\w.-])")
OPTIONS = {"--model": "models", "--topology": "topologies", "--plan": "plans"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands() -> Iterator[tuple[str, str]]:
    """Yield the document and the line of every command in a shell block."""
    for document in DOCUMENTS:
        for block in FENCE.finditer(document.read_text()):
            for line in block["code"].replace("\\\n", " ").splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield name(document), line


PLANCAST = sorted({(document, line) for document, line in commands() if line.startswith("plancast ")})


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(document.read_text())]
    inside = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    assert [target for target in inside if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_nothing_is_left_to_fill_in(document: Path) -> None:
    assert PLACEHOLDER.findall(document.read_text()) == []


def test_the_readme_shows_commands() -> None:
    assert {line.split()[1] for document, line in PLANCAST if document == "README.md"} >= {"simulate", "run", "compare"}


@pytest.mark.parametrize(("document", "line"), PLANCAST, ids=[line for _, line in PLANCAST])
def test_commands_name_verbs_options_and_presets_that_exist(document: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    _, _, ignored = build_app().parse_args(words, exit_on_error=False, print_error=False)
    assert not ignored
    for option, value in pairwise(words):
        if option in OPTIONS and "/" not in value and not value.endswith(".yaml"):
            assert (ROOT / OPTIONS[option] / f"{value}.yaml").exists(), f"{document}: {line}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for _, line in commands() if (words := shlex.split(line, comments=True))[0] == "make"}
    spoken = {target for path in DOCUMENTS for target in re.findall(r"`make ([a-z-]+)`", path.read_text())}
    assert named | spoken <= targets


def test_no_file_names_a_place_of_one_machine() -> None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [ROOT / path for path in listed.stdout.split("\0") if path]
    texts = {path: path.read_text(errors="replace") for path in files if path.is_file()}
    assert [name(path) for path, text in texts.items() if ABSOLUTE.search(text)] == []
