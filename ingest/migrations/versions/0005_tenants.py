"""Collections' ids begin with their tenant, so that they may be longer. What is there is the default tenant's, as it is."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = ("documents", "versions", "jobs", "runs", "reindexings", "copies")


def upgrade() -> None:
    """Widens the column. SQLite does not look at the length: its tables stay as they are."""
    _resize(64, 128)


def downgrade() -> None:
    """Narrows it; fails while a tenant has a longer one."""
    _resize(128, 64)


def _resize(before: int, after: int) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table in _TABLES:
        op.alter_column(table, "collection", existing_type=sa.String(before), type_=sa.String(after))
