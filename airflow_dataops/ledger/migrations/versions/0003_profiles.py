"""The profile of what each partition shows. Those decided before have none until they are decided again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataops_partition", sa.Column("profile", sa.Text(), nullable=True))
