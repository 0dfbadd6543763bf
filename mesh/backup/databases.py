"""Copies a room's tables out of SQLite or Postgres, as they are at one instant, and into either.

Rows are JSON lines, so that what was copied from the one can be restored to the other. Services write meanwhile: on Postgres
the copy reads one snapshot (REPEATABLE READ), on SQLite one read transaction in WAL mode, which is a snapshot too.
"""

import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from mesh.backup.manifest import DatabaseCopy, TableCopy
from mesh.backup.place import Place
from mesh.database import check_revision, head_revision, open_database, revision_of, tables_of
from mesh.errors import FailedPrecondition, Unavailable

PART_BYTES = 4 * 1024 * 1024
_ROWS_AT_ONCE = 1_000


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[AsyncConnection | None]:
    """A connection that sees the database as it is now, whatever is written meanwhile. None where no service made one yet."""
    engine = create_async_engine(url)
    if engine.dialect.name == "sqlite" and not os.path.isfile(engine.url.database or ""):  # noqa: ASYNC240 - one look
        yield None
        return
    try:
        async with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN")
            else:
                await connection.execution_options(isolation_level="REPEATABLE READ")
                await connection.execute(sa.text("SET TRANSACTION READ ONLY"))
            yield connection
            await connection.rollback()
    except (SQLAlchemyError, OSError) as error:
        raise Unavailable(
            f"The database {engine.url.render_as_string(hide_password=True)} cannot be read: {str(error).splitlines()[0][:200]}"
        ) from error
    finally:
        await engine.dispose()


async def copy_database(connection: AsyncConnection, room: str, place: Place) -> DatabaseCopy | None:
    """All tables of a room; None where it has none yet. FailedPrecondition for another revision than this Murphey's."""
    revision = await connection.run_sync(revision_of, room)
    if not revision:
        return None
    check_revision(room, revision, "The database")
    if revision != head_revision(room):
        raise FailedPrecondition(
            f"The database of {room} is at revision {revision}, before {head_revision(room)}: start this mesh once, which "
            "migrates it, and then back it up."
        )
    tables = await connection.run_sync(_reflected, tables_of(room))
    return DatabaseCopy(room=room, revision=revision, tables=[await _copy(connection, each, place) for each in tables])


async def load_database(url: str, copy: DatabaseCopy, place: Place, *, replace: bool) -> None:
    """Makes the tables at the copy's revision and fills them, all or none; then migrates them to this Murphey's.
    FailedPrecondition where there are rows already, unless they are to be replaced."""
    check_revision(copy.room, copy.revision, "The backup")
    async with open_database(url, copy.room, copy.revision) as engine, engine.begin() as connection:
        tables = {table.name: table for table in await connection.run_sync(_reflected, [t.name for t in copy.tables])}
        by_name = {each.name: each for each in copy.tables}
        for name, table in reversed(tables.items()):
            if replace:
                await connection.execute(table.delete())
            elif (await connection.execute(sa.select(table).limit(1))).first() is not None:
                raise FailedPrecondition(
                    f"The database {engine.url.render_as_string(hide_password=True)} has rows in {name} already. Say "
                    "--replace to delete them."
                )
        for name, table in tables.items():  # the ones that others refer to first
            await _fill(connection, table, by_name[name], place)
    async with open_database(url, copy.room):
        pass


async def _copy(connection: AsyncConnection, table: sa.Table, place: Place) -> TableCopy:
    parts: list[str] = []
    lines: list[str] = []
    rows = size = 0
    query = sa.select(table).order_by(*table.primary_key.columns)
    result = await connection.stream(query.execution_options(yield_per=_ROWS_AT_ONCE))
    async for row in result:
        lines.append(json.dumps([_plain(value) for value in row], separators=(",", ":"), ensure_ascii=False))
        rows, size = rows + 1, size + len(lines[-1])
        if size >= PART_BYTES:
            parts.append(await place.put_blob("\n".join(lines).encode()))
            lines, size = [], 0
    if lines:
        parts.append(await place.put_blob("\n".join(lines).encode()))
    return TableCopy(name=table.name, columns=[column.name for column in table.columns], rows=rows, parts=parts)


async def _fill(connection: AsyncConnection, table: sa.Table, copy: TableCopy, place: Place) -> None:
    filled = 0
    for part in copy.parts:
        rows = [
            dict(zip(copy.columns, map(_value, json.loads(line)), strict=True))
            for line in _lines(await place.blob(part))
        ]
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            await connection.execute(table.insert(), rows[at : at + _ROWS_AT_ONCE])
        filled += len(rows)
    if filled != copy.rows:
        raise FailedPrecondition(f"{copy.name} should have {copy.rows} rows, and has {filled}.")
    if connection.dialect.name == "postgresql":
        await _count_on(connection, table)


def _lines(content: bytes) -> list[bytes]:
    """JSON has no newlines of its own; `splitlines` would take other characters for such."""
    return content.split(b"\n")


async def _count_on(connection: AsyncConnection, table: sa.Table) -> None:
    """Numbers that Postgres gives out itself begin after those that were filled in."""
    for column in table.primary_key.columns:
        sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
        if (await connection.execute(sa.select(sequence))).scalar() is not None:
            highest = sa.select(sa.func.coalesce(sa.func.max(column), 0)).scalar_subquery()
            await connection.execute(sa.select(sa.func.setval(sequence, highest + 1, False)))


def _reflected(connection: sa.Connection, names: list[str]) -> list[sa.Table]:
    """As they are in the database, in the order in which they can be filled."""
    metadata = sa.MetaData()
    metadata.reflect(connection, only=names)
    for column in (column for table in metadata.tables.values() for column in table.columns):
        if isinstance(column.type, sa.JSON):
            column.type = sa.JSON(none_as_null=True)
    return [table for table in metadata.sorted_tables if table.name in names]


def _plain(value: Any) -> Any:
    """What JSON has no form for is an object of one key, which no column holds: JSON columns are wrapped."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime | date):
        return {"time": value.isoformat()}
    return {"json": value} if isinstance(value, dict | list) else value


def _value(plain: Any) -> Any:
    match plain:
        case {"bytes": text}:
            return base64.b64decode(text)
        case {"time": text}:
            return datetime.fromisoformat(text)
        case {"json": value}:
            return value
    return plain
