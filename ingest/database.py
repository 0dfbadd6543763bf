"""Transactions on the room's database. SQLite takes one writer at a time: ours wait for each other here, not in SQLite."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest.tables import discarded


class Database:
    """Connections to read, and transactions to write."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writer = asyncio.Lock() if engine.dialect.name == "sqlite" else contextlib.nullcontext()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """For queries only."""
        async with self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: all of it is stored, or nothing."""
        async with self._writer, self._engine.begin() as connection:
            yield connection

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that knows ON CONFLICT, which SQLAlchemy spells by database."""
        return sqlite_insert(table) if self._engine.dialect.name == "sqlite" else postgresql_insert(table)


async def discard(database: Database, connection: AsyncConnection, keys: list[str]) -> None:
    """Marks objects to be deleted once this transaction is stored."""
    rows = [{"key": key} for key in dict.fromkeys(keys) if key]
    if rows:
        await connection.execute(database.insert(discarded).on_conflict_do_nothing(), rows)
