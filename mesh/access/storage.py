"""Keeps API keys in the database of the mesh, which all services read: SQLite in the data folder, or Postgres by URL."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from mesh.access.keys import StoredKey
from mesh.access.roles import Scope
from mesh.database import database_url, open_database
from mesh.errors import NotFound, Unavailable

keys = sa.Table(
    "api_keys",
    sa.MetaData(),
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("tenant", sa.String(63), nullable=False),
    sa.Column("scopes", sa.String(80), nullable=False),
    sa.Column("secret_hash", sa.String(64), nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("expires_us", sa.BigInteger),
    sa.Column("revoked_us", sa.BigInteger),
)
"""Times are microseconds since 1970, scopes are separated by blanks. Migrations make it."""


class StoredKeys:
    """All keys. Every method raises Unavailable while the database does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, key: StoredKey) -> None:
        """Stores a new key."""
        values = {
            "id": key.id, "name": key.name, "tenant": key.tenant, "scopes": " ".join(sorted(key.scopes)),
            "secret_hash": key.secret_hash, "created_us": _us(key.created), "expires_us": _us(key.expires),
        }  # fmt: skip
        with _translated():
            async with self._engine.begin() as connection:
                await connection.execute(sa.insert(keys).values(values))

    async def find(self, identifier: str) -> StoredKey | None:
        """The key of an id, whatever its state."""
        with _translated():
            async with self._engine.connect() as connection:
                row = (await connection.execute(sa.select(keys).where(keys.c.id == identifier))).first()
        return None if row is None else _key(row)

    async def all(self) -> list[StoredKey]:
        """Every key, the newest first."""
        with _translated():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(sa.select(keys).order_by(keys.c.created_us.desc(), keys.c.id))).all()
        return [_key(row) for row in rows]

    async def revoke(self, identifier: str) -> StoredKey:
        """Ends a key for good; one that has ended stays as it is. NotFound when there is none."""
        now = _us(datetime.now(UTC))
        change = sa.update(keys).where(keys.c.id == identifier, keys.c.revoked_us.is_(None)).values(revoked_us=now)
        with _translated():
            async with self._engine.begin() as connection:
                await connection.execute(change)
        if (found := await self.find(identifier)) is None:
            raise NotFound(f"There is no key {identifier}; `murphey keys list` shows all.")
        return found


@asynccontextmanager
async def open_keys(configured_url: str, data: Path) -> AsyncIterator[StoredKeys]:
    """The keys of a mesh, until leaving."""
    async with open_database(database_url(configured_url, data, "mesh"), "mesh") as engine:
        yield StoredKeys(engine)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise Unavailable("The database of API keys does not answer; try again in a moment.") from error


def _us(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1_000_000)


def _time(us: int | None) -> datetime | None:
    return None if us is None else datetime.fromtimestamp(us / 1_000_000, UTC)


def _key(row: sa.Row[Any]) -> StoredKey:
    scopes = frozenset(Scope(scope) for scope in row.scopes.split())
    created = datetime.fromtimestamp(row.created_us / 1_000_000, UTC)
    return StoredKey(
        row.id, row.name, row.tenant, scopes, row.secret_hash, created, _time(row.expires_us), _time(row.revoked_us)
    )
