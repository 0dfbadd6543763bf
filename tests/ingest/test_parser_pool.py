"""Parser processes: one that is killed from outside takes no document with it; when one is replaced by a fresh one."""

from pathlib import Path

import psutil
import pytest

from ingest.parsers.parsing import ParsedFile
from ingest.parsers.pool import WorkerLimits, WorkerPool
from ingest.parsers.reading import ReadLimits


@pytest.mark.slow
async def test_a_parser_that_was_killed_costs_no_document(tokenizer_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "page.md"
    source.write_text("# One\n\nSome words.")
    limits = WorkerLimits(1, 30, 512, 1000, str(tokenizer_folder), tokenizer_folder, ReadLimits(1 << 20))
    pool = WorkerPool(limits)
    before = set(psutil.Process().children())
    await pool.start()
    (parser,) = set(psutil.Process().children()) - before
    parser.kill()
    parser.wait(30)

    parsed = await pool.parse(source, "page.md", tmp_path / "text", tmp_path / "index", tmp_path / "members")

    assert isinstance(parsed, ParsedFile)
    await pool.close()


@pytest.mark.slow
async def test_a_parser_is_replaced_for_what_libraries_read_and_not_for_plain_text(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    text, page = tmp_path / "note.txt", tmp_path / "page.html"
    text.write_text("Some words.")
    page.write_text("<html><body><p>Some other words.</p></body></html>")
    limits = WorkerLimits(1, 30, 512, 1, str(tokenizer_folder), tokenizer_folder, ReadLimits(1 << 20))
    pool = WorkerPool(limits)
    others = set(psutil.Process().children())
    await pool.start()

    async def parser_after(source: Path) -> set[psutil.Process]:
        parsed = await pool.parse(source, source.name, tmp_path / "text", tmp_path / "index", tmp_path / "members")
        assert isinstance(parsed, ParsedFile)
        return set(psutil.Process().children()) - others

    first = await parser_after(text)
    assert len(first) == 1
    assert await parser_after(text) == first
    assert await parser_after(page) == set(), "the next document has a fresh one started"
    await pool.close()
