"""Backups that are damaged, newer, or made at once are refused; databases migrate and are copied, on SQLite and on Postgres."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from mesh.access import keys
from mesh.access.roles import Scope
from mesh.access.storage import open_keys
from mesh.backup.backing_up import BackingUp, Sources
from mesh.backup.databases import copy_database, load_database, snapshot
from mesh.backup.files import FileCopies
from mesh.backup.manifest import FORMAT, DatabaseCopy, FilesCopy, Manifest, TableCopy, new_id
from mesh.backup.place import Place
from mesh.database import check_revision, head_revision, open_database, revision_of, tables_of
from mesh.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound
from orchestrator import tables as conversations
from tests.ingest.postgres import Postgres, postgres_server
from tests.mesh.backups import refused

pytestmark = pytest.mark.slow
ROOMS = ("mesh", "ingest", "orchestrator")
EMPTY = FilesCopy(count=0, size_bytes=0, lists=[])


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.open(str(tmp_path / "backups"), make=True)


def backup(*databases: DatabaseCopy, blobs: list[str] | None = None, identifier: str = "") -> Manifest:
    return Manifest(
        format=FORMAT, id=identifier or new_id("test"), created=datetime.now(UTC), murphey="0.1.0",
        databases=[*databases, DatabaseCopy(room="mesh", revision="0001", tables=[_table(blobs or [])])], collections=[],
        objects=EMPTY, records=EMPTY,
    )  # fmt: skip


def _table(blobs: list[str]) -> TableCopy:
    return TableCopy(name="api_keys", columns=["id"], rows=len(blobs), parts=blobs)


async def copied(url: str, room: str, place: Place) -> DatabaseCopy:
    async with snapshot(url) as connection:
        assert connection is not None
        found = await copy_database(connection, room, place)
    assert found is not None
    return found


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_blob_that_was_changed_is_found(place: Place, tmp_path: Path) -> None:
    name = await place.put_blob(b'{"key": 1}')
    path = tmp_path / "backups" / "blobs" / name[:2] / name
    whole = path.read_bytes()
    await place.put_manifest(backup(blobs=[name]))
    for damaged in (whole[:-1], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(Corrupt):
            await place.blob(name)
        assert (
            "damaged" in (said := await asyncio.to_thread(refused, "backup", "verify", place.url)) or "not what" in said
        )
    path.unlink()
    with pytest.raises(Corrupt, match="gone"):
        await place.blob(name)


async def test_a_file_that_was_changed_is_found(place: Place, tmp_path: Path) -> None:
    size, digest = await place.put_file("files/one/raw", pieces(b"a", b"bc"))
    whole = [piece async for piece in place.file("files/one/raw", size, digest)]
    assert b"".join(whole) == b"abc"
    (tmp_path / "backups" / "files" / "one" / "raw").write_bytes(b"abd")
    with pytest.raises(Corrupt, match="not what was written"):
        _ = [piece async for piece in place.file("files/one/raw", size, digest)]


async def with_records(place: Place, **files: bytes) -> Manifest:
    """A backup of nothing else, made as a backup is."""
    copies = FileCopies(place, "b/records", lambda key: pieces(files[key]))
    for key in files:
        await copies.add(key)
    manifest = backup().model_copy(update={"records": await copies.finish()})
    await place.put_manifest(manifest)
    return manifest


async def test_a_damaged_file_is_not_restored(place: Place, tmp_path: Path) -> None:
    await with_records(place, log=b"who did what")
    (tmp_path / "backups" / "files" / "b" / "records" / "log").write_bytes(b"who did that")
    command = ("restore", place.url, "--data", str(tmp_path / "new"))
    assert "not what was written" in await asyncio.to_thread(refused, *command)
    assert not (tmp_path / "new").exists()


async def test_a_backup_writes_nowhere_but_into_the_data_folder(place: Place, tmp_path: Path) -> None:
    size, digest = await place.put_file("files/evil", pieces(b"evil"))
    line = json.dumps({"key": "../evil", "path": "files/evil", "size": size, "sha256": digest})
    records = FilesCopy(count=1, size_bytes=size, lists=[await place.put_blob(line.encode())])
    await place.put_manifest(backup().model_copy(update={"records": records}))
    said = await asyncio.to_thread(refused, "restore", place.url, "--data", str(tmp_path / "new"))
    assert "would lie outside of the data folder: '../evil'" in said
    assert not (tmp_path / "evil").exists()


async def test_a_record_that_is_gone_meanwhile_is_left_out(place: Place, tmp_path: Path) -> None:
    sources: Any = Sources({}, None, SimpleNamespace(read=None), tmp_path)  # pyright: ignore[reportArgumentType]
    backing_up = BackingUp(sources, place, lambda what, more: None)
    assert not await backing_up._records.add("audit/mesh.jsonl.9", anew=True)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"format": FORMAT + 1, "murphey": "9.0"}, "Restore it with Murphey 9.0 or newer"),
        ({"databases": [{"room": "ingest", "revision": "9999", "tables": []}]}, "revision 9999 of ingest"),
        ({"collections": "none"}, "is damaged"),
    ],
)
async def test_a_backup_that_this_murphey_cannot_read_is_refused(
    place: Place, tmp_path: Path, changed: dict[str, Any], complaint: str
) -> None:
    manifest = backup()
    await place.put_manifest(manifest)
    path = tmp_path / "backups" / "backups" / f"{manifest.id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    for command in (["backup", "verify", place.url], ["restore", place.url, "--data", str(tmp_path / "new")]):
        assert complaint in await asyncio.to_thread(refused, *command)
    assert not (tmp_path / "new").exists()


async def test_places_that_are_none_are_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(InvalidInput, match="is a file"):
        Place.open(str(tmp_path / "file"), make=True)
    with pytest.raises(NotFound, match="no folder"):
        Place.open(str(tmp_path / "missing"))
    with pytest.raises(NotFound, match="There is no backup"):
        await place.manifest()
    await place.put_manifest(backup(identifier="one"))
    with pytest.raises(NotFound, match="there are: one"):
        await place.manifest("two")


async def test_two_backups_do_not_write_at_once(place: Place, tmp_path: Path) -> None:
    async with place.locked():
        with pytest.raises(FailedPrecondition, match=f"process {os.getpid()}"):
            async with place.locked():
                pass
    lock = tmp_path / "backups" / "lock.json"
    assert not lock.exists()
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "since": "then", "token": "x"}))
    async with place.locked():  # that process is dead
        pass
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "then", "token": "x"}))
    with pytest.raises(FailedPrecondition, match="--steal-lock"):
        async with place.locked():
            pass
    async with place.locked(steal=True):
        assert "elsewhere" not in lock.read_text()


async def test_older_backups_go_with_what_only_they_had(place: Place, tmp_path: Path) -> None:
    shared = await place.put_blob(b"1")
    mine = [await place.put_blob(str(number).encode()) for number in (11, 12, 13)]
    for number, blob in enumerate(mine):
        await place.put_manifest(backup(blobs=[shared, blob], identifier=f"b{number}"))
    left = await place.put_blob(b"0")
    (tmp_path / "backups" / "blobs" / "half#3").write_bytes(b"left by a kill")
    assert await place.keep_only(2) == ["b0"]
    there = {path.name for path in (tmp_path / "backups" / "blobs").rglob("*") if path.is_file()}
    assert there == {shared, *mine[1:]}
    assert left not in there


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_room_goes_back_and_forward_again(
    room: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With rows in all of its tables, one migration after the other."""
    if kind == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'room.sqlite'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        server.create(f"back_{room}")
        url = server.url(f"back_{room}")
    revisions = ["base", *(f"{number:04}" for number in range(1, int(head_revision(room)) + 1))]
    for revision in (*revisions, *reversed(revisions), *revisions):
        async with open_database(url, room, revision) as engine:
            async with engine.connect() as connection:
                assert await connection.run_sync(revision_of, room) == ("" if revision == "base" else revision)
            if revision != "base":
                await _put_rows(engine)
    async with open_database(url, room) as engine, engine.connect() as connection:
        names = await connection.run_sync(lambda found: sa.inspect(found).get_table_names())
    assert set(names) == {*tables_of(room), f"alembic_version_{room}"}


