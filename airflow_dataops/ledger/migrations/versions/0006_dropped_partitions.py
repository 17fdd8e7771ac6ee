"""Why a partition was dropped: a decision that readers shall see nothing of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataops_decision", sa.Column("dropped", sa.Text(), nullable=True))
