"""Each benchmark on a real mesh with a tiny workload: that it measures, not what. Peers are not run here."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import (
    answer,
    caches,
    corpora,
    generate,
    ingest,
    memory,
    mixed,
    preparing,
    prompts,
    quality,
    search,
    stalls,
    workers,
)
from bench.frame import Row
from bench.local_mesh import LocalMesh, local_mesh
from bench.mixed_files import mixed_files, write_copies
from bench.options import Options

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with local_mesh() as running:
        yield running


@pytest.fixture(scope="module")
def corpus(mesh: LocalMesh, tmp_path_factory: pytest.TempPathFactory) -> ingest.Ingested:
    """What the mesh made of a few files of the answers' corpus."""
    folder = tmp_path_factory.mktemp("texts")
    documents = corpora.sample((answer.CORPUS,), answer.QUICK.share)
    corpora.write_files(documents, folder)
    return ingest.ingested(mesh, folder, len(documents))


def test_start_and_memory(mesh: LocalMesh) -> None:
    sizes = mesh.memory_bytes()
    assert mesh.started_s > 0
    assert sizes.keys() == {"gateway", "orchestrator", "retriever", "generator", "ingest", "supervisor"}
    assert min(sizes.values()) > 1e6


def test_ingest_finds_its_chunks_again_and_the_embedder_alone_takes_them(corpus: ingest.Ingested) -> None:
    assert corpus.seconds > 0
    assert 16 <= corpus.chunk_tokens <= 256
    assert ingest.embedder_chunks_per_s(corpus.texts) > 0


def test_search(mesh: LocalMesh) -> None:
    rows = asyncio.run(search.measure(mesh, search.QUICK, 1))
    assert all(_measured(row) for row in rows)


def test_answer(mesh: LocalMesh, corpus: ingest.Ingested) -> None:
    assert corpus.texts
    first, *_, throughput = asyncio.run(answer.measure(mesh, answer.QUICK, 1))
    assert abs(first.median) < 60_000
    assert _measured(throughput)


def test_caches(mesh: LocalMesh, corpus: ingest.Ingested) -> None:
    assert corpus.texts
    again, _, first, memory, counted = asyncio.run(caches.measure(mesh, caches.QUICK, 1))
    assert _measured(again)
    assert _measured(first)
    assert _measured(counted)
    assert memory.unit == "MB"


def test_generate(mesh: LocalMesh) -> None:
    groups = prompts.groups(generate.QUICK.streams, 0)
    figures = asyncio.run(generate.measure(mesh, groups, generate.QUICK.tokens))
    assert len(figures) == len(groups)
    assert min(figures) > 0


def test_stalls(mesh: LocalMesh) -> None:
    rate, watched = asyncio.run(stalls.measure(mesh, "quick-stalls", stalls.QUICK_CHUNKS))
    assert rate > 0
    assert watched.search_ms
    assert watched.health_ms
    assert watched.failures == []


def test_quality(mesh: LocalMesh) -> None:
    rows = quality.measure(mesh, "cranfield", corpora.sample(("cranfield",), 0.03))
    assert {"cranfield, hybrid", "cranfield, dense alone", "cranfield, BM25 alone"} <= {row.name for row in rows}
    assert all(0 <= figure <= 1 for row in rows for figure in row.figures)


def test_mixed_files(mesh: LocalMesh, tmp_path: Path) -> None:
    files = mixed_files(mixed.QUICK_BYTES)[: mixed.QUICK_FILES]
    assert write_copies(files, tmp_path) == len(files)
    made, texts = mixed.measure(mesh, tmp_path)
    assert made.live + made.failed == len(files)
    assert len(texts) == made.chunks > 0


def test_memory() -> None:
    rows = {row.name: row.median for row in memory.run(Options(1, quick=True)).rows}
    assert rows["0.5 MB of mixed files, files"] > 1
    assert rows["0.5 MB of mixed files, ingest and its parsers"] > 1
    assert rows["text file of 0.05 MB, chunks"] > 10


def test_workers() -> None:
    rate, doubled, again = workers.run(Options(1, quick=True)).rows
    assert _measured(rate)
    assert doubled.median == 0
    assert again.median > 0


def test_preparing() -> None:
    rows = {row.name: row for row in preparing.run(Options(1, quick=True)).rows}
    assert rows["planted near duplicates found"].median > 90.0
    assert rows["most memory"].passed
    assert rows["gopher quality, of one core"].median > 0


def _measured(row: Row) -> bool:
    return row.median > 0 and (row.reference is None or min(row.reference.figures) > 0)
