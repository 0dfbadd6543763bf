"""Parser processes that are killed from outside take no document with them."""

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
