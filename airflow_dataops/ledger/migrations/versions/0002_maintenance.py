"""What the maintenance asks: when a table was last committed, when something of it may be deleted, what is late."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataops_table", sa.Column("committed_at", sa.Double(), nullable=True))
    op.add_column("dataops_table", sa.Column("expiry_due_at", sa.Double(), nullable=True))
    # Whatever is there may have left something: the first sweep looks at every table.
    op.execute(
        "UPDATE dataops_table SET expiry_due_at = 0, committed_at = (SELECT max(b.committed_at) FROM dataops_batch b "
        "WHERE b.table_key = dataops_table.table_key)"
    )
    op.create_table(
        "dataops_freshness",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("known_since", sa.Double(), nullable=False),
        sa.Column("late_since", sa.Double(), nullable=True),
        sa.Column("tried_at", sa.Double(), nullable=True),
        sa.Column("told_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("source_id", "name"),
    )
