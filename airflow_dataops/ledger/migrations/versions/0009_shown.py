"""What sources show of their tables, and the first batch of each drift event."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataops_shown",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("table_key"),
    )
    op.add_column("dataops_drift_event", sa.Column("batch_id", sa.Text(), nullable=True))
    event = sa.table("dataops_drift_event", sa.column("id"), sa.column("event"), sa.column("batch_id"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(event.c.id, event.c.event)).all():
        told = json.loads(row.event)
        connection.execute(event.update().where(event.c.id == row.id).values(batch_id=told.get("batch_id") or ""))
