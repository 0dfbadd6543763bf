"""The embedded store survives: kills of its process at any moment, and index builds while it is used."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from mesh.errors import MurpheyError, Overloaded, Unavailable
from retriever.chunks import DocumentVersion
from retriever.sparse import SparseVector
from retriever.stores.base import Counts, IndexedChunk, Mode, StoreQuery
from retriever.stores.edge.index import Index, Limits
from retriever.stores.edge.store import EdgeStore
from retriever.stores.edge.wire import FRAME
from tests.retriever.fakes import DIMENSIONS, chunk, document_name, indexed, vector_of

TEA = StoreQuery(Mode.DENSE, 10, vector_of("tea").tolist())


def many(count: int, document: str, of: str = "1") -> list[IndexedChunk]:
    vectors = np.random.default_rng(7).standard_normal((count, DIMENSIONS)).tolist()
    return [
        IndexedChunk(chunk("tea", document, of, row), vectors[row], SparseVector([1], [1.0])) for row in range(count)
    ]


def kill(store: EdgeStore) -> None:
    assert store.engine.pid
    os.kill(store.engine.pid, signal.SIGKILL)


async def answered(store: EdgeStore, index: str = "test") -> Counts:
    """The counts, as soon as the process is there again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.count(index)
            except Unavailable:
                await asyncio.sleep(0.05)


def shards(folder: Path) -> set[str]:
    return {entry.name for entry in (folder / "indexes" / "test").iterdir() if entry.is_dir()}


def current(folder: Path) -> str:
    return (folder / "indexes" / "test" / "current").read_text()


async def test_what_was_acknowledged_survives_a_kill(edge_store: EdgeStore) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    for row in range(20):
        await edge_store.upsert("test", [indexed(chunk(f"tea {row}", "a", "1", row))], staged=row % 2 == 0)
    writing = asyncio.create_task(edge_store.upsert("test", many(500, "b"), staged=False))
    await asyncio.sleep(0)
    kill(edge_store)
    with pytest.raises(Unavailable):
        await writing
    counts = await answered(edge_store)
    assert counts.staged == 10
    assert counts.live in (10, 510)
    await edge_store.publish("test", [DocumentVersion(document_name("a"), "1")])
    assert (await edge_store.count("test")).staged == 0


@pytest.mark.slow
async def test_a_publish_that_was_cut_off_is_finished(edge_store: EdgeStore) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    await edge_store.upsert("test", many(300, "a", "1"), staged=False)
    for delay_s in (0.0, 0.01, 0.03, 0.1):
        await edge_store.upsert("test", many(1_000, "a", "2"), staged=True)
        publishing = asyncio.create_task(edge_store.publish("test", [DocumentVersion(document_name("a"), "2")]))
        await asyncio.sleep(delay_s)
        kill(edge_store)
        await asyncio.gather(publishing, return_exceptions=True)
        counts = await answered(edge_store)
        assert counts in (Counts(300, 1_000), Counts(1_000, 0)), "before or after, never between"
        versions = {hit.chunk.version for hit in await edge_store.search("test", TEA)}
        assert versions == ({"1"} if counts.live == 300 else {"2"})
        await edge_store.upsert("test", many(300, "a", "1"), staged=True)
        await edge_store.publish("test", [DocumentVersion(document_name("a"), "1")])


async def test_searches_fail_at_once_while_the_process_is_down(edge_store: EdgeStore) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    kill(edge_store)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            while True:
                await edge_store.search("test", TEA)
    assert await answered(edge_store) == Counts(0, 0)


async def test_too_many_searches_are_refused(tmp_path: Path) -> None:
    store = await EdgeStore.open(tmp_path, max_waiting_searches=4)
    await store.create_index("test", DIMENSIONS)
    results = await asyncio.gather(*[store.search("test", TEA) for _ in range(10)], return_exceptions=True)
    assert [type(result) for result in results] == [list] * 4 + [Overloaded] * 6
    await store.close()


async def test_one_bad_search_does_not_fail_the_others(edge_store: EdgeStore) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    await edge_store.upsert("test", [indexed(chunk("tea"))], staged=False)
    bad = StoreQuery(Mode.DENSE, 10, [1.0])
    first, wrong, last = await asyncio.gather(
        *[edge_store.search("test", query) for query in (TEA, bad, TEA)], return_exceptions=True
    )
    assert isinstance(first, list)
    assert len(first) == 1
    assert first == last
    assert isinstance(wrong, MurpheyError)


