"""What the benchmarks share."""

import sys
from pathlib import Path

import pytest

PAGE = "# Page\n\nmine\n\n<!-- begin one -->\nold\n<!-- end one -->\n\nmore\n"


@pytest.fixture
def collectives(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import collectives

    yield collectives
    for name in ("collectives", "misses", "protocol_fit", "sections"):
        sys.modules.pop(name, None)


HEADER = "hardware,nodes,gpus,op,bytes,time_us,busbw_GBps,source_ref,network,algo_or_settings,dtype,notes,role\n"


def figures(test_microseconds: float) -> str:
    """All-gathers of 8 GPUs that take 20 us and what 300 GB/s need, and one more that is only for tests."""
    lines = [
        f"A100-SXM4-80GB,1,8,all_gather,{size},{20 + size * 7 / 8 / 300e3},,,NVLink,,,,calibration"
        for size in (2**power for power in range(10, 30))
    ]
    return HEADER + "\n".join([*lines, f"A100-SXM4-80GB,1,8,all_gather,1024,{test_microseconds},,,NVLink,,,,test"])


def test_a_fit_finds_the_library_again_and_never_looks_at_test_rows(collectives, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    blocks = []
    for microseconds in (20.0, 9e6):
        path = tmp_path / "measured.csv"
        path.write_text(figures(microseconds))
        blocks.append(collectives.fit("dgx-a100", collectives.read_rows(path)))
    assert blocks[0] == blocks[1]
    assert "20 calibration rows" in blocks[0]
    error = float(blocks[0].partition("mean |log error| ")[2].partition("\n")[0].rstrip("."))
    assert error < 0.02


def test_rows_become_seconds_ranks_and_operations(collectives, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "measured.csv"
    path.write_text(
        HEADER
        + "A100-SXM4-80GB,2,16,alltoall,16000,,1.5,,8x200,,,,test\n"
        + "A100-SXM4-80GB,1,8,all_reduce,16000,10,,,NVLink,NCCL_ALGO=Ring,,,test\n"
        + "A100-SXM4-80GB,2,16,all_reduce,16000,10,,,cloud (not stated),,,,test\n"
        + "Abacus,1,8,all_reduce,16000,10,,,beads,,,,test\n"
    )
    exchange, ring = collectives.read_rows(path)
    # busbw = S / t x 15 / 16
    assert (exchange.operation, exchange.seconds) == ("all_to_all", pytest.approx(10e-6))
    assert (ring.algorithm, ring.seconds) == ("ring", pytest.approx(10e-6))
    assert collectives.group("dgx-a100", 2, 4).ranks == (0, 1, 8, 9)


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


def test_what_no_row_determines_stays_where_the_fit_begins(collectives, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Two large messages say nothing about overheads: those of NCCL's Simple protocol are kept."""
    path = tmp_path / "measured.csv"
    lines = [
        f"A100-SXM4-80GB,1,8,all_gather,{size},{size * 7 / 8 / 240e3},,,NVLink,,,,calibration"
        for size in (2**33, 2**34)
    ]
    path.write_text(HEADER + "\n".join(lines))
    block = collectives.fit("dgx-a100", collectives.read_rows(path))
    overhead = float(block.partition("overhead: ")[2].partition(" us")[0])
    assert 4 <= overhead <= 20


def test_misses_are_told_by_what_they_share(collectives) -> None:  # type: ignore[no-untyped-def]
    from misses import Compared, describe_misses

    def row(operation: str, predicted: float) -> Compared:
        return Compared(
            hardware="box",
            operation=operation,
            nodes=1,
            gpus=8,
            size=2**20,
            role="test",
            measured=1.0,
            predicted=predicted,
            how="ring LL",
        )

    table = describe_misses([row("all_reduce", 2.0)] * 20 + [row("all_gather", 1.0)] * 60)
    assert "| box | 1 x 8 GPUs | all_reduce | 1 MiB | 20 test | +100% |" in table
    assert "| operation: all_reduce | 100% | 25.0% |" in table
    assert not [line for line in table if line.startswith("| hardware: ")]
