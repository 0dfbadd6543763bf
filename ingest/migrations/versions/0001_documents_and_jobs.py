"""Documents, their versions, jobs, runs, and objects to be deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "documents",
        sa.Column("collection", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("live_version", sa.String(64), nullable=False),
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
    )
    op.create_index("documents_by_name", "documents", ["collection", "display_name"], unique=True)
    op.create_table(
        "versions",
        sa.Column("collection", sa.String(64), primary_key=True),
        sa.Column("document", sa.String(32), primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("content_key", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("raw_key", sa.Text, nullable=False),
        sa.Column("text_key", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("text_bytes", sa.BigInteger, nullable=False),
        sa.Column("text_length", sa.BigInteger, nullable=False),
        sa.Column("page_count", sa.Integer, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("found", sa.JSON, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("collection", sa.String(64), nullable=False),
        sa.Column("document", sa.String(32), nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("batch", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("stage", sa.SmallInteger, nullable=False),
        sa.Column("outcome", sa.SmallInteger, nullable=False),
        sa.Column("publishing", sa.Boolean, nullable=False),
        sa.Column("run", sa.String(32), nullable=False),
        sa.Column("total_chunks", sa.Integer, nullable=False),
        sa.Column("indexed_chunks", sa.Integer, nullable=False),
        sa.Column("failure", sa.JSON(none_as_null=True)),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
    )
    op.create_index("jobs_by_document", "jobs", ["collection", "document"])
    op.create_index("jobs_by_batch", "jobs", ["batch", "id"])
    op.create_index("jobs_by_run", "jobs", ["run"])
    op.create_index("jobs_by_state", "jobs", ["state", "id"])
    op.create_table(
        "runs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("collection", sa.String(64), nullable=False),
        sa.Column("indexed_rows", sa.Integer, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_table("discarded", sa.Column("key", sa.Text, primary_key=True))


def downgrade() -> None:
    """Drops them."""
    for table in ("discarded", "runs", "jobs", "versions", "documents"):
        op.drop_table(table)
