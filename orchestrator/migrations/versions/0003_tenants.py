"""Whose conversations and answers are: those that are there are the default tenant's."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column, and room for collections' names with their tenants where a database looks at it."""
    for table in ("conversations", "answers"):
        op.add_column(table, sa.Column("tenant", sa.String(63), nullable=False, server_default="default"))
    op.drop_index("conversations_latest", "conversations")
    op.create_index("conversations_latest", "conversations", ["tenant", "update_time", "id"])
    op.create_index("answers_of_tenant", "answers", ["tenant", "position"])
    _resize((80, 160), (256, 320))


def downgrade() -> None:
    """Takes it away: all conversations and answers are everybody's again."""
    _resize((160, 80), (320, 256))
    op.drop_index("answers_of_tenant", "answers")
    op.drop_index("conversations_latest", "conversations")
    op.create_index("conversations_latest", "conversations", ["update_time", "id"])
    for table in ("conversations", "answers"):  # in place: a table that is made anew would take what refers to it along
        op.drop_column(table, "tenant")


def _resize(collection: tuple[int, int], document: tuple[int, int]) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, column, (before, after) in (
        ("answers", "collection", collection),
        ("answer_documents", "document", document),
    ):
        op.alter_column(table, column, existing_type=sa.String(before), type_=sa.String(after))
