"""Dead letters that are replayed, discarded or expired, and the files they are in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

LETTER = "dataops_dead_letter"


def upgrade() -> None:
    for column in (
        sa.Column("stage", sa.Text(), nullable=False, server_default="read"),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("place", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("letters", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("can_replay", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("withheld", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("schema_fingerprint", sa.Text(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("last_seen_at", sa.Double(), nullable=True),
        sa.Column("replay_batch_id", sa.Text(), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.Double(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
    ):
        op.add_column(LETTER, column)
    op.create_index("ix_dataops_dead_letter_batch", LETTER, ["table_key", "batch_id", "generation"])
    op.create_index("ix_dataops_dead_letter_replay", LETTER, ["table_key", "replay_batch_id"])
    op.create_index("ix_dataops_dead_letter_file", LETTER, ["file"])
    op.create_table(
        "dataops_letter_file",
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=False),
        sa.Column("expired_at", sa.Double(), nullable=True),
        sa.Column("forgotten_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("file"),
    )
    op.create_index("ix_dataops_letter_file_source_id", "dataops_letter_file", ["source_id"])
    _find_the_old_ones()


def _find_the_old_ones() -> None:
    """Letters of before are the first of the one file in the folder of their attempt, in the order of their numbers. Values that
    were left out of stored rows (0 rows) are none to replay."""
    op.execute(
        f"""
        UPDATE {LETTER} SET
          place = (SELECT count(*) FROM {LETTER} earlier WHERE earlier.table_key = {LETTER}.table_key
            AND earlier.batch_id = {LETTER}.batch_id AND earlier.generation = {LETTER}.generation AND earlier.id < {LETTER}.id),
          file = (SELECT min(directory) || '/' FROM dataops_directory made WHERE made.table_key = {LETTER}.table_key
            AND made.batch_id = {LETTER}.batch_id AND made.generation = {LETTER}.generation AND made.attempt = {LETTER}.attempt),
          can_replay = (rows = 1)
        """
    )
    op.execute(
        f"""
        INSERT INTO dataops_letter_file (file, table_key, source_id, begun_at)
        SELECT file, min(table_key), min(source_id), min(recorded_at) FROM {LETTER} WHERE file IS NOT NULL GROUP BY file
        """
    )
