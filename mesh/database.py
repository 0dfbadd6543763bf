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
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, exc, func, inspect, pool, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mesh.errors import FailedPrecondition, Unavailable

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
async def open_database(url: str, room: str, revision: str = "head") -> AsyncIterator[AsyncEngine]:
    """An engine on a database that is migrated to a revision, forward or back; disposed of on leaving. FailedPrecondition for
    one that a newer Murphey has migrated."""
    on_sqlite = url.startswith("sqlite")
    options = {} if on_sqlite else {"connect_args": _POSTGRES_OPTIONS, "pool_pre_ping": True}
    engine = create_async_engine(url, hide_parameters=True, **options)  # errors, and so logs, would hold what is stored
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
                await connection.run_sync(_migrate, room, revision)
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


def head_revision(room: str) -> str:
    """The last one that this Murphey knows."""
    return ScriptDirectory.from_config(_config(room)).get_current_head() or ""


def check_revision(room: str, revision: str, where: str) -> None:
    """FailedPrecondition for one that this Murphey does not know; `where` says what has it."""
    known = [script.revision for script in ScriptDirectory.from_config(_config(room)).walk_revisions()]
    if revision and revision not in known:
        raise FailedPrecondition(
            f"{where} is at revision {revision} of {room}, and this Murphey knows revisions up to {known[0]} only: a newer one "
            "has changed it. Start that one, or restore a backup from before."
        )


def tables_of(room: str) -> list[str]:
    """The names of a room's tables, as its migrations make them."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        _migrate(connection, room, "head")
        names = inspect(connection).get_table_names()
    engine.dispose()
    return [name for name in names if name != _version_table(room)]


def revision_of(connection: Connection, room: str) -> str:
    """What a database has been migrated to; empty for one that never was."""
    options = {"version_table": _version_table(room)}
    return MigrationContext.configure(connection, opts=options).get_current_revision() or ""


def _migrate(connection: Connection, room: str, revision: str) -> None:
    if connection.dialect.name == "postgresql":  # the same there, until the transaction ends
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"murphey.migrations.{room}", 0))))
    config, now = _config(room), revision_of(connection, room)
    check_revision(room, now, f"The database {connection.engine.url.render_as_string(hide_password=True)}")
    config.attributes.update(connection=connection, version_table=_version_table(room))
    (command.downgrade if _is_before(config, revision, now) else command.upgrade)(config, revision)


def _is_before(config: Config, revision: str, now: str) -> bool:
    """Whether a database has to go back to come to the revision."""
    if revision == "head" or not now or revision == now:
        return False
    scripts = ScriptDirectory.from_config(config)
    return revision in {script.revision for script in scripts.iterate_revisions(now, "base")} or revision == "base"


def _config(room: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(importlib.resources.files(room) / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _version_table(room: str) -> str:
    return f"alembic_version_{room}"


def _configure_sqlite(connection: Any, _: pool.ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
