"""Which rows there were and what became of them, and what sources were called before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataops_source",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("delete_at", sa.Double(), nullable=True),
        sa.Column("renamed_to", sa.Text(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("marked_as", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source_id"),
    )
    op.create_index("ix_dataops_source_state", "dataops_source", ["state", "bundle"])
    op.create_index("ix_dataops_source_marked_as", "dataops_source", ["marked_as", "state"])
    op.create_table(
        "dataops_source_name",
        sa.Column("former", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("state_id", sa.Text(), nullable=False),
        sa.Column("renamed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("former"),
    )
    op.create_index("ix_dataops_source_name_source_id", "dataops_source_name", ["source_id"])
