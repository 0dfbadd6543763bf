"""Transactions on the room's database, for one process or for several that share it.

SQLite takes one writer at a time: ours wait for each other here, and for other processes' in SQLite. On Postgres a
transaction names what it must have for itself, such as a collection; others of the same name wait for its end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest.tables import discarded
from mesh.errors import Unavailable


class DatabaseAway(Unavailable):
    """The database cannot be reached or cannot write, for now. Nothing of the transaction is stored."""


class Database:
    """Connections to read, and transactions to write. Both raise DatabaseAway."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._writer = asyncio.Lock() if self._is_sqlite else contextlib.nullcontext()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """For queries only."""
        with _translated():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, *alone_in: str) -> AsyncIterator[AsyncConnection]:
        """A transaction: all of it is stored, or nothing. No other one of the same `alone_in` runs meanwhile."""
        with _translated():
            async with self._writer, self._engine.begin() as connection:
                if self._is_sqlite:  # what is read before the first write must still be true then
                    await connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    for name in sorted(set(alone_in)):  # in one order for all, so that none wait for each other
                        key = sa.func.hashtextextended(f"murphey.ingest.{name}", 0)
                        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
                yield connection

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that knows ON CONFLICT, which SQLAlchemy spells by database."""
        return sqlite_insert(table) if self._is_sqlite else postgresql_insert(table)


async def discard(database: Database, connection: AsyncConnection, keys: list[str]) -> None:
    """Marks objects to be deleted once this transaction is stored."""
    rows = [{"key": key} for key in dict.fromkeys(keys) if key]
    if rows:
        await connection.execute(database.insert(discarded).on_conflict_do_nothing(), rows)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not (isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated):
            raise
        first_line = str(error.orig).splitlines()[0][:200] if str(error.orig) else type(error.orig).__name__
        raise DatabaseAway(f"The database of ingest does not answer as it should: {first_line}") from error
    except PoolTimeout as error:
        raise DatabaseAway("Every connection to the database of ingest is in use; try again in a moment.") from error
    except ConnectionError as error:
        raise DatabaseAway(
            f"The database of ingest cannot be reached: {error.strerror or type(error).__name__}"
        ) from error
