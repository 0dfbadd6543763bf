"""Conversations and their turns."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the two tables; times are microseconds since 1970."""
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
    )
    op.create_index("conversations_latest", "conversations", ["update_time", "id"])
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    owner = sa.ForeignKey("conversations.id", ondelete="CASCADE")
    op.create_table(
        "turns",
        sa.Column("position", number, primary_key=True, autoincrement=True),
        sa.Column("conversation", sa.String(32), owner, nullable=False),
        sa.Column("answer_id", sa.String(32), nullable=False, unique=True),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("citations", sa.JSON, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_turns_conversation", "turns", ["conversation"])


def downgrade() -> None:
    """Drops both."""
    op.drop_table("turns")
    op.drop_table("conversations")
