"""What speaks for a column being another's new name, beside the question about it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataops_hold", sa.Column("renames", sa.Text(), nullable=True))
