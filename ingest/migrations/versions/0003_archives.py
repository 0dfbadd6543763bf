"""Members of archives: documents that belong to the document they came in."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Names the archive of documents and jobs. Archives that came before keep their members in their own text."""
    for table in ("documents", "jobs"):
        with op.batch_alter_table(table) as altered:
            altered.add_column(sa.Column("archive", sa.String(32), nullable=False, server_default=""))
    op.create_index("documents_by_archive", "documents", ["collection", "archive"])


def downgrade() -> None:
    """Takes them away."""
    op.drop_index("documents_by_archive", "documents")
    for table in ("documents", "jobs"):
        with op.batch_alter_table(table) as altered:
            altered.drop_column("archive")
