"""Who works, and who is dead."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest.database import Database
from ingest.workers import WorkerFolder, Workers
from mesh.database import database_url, open_database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine:
        yield Database(engine)


async def joined(database: Database, data: Path, lease_s: float = 1000) -> tuple[WorkerFolder, Workers]:
    folder = WorkerFolder(data)
    workers = Workers(database, folder, lease_s)
    await workers.join()
    return folder, workers


async def test_a_worker_of_the_same_folder_is_dead_when_its_lock_is_free(database: Database, tmp_path: Path) -> None:
    (mine, me), (theirs, they) = await joined(database, tmp_path), await joined(database, tmp_path)
    assert await me.dead() == await they.dead() == []

    theirs.close()

    assert await me.dead() == [they.id]
    await me.forget(they.id)
    assert await me.dead() == []
    assert not await they.beat()
    mine.close()


async def test_a_worker_of_another_folder_is_dead_when_it_shows_no_life(database: Database, tmp_path: Path) -> None:
    mine, me = await joined(database, tmp_path / "mine", lease_s=0)
    theirs, they = await joined(database, tmp_path / "theirs")

    assert await me.dead() == []  # seen for the first time
    assert await me.dead() == [they.id]
    assert await they.beat()
    assert await me.dead() == []
    await they.leave()
    assert await me.dead() == [they.id]
    mine.close()
    theirs.close()


async def test_what_a_killed_worker_left_is_swept_away(database: Database, tmp_path: Path) -> None:
    living, _ = await joined(database, tmp_path)
    (tmp_path / "scratch" / "killed-long-ago").mkdir()
    (tmp_path / "scratch" / "killed-long-ago" / "half").write_bytes(b"x")
    (tmp_path / "scratch" / "upload-of-old").write_bytes(b"x")
    (tmp_path / "workers" / "killed-long-ago").touch()

    mine, _ = await joined(database, tmp_path)

    assert {path.name for path in (tmp_path / "scratch").iterdir()} == {living.worker, mine.worker}
    assert {path.name for path in (tmp_path / "workers").iterdir()} == {living.worker, mine.worker}
    living.close()
    mine.close()
