"""Databases as they were: a room's migrations taken back to an earlier revision."""

import importlib.resources

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine


async def take_back(engine: AsyncEngine, room: str, revision: str) -> None:
    """Takes back what came after the revision, on a database that `mesh.database` has opened."""

    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(importlib.resources.files(room) / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes.update(connection=connection, version_table=f"alembic_version_{room}")
        command.downgrade(config, revision)

    async with engine.begin() as connection:
        await connection.run_sync(run)
