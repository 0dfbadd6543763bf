"""The raw file of an upload that a kill cut short goes; one that a document names stays."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from ingest.database import Database
from ingest.raw_notes import MAX_NOTE_BYTES, RawNotes, adopt
from ingest.storage import Storage, StorageAway
from ingest.workers import WorkerFolder
from mesh.database import database_url, open_database
from mesh.errors import Corrupt
from tests.ingest.conftest import running_service


@pytest.mark.slow
async def test_what_a_killed_worker_was_storing_is_removed_and_what_is_registered_stays(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    objects = tmp_path / "ingest" / "objects"
    killed = tmp_path / "ingest" / "scratch" / "killed"
    killed.mkdir(parents=True)
    notes = RawNotes(killed, Storage.open("", tmp_path / "ingest", killed))
    for name in ("whole", "half#2"):
        (objects / "raw" / "default" / "d").mkdir(parents=True, exist_ok=True)
        (objects / "raw" / "default" / "d" / name).write_bytes(b"never registered")
    with notes.noted("raw/default/d/whole"), notes.noted("raw/default/d/half"):
        for note in killed.iterdir():
            shutil.copy(note, note.with_name(f"raw-{note.stem}-kept.note"))  # as if the process had been killed here

    async with running_service(tmp_path, tokenizer_folder) as service:
        async with asyncio.timeout(60):
            while [path for path in (objects / "raw" / "default").rglob("*") if path.is_file()]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await service.ingest("kept.txt", b"Registered. " * 30)
        kept = {path for path in (objects / "raw").rglob("*") if path.is_file()}
        async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine:
            mine = WorkerFolder(tmp_path / "another")
            mine.scratch.joinpath("raw-1.note").write_text(next(iter(kept)).relative_to(objects).as_posix())
            adopt(mine.scratch, mine.scratch)
            storage = Storage.open("", tmp_path / "ingest", mine.scratch)
            assert await RawNotes(mine.scratch, storage).sweep(Database(engine)) == 1
            assert list(mine.scratch.iterdir()) == []
            mine.close()
        assert {path for path in (objects / "raw").rglob("*") if path.is_file()} == kept


async def test_an_upload_on_its_way_is_let_alone(tmp_path: Path) -> None:
    storage = Storage.open("", tmp_path, tmp_path)
    notes = RawNotes(tmp_path, storage)
    async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine:
        with notes.noted("raw/a/b/c"):
            await storage.put("raw/a/b/c", b"coming")
            for note in notes_in(tmp_path):
                os.utime(note, (0, 0))
            assert await notes.sweep(Database(engine)) == 0
            assert await storage.read("raw/a/b/c") == b"coming"
        assert [note.read_text() for note in notes_in(tmp_path)] == [""]


async def test_what_failed_is_swept_and_what_came_beside_it_and_after_it_is_let_alone(tmp_path: Path) -> None:
    storage = Storage.open("", tmp_path, tmp_path)
    notes = RawNotes(tmp_path, storage)
    for name in ("failed", "beside", "after"):
        await storage.put(f"raw/a/b/{name}", name.encode())
    async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine:
        with notes.noted("raw/a/b/beside"):
            with pytest.raises(OSError, match="broken off"), notes.noted("raw/a/b/failed"):
                raise OSError("broken off")
            with notes.noted("raw/a/b/after"):
                for note in notes_in(tmp_path):
                    os.utime(note, (0, 0))
                assert await notes.sweep(Database(engine)) == 0
        for note in notes_in(tmp_path):
            os.utime(note, (0, 0))
        assert await notes.sweep(Database(engine)) == 2  # no document names the one beside it either
    assert await storage.read("raw/a/b/after") == b"after"
    with pytest.raises(Corrupt):
        await storage.read("raw/a/b/failed")


async def test_where_nothing_can_be_written_the_store_is_away(tmp_path: Path) -> None:
    storage = Storage.open("", tmp_path, tmp_path / "gone")
    with pytest.raises(StorageAway, match="cannot be noted"), RawNotes(tmp_path / "gone", storage).noted("raw/a/b/c"):
        pass
    with pytest.raises(StorageAway, match="no room"), storage.folder():
        pass


async def test_a_long_note_makes_way_for_another(tmp_path: Path) -> None:
    notes = RawNotes(tmp_path, Storage.open("", tmp_path, tmp_path))
    with notes.noted("raw/a/b/first"):
        for _ in range(2):
            with notes.noted("raw/a/b/" + "x" * MAX_NOTE_BYTES):
                pass
        assert len(notes_in(tmp_path)) == 1
        with notes.noted("raw/a/b/last"):
            assert len(notes_in(tmp_path)) == 2
    assert [note.read_text() for note in notes_in(tmp_path)] == [""]


def notes_in(folder: Path) -> list[Path]:
    return list(folder.glob("raw-*"))
