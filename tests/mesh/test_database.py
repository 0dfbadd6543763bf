"""A room's database: migrated when opened, in WAL mode, with a version table of its own."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from mesh.database import database_url, open_database
from mesh.errors import FailedPrecondition

MIGRATION = """
from alembic import op
import sqlalchemy as sa

revision, down_revision = "0001", None

def upgrade():
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text, nullable=False))

def downgrade():
    op.drop_table("notes")
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    migrations = tmp_path / "packages" / "notebook" / "migrations"
    (migrations / "versions").mkdir(parents=True)
    (migrations.parent / "__init__.py").touch()
    (migrations / "env.py").write_text("from mesh.database import run_migrations\n\nrun_migrations()\n")
    (migrations / "versions" / "0001_notes.py").write_text(MIGRATION)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    return "notebook"


async def test_opening_migrates_and_opening_again_keeps_the_rows(room: str, tmp_path: Path) -> None:
    url = database_url("", tmp_path / "data", room)
    async with open_database(url, room) as engine, engine.begin() as connection:
        await connection.execute(text("INSERT INTO notes (body) VALUES ('kept')"))
    async with open_database(url, room) as engine, engine.begin() as connection:
        assert (await connection.execute(text("SELECT body FROM notes"))).scalars().all() == ["kept"]
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"
        assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar() == 1
        versions = await connection.execute(text("SELECT version_num FROM alembic_version_notebook"))
        assert versions.scalars().all() == ["0001"]


def test_a_configured_url_wins() -> None:
    assert database_url("postgresql+asyncpg://db/murphey", Path("data"), "ingest") == "postgresql+asyncpg://db/murphey"


async def test_a_database_that_a_newer_murphey_migrated_is_refused_with_both_revisions(
    room: str, tmp_path: Path
) -> None:
    url = database_url("", tmp_path / "data", room)
    async with open_database(url, room) as engine, engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version_notebook SET version_num = '0002'"))
    with pytest.raises(
        FailedPrecondition, match="revision 0002 of notebook, and this Murphey knows revisions up to 0001"
    ):
        async with open_database(url, room):
            pass


async def test_an_error_of_the_database_tells_nothing_of_what_was_to_be_stored(room: str, tmp_path: Path) -> None:
    async with open_database(database_url("", tmp_path / "data", room), room) as engine, engine.begin() as connection:
        with pytest.raises(OperationalError) as raised:
            await connection.execute(text("INSERT INTO gone (body) VALUES (:body)"), {"body": "a secret plan"})
    assert "secret plan" not in str(raised.value)


async def test_a_database_goes_back_to_a_revision_and_forward_again(room: str, tmp_path: Path) -> None:
    url = database_url("", tmp_path / "data", room)
    versions = text("SELECT version_num FROM alembic_version_notebook")
    for revision, expected in (("0001", ["0001"]), ("base", []), ("head", ["0001"])):
        async with open_database(url, room, revision) as engine, engine.begin() as connection:
            assert (await connection.execute(versions)).scalars().all() == expected
