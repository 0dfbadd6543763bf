"""Alembic's entry; mesh.database hands it the connection."""

from mesh.database import run_migrations

run_migrations()
