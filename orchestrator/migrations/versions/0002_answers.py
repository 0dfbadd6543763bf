"""Answers with all that they came from, and the documents that each of them saw."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the two tables; times are microseconds since 1970."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    owner = sa.ForeignKey("conversations.id", ondelete="CASCADE")
    op.create_table(
        "answers",
        sa.Column("position", number, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("collection", sa.String(80), nullable=False),
        sa.Column("conversation", sa.String(32), owner),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    for column in ("collection", "conversation", "create_time"):
        op.create_index(f"ix_answers_{column}", "answers", [column])
    op.create_table(
        "answer_documents",
        sa.Column("answer", sa.String(32), sa.ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("document", sa.String(256), primary_key=True),
    )
    op.create_index("ix_answer_documents_document", "answer_documents", ["document"])


def downgrade() -> None:
    """Drops both."""
    op.drop_table("answer_documents")
    op.drop_table("answers")