@pytest.mark.slow
async def test_rebuild_while_reading_and_writing(edge_store: EdgeStore, tmp_path: Path) -> None:
    """Chunks written and deleted at any time of the build are there, or gone, in the shard that comes out of it."""
    await edge_store.create_index("test", DIMENSIONS)
    first = current(tmp_path)
    await edge_store.upsert("test", many(5_500, "bulk"), staged=False)  # enough while chunks keep coming
    written = 0
    async with asyncio.timeout(60):
        while current(tmp_path) == first:
            await edge_store.upsert("test", [indexed(chunk(f"tea {written}", "later", "1", written))], staged=False)
            await edge_store.delete("test", DocumentVersion(document_name(f"gone{written - 1}"), "1"))
            await edge_store.upsert("test", [indexed(chunk("tea", f"gone{written}"))], staged=False)
            assert len(await edge_store.search("test", TEA)) == 10
            written += 1
    assert await edge_store.count("test") == Counts(5_500 + written + 1, 0)
    query = StoreQuery(Mode.SPARSE, 1, None, indexed(chunk(f"{written - 1}")).sparse)
    assert [hit.chunk.text for hit in await edge_store.search("test", query)] == [f"tea {written - 1}"]
    await edge_store.close()
    reopened = await EdgeStore.open(tmp_path / "indexes")
    assert await reopened.count("test") == Counts(5_500 + written + 1, 0)
    assert shards(tmp_path) == {current(tmp_path)}
    await reopened.close()


@pytest.mark.slow
def test_what_comes_during_a_rebuild_is_rebuilt_next(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    index = Index.create(folder, DIMENSIONS, Limits(optimize_after_chunks=1_000), lambda: None)
    index.upsert(many(1_500, "early"), staged=False)
    seen = [(folder / "current").read_text()]
    deadline_s = time.monotonic() + 60
    while len(seen) < 3 and time.monotonic() < deadline_s:
        index.keep_house()
        if len(seen) == 1 and not index.writable:
            index.upsert(many(1_500, "late"), staged=False)  # recorded, and replayed onto the copy
        if (name := (folder / "current").read_text()) not in seen:
            seen.append(name)
        time.sleep(0.01)
    assert len(seen) == 3
    assert index.count() == Counts(3_000, 0)
    index.close()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["engine", "optimizer"])
async def test_a_killed_rebuild_costs_nothing(edge_store: EdgeStore, tmp_path: Path, victim: str) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    await edge_store.upsert("test", many(1_500, "bulk"), staged=False)
    engine = psutil.Process(edge_store.engine.pid)
    async with asyncio.timeout(30):
        while not engine.children():  # noqa: ASYNC110 - another process says nothing when it begins
            await asyncio.sleep(0.01)
    optimizer = engine.children()[0]
    await edge_store.upsert("test", [indexed(chunk("tea", "later"))], staged=False)
    (engine if victim == "engine" else optimizer).kill()
    assert await answered(edge_store) == Counts(1_501, 0)
    await asyncio.to_thread(psutil.wait_procs, [optimizer], 10)
    assert not optimizer.is_running()
    async with asyncio.timeout(30):
        while victim == "optimizer" and shards(tmp_path) != {current(tmp_path)}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_second_process_on_the_folder_is_refused(edge_store: EdgeStore, tmp_path: Path) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    second = await EdgeStore.open(tmp_path / "indexes")
    with pytest.raises(MurpheyError):
        await second.count("test")
    await second.close()
    assert await edge_store.count("test") == Counts(0, 0)


async def test_the_engine_ends_when_its_retriever_was_killed_in_the_middle_of_a_message(tmp_path: Path) -> None:
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "retriever.stores.edge.engine", str(tmp_path / "indexes"), "1000",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert engine.stdin is not None
    engine.stdin.write(FRAME.pack(1_000_000) + b"the beginning")
    await engine.stdin.drain()
    engine.stdin.close()
    assert await asyncio.wait_for(engine.wait(), 60) == 0
