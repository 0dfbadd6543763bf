"""The migrations make the tables that the queries expect."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from ingest.tables import metadata
from mesh.database import database_url, open_database


async def test_migrations_make_the_tables(tmp_path: Path) -> None:
    def differences(connection: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine, engine.connect() as connection:
        found = await connection.run_sync(differences)

    assert [item for item in found if "alembic_version_ingest" not in str(item)] == []
