"""Several indexes of a collection: which is being built, what stands in those that searches do not use, and the jobs of it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables; every job so far was of one document, every run for the live index."""
    op.create_table(
        "reindexings",
        sa.Column("collection", sa.String(64), primary_key=True),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("index_version", sa.String(512), nullable=False),
        sa.Column("former_version", sa.String(512), nullable=False),
        sa.Column("kept", sa.Boolean, nullable=False),
        sa.Column("closing", sa.Boolean, nullable=False),
        sa.Column("worker", sa.String(96), nullable=False, server_default=""),
    )
    op.create_table(
        "copies",
        sa.Column("collection", sa.String(64), primary_key=True),
        sa.Column("document", sa.String(32), primary_key=True),
        sa.Column("version", sa.String(64), primary_key=True),
        sa.Column("index_version", sa.String(512), primary_key=True),
        sa.Column("content_key", sa.String(64), nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("chunking", sa.String(64), nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
    )
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("index_version", sa.String(512), nullable=False, server_default=""))
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("kind", sa.SmallInteger, nullable=False, server_default="1"))
        jobs.add_column(sa.Column("total_documents", sa.Integer, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("indexed_documents", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    """Takes them away."""
    with op.batch_alter_table("jobs") as jobs:
        for column in ("kind", "total_documents", "indexed_documents"):
            jobs.drop_column(column)
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("index_version")
    op.drop_table("copies")
    op.drop_table("reindexings")
