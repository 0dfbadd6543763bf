"""Several processes on one queue: who they are, and who carries which run. Equal content is found by its hash."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table of workers, and names the worker of each run; none works yet."""
    op.create_table(
        "workers",
        sa.Column("id", sa.String(96), primary_key=True),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("joined_us", sa.BigInteger, nullable=False),
    )
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("worker", sa.String(96), nullable=False, server_default=""))
    with op.batch_alter_table("versions") as versions:
        versions.add_column(sa.Column("chunking", sa.String(64), nullable=False, server_default=""))
    op.create_index("versions_by_sha256", "versions", ["collection", "sha256"])
    op.create_index("jobs_by_queue", "jobs", ["state", "collection", "id"])


def downgrade() -> None:
    """Takes them away."""
    op.drop_index("jobs_by_queue", "jobs")
    op.drop_index("versions_by_sha256", "versions")
    with op.batch_alter_table("versions") as versions:
        versions.drop_column("chunking")
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("worker")
    op.drop_table("workers")
