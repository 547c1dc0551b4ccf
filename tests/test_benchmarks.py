"""What the benchmarks share."""

import sys
from pathlib import Path

import pytest

PAGE = "# Page\n\nmine\n\n<!-- begin one -->\nold\n<!-- end one -->\n\nmore\n"


@pytest.fixture
def sections(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import sections

    yield sections
    del sys.modules["sections"]


def test_sections_of_a_page(sections, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    sections.write_section(page, "one", "new\n")
    assert page.read_text() == PAGE.replace("old", "new")
    sections.write_section(page, "two", "second")
    assert page.read_text() == PAGE.replace("old", "new") + "\n<!-- begin two -->\nsecond\n<!-- end two -->\n"
    assert list(sections.named_sections(page.read_text())) == ["one", "two"]
