"""What each partition's files are, and how far the maintenance has come. Nobody knows of those that are there: the maintenance
looks at their footers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataops_table", sa.Column("maintained_at", sa.Double(), nullable=True))
    op.add_column("dataops_partition", sa.Column("file_count", sa.BigInteger(), nullable=True))
    op.add_column("dataops_partition", sa.Column("file_schemas", sa.Text(), nullable=True))
