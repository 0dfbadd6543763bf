"""Which waiting jobs go next: collections take turns, and content that is on its way is waited for."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.database import Database
from ingest.documents import NewUpload
from ingest.fair_queue import BatchLimits, FairQueue
from ingest.jobs import JobChanges
from ingest.registration import Registration, StoredUpload
from ingest.runs import RunLost, Runs
from mesh.database import database_url, open_database

LIMITS = BatchLimits(max_documents=2, max_bytes=1000, max_runs_of_collection=2)


class Waiting:
    """Jobs that wait in a database, and one worker's view of them."""

    def __init__(self, database: Database) -> None:
        changes = JobChanges()
        self.registration = Registration(database, changes)
        self.queue = FairQueue(database, changes, LIMITS)
        self.runs = Runs(database, changes, "me")
        self.other = Runs(database, changes, "other")

    async def add(self, collection: str, name: str, content: str = "", size_bytes: int = 1) -> None:
        upload = NewUpload(collection, name, {}, "")
        await self.registration.register(
            StoredUpload(upload, content or f"{collection}/{name}", size_bytes, f"raw/{name}")
        )

    async def take(self) -> list[str]:
        """The next run's documents, carried by this worker."""
        run = await self.queue.take(room=100)
        if run is None:
            return []
        await self.runs.claim(run)
        return [work.job.display_name for work in await self.runs.work(run)]


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Waiting]:
    async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine:
        yield Waiting(Database(engine))


async def test_a_small_collection_does_not_wait_behind_a_large_one(waiting: Waiting) -> None:
    for number in range(6):
        await waiting.add("large", f"{number}")
    await waiting.add("small", "one")

    assert [await waiting.take() for _ in range(4)] == [
        ["0", "1"],
        ["one"],
        ["2", "3"],
        [],
    ]  # two runs of large at most


async def test_a_run_takes_as_many_documents_and_bytes_as_it_may(waiting: Waiting) -> None:
    for name, size_bytes in (("a", 600), ("b", 600), ("c", 5000)):
        await waiting.add("c", name, size_bytes=size_bytes)

    assert [await waiting.take() for _ in range(2)] == [["a"], ["b"]]


async def test_content_that_is_on_its_way_is_waited_for(waiting: Waiting) -> None:
    for name in ("a", "b", "c"):
        await waiting.add("c", name, content="same")
    await waiting.add("other", "d", content="same")

    assert [await waiting.take() for _ in range(3)] == [["a"], ["d"], []]


async def test_no_run_is_made_while_enough_wait_for_a_worker(waiting: Waiting) -> None:
    await waiting.add("a", "1")
    await waiting.add("b", "2")

    assert await waiting.queue.take(room=1) is not None
    assert await waiting.queue.take(room=1) is None
    assert len(await waiting.runs.waiting()) == 1


async def test_a_worker_that_was_taken_for_dead_can_record_nothing(waiting: Waiting) -> None:
    await waiting.add("a", "1")
    run = await waiting.queue.take(room=1)
    assert run is not None
    await waiting.runs.claim(run)
    await waiting.other.disown("me")
    await waiting.other.claim(run)

    with pytest.raises(RunLost):
        await waiting.runs.record_indexed(run, 0, {}, [])
    await waiting.runs.finish(run)
    assert [work.job.display_name for work in await waiting.other.work(run)] == ["1"]
    assert await waiting.other.claim(run)
