"""The embedded store survives: kills of its process at any moment, and index builds while it is used."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from mesh.errors import Corrupt, FailedPrecondition, MurpheyError, Overloaded, Unavailable
from retriever.chunks import DocumentVersion
from retriever.sparse import SparseVector
from retriever.stores.base import Counts, IndexedChunk, Mode, StoreQuery
from retriever.stores.edge.store import EdgeStore
from retriever.stores.edge.wire import HEAD
from tests.retriever.fakes import DIMENSIONS, chunk, document_name, indexed, vector_of

TEA = StoreQuery(Mode.DENSE, 10, vector_of("tea").tolist())


def many(count: int, document: str, of: str = "1") -> list[IndexedChunk]:
    vectors = np.random.default_rng(7).standard_normal((count, DIMENSIONS)).tolist()
    return [
        IndexedChunk(chunk("tea", document, of, row), vectors[row], SparseVector([1], [1.0])) for row in range(count)
    ]


def kill(store: EdgeStore) -> None:
    pid = store.pid("test")
    assert pid
    os.kill(pid, signal.SIGKILL)


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


async def test_an_index_whose_pointer_is_empty_says_so_and_keeps_its_shard(tmp_path: Path) -> None:
    """As some file systems leave it when the machine loses its power."""
    store = await EdgeStore.open(tmp_path / "indexes")
    await store.create_index("test", DIMENSIONS)
    await store.upsert("test", many(5, "a"), staged=False)
    await store.close()
    kept, pointer = shards(tmp_path), tmp_path / "indexes" / "test" / "current"
    name = pointer.read_text()
    pointer.write_text("")

    store = await EdgeStore.open(tmp_path / "indexes")
    with pytest.raises(Corrupt, match="names no shard"):
        await store.count("test")
    await store.close()
    assert shards(tmp_path) == kept == {name}

    pointer.write_text(f"{name}\n")
    store = await EdgeStore.open(tmp_path / "indexes")
    assert await store.count("test") == Counts(5, 0)
    await store.close()


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
async def test_what_comes_during_a_rebuild_is_rebuilt_next(edge_store: EdgeStore, tmp_path: Path) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    seen = [current(tmp_path)]
    await edge_store.upsert("test", many(1_500, "early"), staged=False)
    async with asyncio.timeout(60):
        while len(shards(tmp_path)) < 2:  # noqa: ASYNC110 - another process says nothing when it begins
            await asyncio.sleep(0.01)
        await edge_store.upsert("test", many(1_500, "late"), staged=False)  # the successor catches up with it
        while len(seen) < 3:
            if (name := current(tmp_path)) not in seen:
                seen.append(name)
            await asyncio.sleep(0.01)
    assert await edge_store.count("test") == Counts(3_000, 0)


@pytest.mark.slow
async def test_searches_notice_no_change_of_hands(edge_store: EdgeStore, tmp_path: Path) -> None:
    """Whole answers, none late for the reason of a rebuild, none failed, while the index goes to another process."""
    await edge_store.create_index("test", DIMENSIONS)
    await edge_store.upsert("test", many(1_500, "bulk"), staged=False)
    first, pid, answers = current(tmp_path), edge_store.pid("test"), 0
    changed = asyncio.Event()

    async def search() -> None:
        nonlocal answers
        while not changed.is_set():
            assert len(await edge_store.search("test", TEA)) == 10
            answers += 1

    async with asyncio.timeout(60), asyncio.TaskGroup() as searches:
        for _ in range(4):
            searches.create_task(search())
        while current(tmp_path) == first or edge_store.pid("test") == pid:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await edge_store.search("test", TEA)
        changed.set()
    assert answers > 10
    async with asyncio.timeout(30):
        while shards(tmp_path) != {current(tmp_path)}:  # noqa: ASYNC110 - the old shard is removed at leisure
            await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "delay_s"), [("live", 0.0), ("successor", 0.2), ("both", 0.5), ("live", 0.8), ("successor", 0.8)]
)
async def test_a_kill_while_the_index_changes_hands_costs_nothing(
    edge_store: EdgeStore, tmp_path: Path, victim: str, delay_s: float
) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    await edge_store.upsert("test", many(1_500, "bulk"), staged=False)
    live = psutil.Process(edge_store.pid("test"))
    written = 0
    async with asyncio.timeout(60):
        while not (successors := [child for child in engines() if child.pid != live.pid]):
            await edge_store.upsert("test", [indexed(chunk("tea", "later", "1", written))], staged=False)
            written += 1
    await asyncio.sleep(delay_s)  # before, while and after it takes over
    for process in {"live": [live], "successor": successors, "both": [live, *successors]}[victim]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert await answered(edge_store) == Counts(1_500 + written, 0)
    await edge_store.upsert("test", [indexed(chunk("tea", "last"))], staged=False)
    assert await edge_store.count("test") == Counts(1_501 + written, 0)


def engines() -> list[psutil.Process]:
    """The engine's processes of this test."""
    children = psutil.Process().children()
    return [child for child in children if "retriever.stores.edge.engine" in child.cmdline()]


async def test_an_index_that_is_just_being_dropped_is_made_anew(edge_store: EdgeStore) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    await edge_store.upsert("test", [indexed(chunk("Green tea."))], staged=False)
    dropping = asyncio.create_task(edge_store.drop_index("test"))
    await asyncio.sleep(0)  # it has begun
    await edge_store.create_index("test", DIMENSIONS)
    await dropping
    assert await edge_store.count("test") == Counts(0, 0)
    await edge_store.upsert("test", [indexed(chunk("Black tea."))], staged=False)
    assert await edge_store.count("test") == Counts(1, 0)


async def test_an_unused_index_costs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retriever.stores.edge.store.UNUSED_S", 0.0)
    monkeypatch.setattr("retriever.stores.edge.store.LOOK_EVERY_S", 0.05)
    store = await EdgeStore.open(tmp_path)
    await store.create_index("test", DIMENSIONS)
    await store.upsert("test", [indexed(chunk("tea"))], staged=False)
    async with asyncio.timeout(60):
        while store.pid("test"):  # noqa: ASYNC110 - it says nothing when it ends
            await asyncio.sleep(0.05)
    assert await store.count("test") == Counts(1, 0)
    await store.close()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["engine", "optimizer"])
async def test_a_killed_rebuild_costs_nothing(edge_store: EdgeStore, tmp_path: Path, victim: str) -> None:
    await edge_store.create_index("test", DIMENSIONS)
    await edge_store.upsert("test", many(1_500, "bulk"), staged=False)
    engine = psutil.Process(edge_store.pid("test"))
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
    with pytest.raises(FailedPrecondition, match="Another retriever"):
        await EdgeStore.open(tmp_path / "indexes", locked_within_s=0)
    assert await edge_store.count("test") == Counts(0, 0)


async def test_the_engine_ends_when_its_retriever_was_killed_in_the_middle_of_a_message(tmp_path: Path) -> None:
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "retriever.stores.edge.engine", str(tmp_path / "indexes"), "1000", str(DIMENSIONS),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert engine.stdin is not None
    engine.stdin.write(HEAD.pack(1_000_000, 1) + b"the beginning")
    await engine.stdin.drain()
    engine.stdin.close()
    assert await asyncio.wait_for(engine.wait(), 60) == 0