async def _put_rows(engine: Any) -> None:
    """A row in each table that has none, as far as its columns can be made up."""
    metadata = sa.MetaData()
    async with engine.begin() as connection:
        await connection.run_sync(metadata.reflect)
        for table in metadata.sorted_tables:
            if table.name.startswith("alembic_version"):
                continue
            if (await connection.execute(sa.select(table).limit(1))).first() is None:
                await connection.execute(table.insert(), {column.name: _made_up(column) for column in table.columns})


def _made_up(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, sa.JSON):
        return {}
    if isinstance(column.type, sa.Boolean):
        return False
    if isinstance(column.type, sa.Integer | sa.Numeric):
        return 1
    return "1"


async def test_postgres_of_a_newer_murphey_is_refused(postgres: Postgres) -> None:
    postgres.create("newer")
    url = postgres.url("newer")
    async with open_database(url, "ingest") as engine, engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version_ingest SET version_num = '9999'"))
    with pytest.raises(FailedPrecondition, match=r"revision 9999 of ingest.*up to 0"):
        async with open_database(url, "ingest"):
            pass


async def test_many_replicas_open_an_empty_postgres_at_once(postgres: Postgres) -> None:
    """Each in a process of its own."""
    postgres.create("together")
    program = (
        "import asyncio, sys; from tests.mesh.test_backup_faults import opened; asyncio.run(opened(*sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", program, postgres.url("together")]
    started = [await asyncio.create_subprocess_exec(*arguments, room) for room in ROOMS for _ in range(2)]
    assert [await process.wait() for process in started] == [0] * len(started)


