"""The database of a service: SQLAlchemy on SQLite in WAL mode, or on Postgres by URL, migrated by Alembic at start.

Each room has its migrations in `<room>/migrations` and a version table of its own, so that all rooms can share one
Postgres database.
"""

import asyncio
import fcntl
import importlib.resources
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, event, exc, func, pool, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mesh.errors import Unavailable

BUSY_TIMEOUT_MS = 10_000
"""How long a writer waits for another one on SQLite."""

_POSTGRES_OPTIONS = {
    "connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 15_000,
}  # fmt: skip
"""libpq's: a server that is gone without a word is given up after fifteen seconds, not after the system's two hours."""


def database_url(configured: str, data: Path, room: str) -> str:
    """The configured URL, or a SQLite file in the room's part of the data folder."""
    return configured or f"sqlite+aiosqlite:///{data / room / f'{room}.sqlite'}"


@asynccontextmanager
async def open_database(url: str, room: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a migrated database; disposed of on leaving."""
    on_sqlite = url.startswith("sqlite")
    options = {} if on_sqlite else {"connect_args": _POSTGRES_OPTIONS, "pool_pre_ping": True}
    engine = create_async_engine(url, **options)
    lock = nullcontext()
    if engine.dialect.name == "sqlite":
        if engine.url.database and engine.url.database != ":memory:":
            path = Path(engine.url.database)
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = await asyncio.to_thread(_locked, path.with_name(f"{path.name}.lock"))
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
    try:
        with lock:
            async with engine.begin() as connection:
                await connection.run_sync(_upgrade, room)
        yield engine
    finally:
        await engine.dispose()


def outage(error: Exception) -> Unavailable | None:
    """What a failure of the database itself means to a caller; None for any other error."""
    if isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError | exc.DisconnectionError):
        cause = getattr(error, "orig", None) or error
        return Unavailable(f"The database cannot be used now ({type(cause).__name__}). Try again in a moment.")
    return None


def run_migrations() -> None:
    """The whole of a room's `migrations/env.py`."""
    options = context.config.attributes
    context.configure(connection=options["connection"], version_table=options["version_table"], render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


def _locked(path: Path) -> TextIO:
    """For one process at a time: several may open a new database at once. Closing the file ends it, as a crash does."""
    lock = path.open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _upgrade(connection: Connection, room: str) -> None:
    if connection.dialect.name == "postgresql":  # the same there, until the transaction ends
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"murphey.migrations.{room}", 0))))
    config = Config()
    config.set_main_option("script_location", str(importlib.resources.files(room) / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, version_table=f"alembic_version_{room}")
    command.upgrade(config, "head")


def _configure_sqlite(connection: Any, _: pool.ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
