"""Questions about held drift, what was answered, and what was approved of a table for good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_CLAIMED = "state IN ('open', 'frozen', 'decided') AND hold_reason IS NULL"


def upgrade() -> None:
    op.create_table(
        "dataops_hold",
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("open_question", sa.Text(), nullable=True),
        sa.Column("changes", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.Double(), nullable=True),
        sa.Column("asked_at", sa.Double(), nullable=True),
        sa.Column("told_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("hold_id"),
        sa.UniqueConstraint("open_question", name="uq_dataops_hold_open"),
    )
    for column in ("question", "source_id", "table_key"):
        op.create_index(f"ix_dataops_hold_{column}", "dataops_hold", [column])
    op.create_table(
        "dataops_approval",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("approval", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("table_key", "change", "name"),
    )
    # Nothing was ever decided in this column. Behind the large `content` a new one would be slow to read.
    op.execute("ALTER TABLE dataops_batch RENAME COLUMN hold_decision TO hold_id")
    op.create_index("ix_dataops_batch_hold", "dataops_batch", ["hold_id"])
    op.drop_index("ux_dataops_batch_claim", "dataops_batch")
    op.create_index(
        "ux_dataops_batch_claim",
        "dataops_batch",
        ["table_key", "scope"],
        unique=True,
        sqlite_where=sa.text(_CLAIMED),
        postgresql_where=sa.text(_CLAIMED),
    )
