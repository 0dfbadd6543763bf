"""The raw file of an upload that a kill cut short goes; one that a document names stays."""

import asyncio
import os
from pathlib import Path

import pytest

from ingest.database import Database
from ingest.raw_notes import RawNotes, adopt
from ingest.storage import Storage
from ingest.workers import WorkerFolder
from mesh.database import database_url, open_database
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
            os.link(note, note.with_name(f"raw-{note.stem}-kept.note"))  # as if the process had been killed here

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
        assert notes_in(tmp_path) == []


def notes_in(folder: Path) -> list[Path]:
    return list(folder.glob("raw-*"))
