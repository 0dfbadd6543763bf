"""The real parsers on real files: every readable one gives text whose chunks have exact spans; hostile ones a clear reason."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import pytest_asyncio

from ingest.chunking import ChunkSize
from ingest.documents import Failure
from ingest.parsers.ocr import find_data
from ingest.parsers.parsing import ParsedFile
from ingest.parsers.pool import TextFile, WorkerLimits, WorkerPool
from ingest.parsers.reading import ReadLimits
from ingest.parsers.rows import read_rows

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

SIZE = ChunkSize(240, 0, 256)
MEMORY_MIB = 512
READING = ReadLimits(max_text_bytes=64 * 1024 * 1024)
UNREADABLE = {
    "docx-bomb-1GB.docx": "unpacks to more", "empty.docx": "empty", "empty.pdf": "empty", "empty.txt": "empty",
    "header-only.pdf": "cannot be read", "quine.gz": "archives deep", "random-bytes.pdf": "neither text nor",
    "testZIP_corrupted_oom.zip": "archive is damaged", "truncated.docx": "cannot be read",
    "truncated.pdf": "cannot be read", "zeros.docx": "zero bytes", "zip-slip.zip": "points outside",
    "zipbomb-overlap-546GB.zip": "times its size", "deep-nesting.html": "no text",
}  # fmt: skip


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where libraries put their caches while these tests run."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tokenizer_folder: Path, cache_folder: Path) -> AsyncIterator[WorkerPool]:
    limits = WorkerLimits(1, 30, MEMORY_MIB, 1000, str(tokenizer_folder), tokenizer_folder, READING)
    workers = WorkerPool(limits)
    await workers.start()
    yield workers
    await workers.close()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def parse_and_check(pool: WorkerPool, path: Path, folder: Path) -> ParsedFile | Failure:
    """Parses and cuts a file; every chunk must be the text at its span, in characters and in bytes."""
    text, index, output = folder / "text", folder / "index", folder / "chunks"
    with TemporaryDirectory(dir=folder) as scratch:
        parsed = await pool.parse(path, path.name, text, index, Path(scratch) / "members")
    if isinstance(parsed, Failure):
        return parsed
    source = path if parsed.text_is_raw else text
    data = source.read_bytes()
    whole = data.decode()
    assert (len(whole), len(data)) == (parsed.text_length, parsed.text_bytes)
    counts = await pool.chunk([TextFile(source, index if parsed.has_index else None, parsed.media_type)], SIZE, output)
    assert not isinstance(counts, Failure)
    rows = read_rows(output).rows
    assert counts == [len(rows)]
    for row in rows:
        chunk = whole[row["start"] : row["end"]]
        assert data[row["byte_start"] : row["byte_end"]].decode() == chunk
        assert chunk == chunk.strip() != ""
    assert np.all(np.diff(rows["start"]) > 0)
    assert np.all(rows["page"] <= parsed.page_count)
    return parsed


async def test_hostile_files_get_a_clear_answer(pool: WorkerPool, documents_folder: Path, tmp_path: Path) -> None:
    found = {}
    for path in sorted((documents_folder / "nasty").iterdir()):
        parsed = await parse_and_check(pool, path, tmp_path)
        if isinstance(parsed, Failure):
            found[path.name] = parsed.message

    found.pop("wrong-ext-jpg-named.pdf", None)  # an image: whether it is read depends on Tesseract's data being there
    assert set(found) == set(UNREADABLE)
    for name, reason in UNREADABLE.items():
        assert reason in found[name], f"{name}: {found[name]}"


@pytest.mark.parametrize(
    ("name", "media_type", "says", "pages"),
    [
        ("wrong-ext-pdf-named.docx", "application/pdf", "Lorem ipsum", 3),
        ("wrong-ext-docx-named.pdf", "wordprocessingml.document", "Parrots", 0),
        ("wrong-ext-pptx-named.txt", "presentationml.presentation", "Bullet", 1),
        ("latin1-not-utf8.txt", "text/plain", "", 0),
    ],
)
async def test_the_content_tells_the_type(
    pool: WorkerPool, documents_folder: Path, tmp_path: Path, name: str, media_type: str, says: str, pages: int
) -> None:
    parsed = await parse_and_check(pool, documents_folder / "nasty" / name, tmp_path)

    assert isinstance(parsed, ParsedFile)
    assert media_type in parsed.media_type
    assert parsed.page_count == pages
    assert parsed.text_is_raw or says in (tmp_path / "text").read_text()


@pytest.mark.parametrize(
    ("name", "media_type", "pages"),
    [
        ("eng_spa_mult.eml", "message/rfc822", 0), ("eng_spa_mult.epub", "application/epub+zip", 0),
        ("stanley-cups.xlsx", "spreadsheetml.sheet", 0), ("stanley-cups.csv", "text/csv", 0),
        ("stanley-cups-utf-16.csv", "text/csv", 0), ("simple.pptx", "presentationml.presentation", 2),
        ("simple.docx", "wordprocessingml.document", 0), ("multi-column.pdf", "application/pdf", 13),
        ("ideas-page.html", "text/html", 0), ("README.md", "text/markdown", 0), ("umlauts-non-utf8.md", "text/markdown", 0),
        ("simple.odt", "opendocument.text", 0), ("eng_spa_mult.rtf", "application/rtf", 0),
        ("fake-email-utf-16-le.eml", "message/rfc822", 0), ("factbook-utf-16.xml", "application/xml", 0),
        ("fake-text-utf-16-be.txt", "text/plain", 0), ("email-no-utf8-2008-07-16.062410.eml", "application/mbox", 0),
        ("arbitrary-records.ndjson", "application/x-ndjson", 0), ("simple.zip", "application/zip", 0),
        ("fake-email-attachment.msg", "ms-outlook", 0), ("fake.doc", "application/msword", 0),
        ("tests-example.xls", "application/vnd.ms-excel", 0), ("fake-power-point.ppt", "ms-powerpoint", 1),
        ("logger.py", "text/x-source-python", 0), ("README.rst", "text/x-rst", 0),
    ],
)  # fmt: skip
async def test_every_format_is_read(
    pool: WorkerPool, documents_folder: Path, tmp_path: Path, name: str, media_type: str, pages: int
) -> None:
    path = next((documents_folder / "unstructured").rglob(name))

    parsed = await parse_and_check(pool, path, tmp_path)

    assert isinstance(parsed, ParsedFile), parsed
    assert media_type in parsed.media_type
    assert parsed.page_count == pages
    assert parsed.text_length > 10


async def test_encrypted_documents_say_so(pool: WorkerPool, documents_folder: Path, tmp_path: Path) -> None:
    for name in ("password.pdf", "password_protected.xlsx"):
        path = next((documents_folder / "unstructured").rglob(name))
        parsed = await parse_and_check(pool, path, tmp_path)
        assert isinstance(parsed, Failure)
        assert "password" in parsed.message


async def test_all_sample_documents_keep_their_spans(pool: WorkerPool, documents_folder: Path, tmp_path: Path) -> None:
    failed: dict[str, str] = {}
    files = [path for path in sorted((documents_folder / "unstructured").rglob("*")) if path.is_file()]
    for path in files:
        if path.stat().st_size < 2_000_000:
            parsed = await parse_and_check(pool, path, tmp_path)
            if isinstance(parsed, Failure):
                failed[path.name] = parsed.message

    assert len(failed) < len(files) / 4, failed
    assert all("parser fail" not in message for message in failed.values()), failed


async def test_a_worker_that_takes_too_long_is_replaced(
    tokenizer_folder: Path, documents_folder: Path, tmp_path: Path
) -> None:
    limits = WorkerLimits(1, 0.05, MEMORY_MIB, 1000, str(tokenizer_folder), tokenizer_folder, READING)
    pool = WorkerPool(limits)
    try:
        large = documents_folder / "debian"
        slow = await pool.parse(
            next(large.rglob("debian-reference.en.pdf")), "slow.pdf", tmp_path / "t", tmp_path / "i", tmp_path / "m"
        )
        assert isinstance(slow, Failure)
        assert "was stopped" in slow.message
        quick = tmp_path / "quick.txt"
        quick.write_text("Still here.")
        read = await pool.parse(quick, "quick.txt", tmp_path / "t", tmp_path / "i", tmp_path / "m")
        assert isinstance(read, ParsedFile)
    finally:
        await pool.close()


async def test_scanned_pages_are_recognised_or_refused_with_the_reason(
    pool: WorkerPool, cache_folder: Path, documents_folder: Path, tmp_path: Path
) -> None:
    for name, says in (("loremipsum-flat.pdf", "consectetur adipiscing"), ("DA-1p.jpg", "village chantry")):
        parsed = await parse_and_check(pool, next((documents_folder / "unstructured").rglob(name)), tmp_path)
        if find_data("eng"):
            assert isinstance(parsed, ParsedFile), parsed
            assert says in " ".join((tmp_path / "text").read_text().split())
        else:  # the machine has no data for Tesseract
            assert isinstance(parsed, Failure)
            assert "apt-get install tesseract-ocr" in parsed.message
    assert not files_in(cache_folder), "what was read is kept where no deletion reaches it"
