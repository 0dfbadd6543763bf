"""Alembic's entry: mesh.database runs these migrations when the service starts."""

from mesh.database import run_migrations

run_migrations()