async def opened(url: str, room: str) -> None:
    """What a replica does first."""
    async with open_database(url, room) as engine, engine.connect() as connection:
        assert await connection.run_sync(revision_of, room) == head_revision(room)


@pytest.mark.parametrize(
    ("source", "target"), [("sqlite", "postgres"), ("postgres", "sqlite"), ("postgres", "postgres")]
)
async def test_databases_are_copied_whole(
    source: str, target: str, postgres: Postgres, place: Place, tmp_path: Path
) -> None:
    """Keys with their hashes, and conversations with JSON, other letters, ends of lines and numbers given by the database."""

    def url(kind: str, name: str) -> str:
        if kind == "sqlite":
            return f"sqlite+aiosqlite:///{tmp_path / name}.sqlite"
        postgres.create(f"{source}_{target}_{name}")
        return postgres.url(f"{source}_{target}_{name}")

    old, new = (
        {room: url(source, f"old_{room}") for room in ("mesh", "orchestrator")},
        {room: url(target, f"new_{room}") for room in ("mesh", "orchestrator")},
    )
    shown, key = keys.issue("importer", "acme", frozenset({Scope.WRITE}), datetime.now(UTC), None)
    async with open_keys(old["mesh"], tmp_path) as stored:
        await stored.add(key)
    async with open_database(old["orchestrator"], "orchestrator") as engine:
        await _put_rows(engine)
        async with engine.begin() as connection:
            odd = {"citations": [{"marker": 1}], "question": "wörds\u2028and\nlines \\ \x85", "position": 7}
            await connection.execute(conversations.turns.update().values(**odd))
    for room in old:
        copy = await copied(old[room], room, place)
        await load_database(new[room], copy, place, replace=False)
        assert await copied(new[room], room, place) == copy
        with pytest.raises(FailedPrecondition, match="has rows in"):
            await load_database(new[room], copy, place, replace=False)
        await load_database(new[room], copy, place, replace=True)
    async with open_keys(new["mesh"], tmp_path) as stored:
        assert await stored.all() == [key]
        assert shown not in json.dumps([str(part) for part in await stored.all()])
    engine = create_async_engine(new["orchestrator"])
    async with engine.begin() as connection:
        row = (await connection.execute(sa.select(conversations.turns))).one()
        assert (row.question, row.citations) == ("wörds\u2028and\nlines \\ \x85", [{"marker": 1}])
        more = {
            column.name: getattr(row, column.name)
            for column in conversations.turns.columns
            if column.name != "position"
        }
        await connection.execute(conversations.turns.insert(), more | {"answer_id": "next"})
        found = sa.select(conversations.turns.c.position).where(conversations.turns.c.answer_id == "next")
        assert (await connection.execute(found)).scalar_one() > 7
    await engine.dispose()


async def test_a_revision_that_is_not_known_is_named() -> None:
    check_revision("ingest", head_revision("ingest"), "The database")
    with pytest.raises(FailedPrecondition, match=r"The backup is at revision x9 of ingest.*up to"):
        check_revision("ingest", "x9", "The backup")
