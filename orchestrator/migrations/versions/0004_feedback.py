"""What people think of answers, with the answers themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; nobody has said anything yet."""
    op.add_column("answers", sa.Column("feedback", sa.Text))


def downgrade() -> None:
    """Takes it away, in place: a table that is made anew would take what refers to it along."""
    op.drop_column("answers", "feedback")
