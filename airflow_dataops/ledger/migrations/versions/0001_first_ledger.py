"""The first ledger. There is no way back: a ledger is only ever taken forward."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER counts up on its own in SQLite


def upgrade() -> None:
    op.create_table(
        "dataops_asset_event",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("queued_at", sa.Double(), nullable=False),
        sa.Column("told_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("table_key", "batch_id", "generation", name="uq_dataops_asset_event"),
    )
    op.create_index("ix_dataops_asset_event_source", "dataops_asset_event", ["source_id", "told_at"], unique=False)
    op.create_table(
        "dataops_batch",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("source_table", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("frozen_attempt", sa.BigInteger(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("period_key", sa.Text(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("exclusive", sa.Boolean(), nullable=False),
        sa.Column("spec_fingerprint", sa.Text(), nullable=False),
        sa.Column("range_kind", sa.Text(), nullable=False),
        sa.Column("range", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=False),
        sa.Column("frozen_at", sa.Double(), nullable=True),
        sa.Column("decided_at", sa.Double(), nullable=True),
        sa.Column("committed_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("accounting", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("source_fingerprint", sa.Text(), nullable=True),
        sa.Column("hold_reason", sa.Text(), nullable=True),
        sa.Column("hold_decision", sa.Text(), nullable=True),
        sa.Column("hold_decided_by", sa.Text(), nullable=True),
        sa.Column("hold_decided_at", sa.Double(), nullable=True),
        sa.Column("content", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("table_key", "batch_id", "generation"),
    )
    op.create_index("ix_dataops_batch_period", "dataops_batch", ["table_key", "period_key"], unique=False)
    op.create_index("ix_dataops_batch_run", "dataops_batch", ["table_key", "run"], unique=False)
    op.create_index("ix_dataops_batch_sequence", "dataops_batch", ["table_key", "sequence"], unique=False)
    op.create_index("ix_dataops_batch_source", "dataops_batch", ["source_id", "claimed_at"], unique=False)
    op.create_index("ix_dataops_batch_state", "dataops_batch", ["state", "table_key"], unique=False)
    op.create_index(
        "ux_dataops_batch_claim",
        "dataops_batch",
        ["table_key", "scope"],
        unique=True,
        sqlite_where=sa.text("state IN ('open', 'frozen', 'decided')"),
        postgresql_where=sa.text("state IN ('open', 'frozen', 'decided')"),
    )
    op.create_table(
        "dataops_ddl",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_dataops_ddl_table_key", "dataops_ddl", ["table_key"], unique=False)
    op.create_table(
        "dataops_dead_letter",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("preview", sa.Text(), nullable=False),
        sa.Column("raw_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_file", sa.Text(), nullable=True),
        sa.Column("source_offset", sa.BigInteger(), nullable=True),
        sa.Column("column_name", sa.Text(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_dataops_dead_letter_source_id", "dataops_dead_letter", ["source_id"], unique=False)
    op.create_index("ix_dataops_dead_letter_table_key", "dataops_dead_letter", ["table_key"], unique=False)
    op.create_table(
        "dataops_decision",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("partition_values", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("schema_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.Double(), nullable=False),
        sa.Column("superseded_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("table_key", "name", "epoch"),
    )
    op.create_index("ix_dataops_decision_batch", "dataops_decision", ["table_key", "batch_id", "generation"], unique=False)
    op.create_index("ix_dataops_decision_directory", "dataops_decision", ["table_key", "directory"], unique=False)
    op.create_table(
        "dataops_directory",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("registered_at", sa.Double(), nullable=False),
        sa.Column("lost_at", sa.Double(), nullable=True),
        sa.Column("forgotten_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("table_key", "directory"),
    )
    op.create_index("ix_dataops_directory_batch", "dataops_directory", ["table_key", "batch_id", "generation"], unique=False)
    op.create_table(
        "dataops_drift_event",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("before_fingerprint", sa.Text(), nullable=True),
        sa.Column("after_fingerprint", sa.Text(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_dataops_drift_event_source_id", "dataops_drift_event", ["source_id"], unique=False)
    op.create_index("ix_dataops_drift_event_table_key", "dataops_drift_event", ["table_key"], unique=False)
    op.create_table(
        "dataops_mark",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("marked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("table_key", "name", "writer"),
    )
    op.create_table(
        "dataops_partition",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("mark_cleared_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("table_key", "name"),
    )
    op.create_table(
        "dataops_run",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run", "table_key"),
    )
    op.create_index("ix_dataops_run_recorded", "dataops_run", ["recorded_at"], unique=False)
    op.create_index("ix_dataops_run_source", "dataops_run", ["source_id", "recorded_at"], unique=False)
    op.create_table(
        "dataops_schema",
        sa.Column("schema_id", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("schema_id"),
    )
    op.create_table(
        "dataops_schema_history",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("schema_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_dataops_schema_history_table_key", "dataops_schema_history", ["table_key"], unique=False)
    op.create_table(
        "dataops_source_file",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("file_id", sa.Text(), nullable=False),
        sa.Column("content_id", sa.Text(), nullable=True),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("period_key", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("table_key", "batch_id", "file_id"),
    )
    op.create_index("ix_dataops_source_file_content", "dataops_source_file", ["table_key", "content_id"], unique=False)
    op.create_index("ix_dataops_source_file_file", "dataops_source_file", ["table_key", "file_id"], unique=False)
    op.create_table(
        "dataops_table",
        sa.Column("table_key", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("source_table", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("sequences", sa.BigInteger(), nullable=False),
        sa.Column("watermark", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("table_key"),
    )
    op.create_index("ix_dataops_table_source_id", "dataops_table", ["source_id"], unique=False)
