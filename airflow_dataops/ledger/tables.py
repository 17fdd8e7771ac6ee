"""The ledger's tables. Changing one needs a migration beside it (a test compares the two) and a new HEAD.

Times are POSIX seconds by the clock of whoever wrote them. JSON is text, so that both databases hold the same.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from airflow_dataops.storage.sql_database import Migrations
from airflow_dataops.storage.sql_text import JsonText

MIGRATIONS = Migrations(Path(__file__).parent / "migrations", head="0012", version_table="dataops_ledger_version")

metadata = sa.MetaData()
_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER counts up on its own in SQLite

# One row per lake table of a source. Locking it makes a transaction serialisable: all that it decides is below this row.
loaded_table = sa.Table(
    "dataops_table",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, nullable=False, index=True),
    sa.Column("source_table", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("sequences", sa.BigInteger, nullable=False),
    sa.Column("watermark", JsonText),
    sa.Column("committed_at", sa.Double),
    # From when on something of the table may be deleted; NULL: nothing before another batch of it ends.
    sa.Column("expiry_due_at", sa.Double),
    # The `committed_at` up to which the maintenance has gone through the table.
    sa.Column("maintained_at", sa.Double),
)

# A generation of a batch. Unfinished (open, frozen, decided) is claimed: that is all a claim is. One that was held is decided
# beside whoever reads its partitions by then, so it counts for no claim.
batch = sa.Table(
    "dataops_batch",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("source_table", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("frozen_attempt", sa.BigInteger),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("period_key", sa.Text, nullable=False),
    sa.Column("writer", sa.Text, nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("root", sa.Text, nullable=False),
    sa.Column("directory", sa.Text, nullable=False),
    sa.Column("exclusive", sa.Boolean, nullable=False),
    sa.Column("spec_fingerprint", sa.Text, nullable=False),
    sa.Column("range_kind", sa.Text, nullable=False),
    sa.Column("range", JsonText, nullable=False),
    # The range again, as the database can order it (`ledger.cursors`). NULL: claimed by a release that did not write it.
    sa.Column("range_series", sa.Text),
    sa.Column("range_low", sa.LargeBinary),
    sa.Column("range_high", sa.LargeBinary),
    sa.Column("claimed_at", sa.Double, nullable=False),
    sa.Column("frozen_at", sa.Double),
    sa.Column("decided_at", sa.Double),
    sa.Column("committed_at", sa.Double),
    sa.Column("ended_at", sa.Double),
    sa.Column("accounting", JsonText),
    sa.Column("fingerprint", sa.Text),
    sa.Column("source_fingerprint", sa.Text),
    sa.Column("hold_reason", JsonText),
    sa.Column("hold_id", sa.Text),
    sa.Column("hold_decided_by", sa.Text),
    sa.Column("hold_decided_at", sa.Double),
    sa.Column("content", JsonText),  # large, so last: lists of batches never read it
    sa.Index("ix_dataops_batch_sequence", "table_key", "sequence"),
    sa.Index("ix_dataops_batch_state", "state", "table_key"),
    sa.Index("ix_dataops_batch_source", "source_id", "claimed_at"),
    sa.Index("ix_dataops_batch_run", "table_key", "run"),
    sa.Index("ix_dataops_batch_period", "table_key", "period_key"),
    # With all that is asked by it: a table's rows with their content are many pages.
    sa.Index("ix_dataops_batch_range", "table_key", "range_series", "range_high", "range_low", "state", "batch_id"),
    sa.Index("ix_dataops_batch_hold", "hold_id"),
    # The same condition for PostgreSQL stands in the migration only: naming it here would import that dialect for every ledger.
    sa.Index(
        "ux_dataops_batch_claim",
        "table_key",
        "scope",
        unique=True,
        sqlite_where=sa.text("state IN ('open', 'frozen', 'decided') AND hold_reason IS NULL"),
    ),
)

partition = sa.Table(
    "dataops_partition",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("mark_cleared_at", sa.Double),
    # Of the current decision; history would multiply them.
    sa.Column("profile", JsonText),
    sa.Column("file_count", sa.BigInteger),
    sa.Column("file_schemas", JsonText),  # ids, sorted
)

# Every decision ever made; the one with the partition's epoch is the current one. `superseded_at`: when it was first
# verified that the catalog shows a later decision at another place. `dropped`: why readers shall see nothing ('' is its place).
decision = sa.Table(
    "dataops_decision",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, primary_key=True),
    sa.Column("partition_values", JsonText, nullable=False),
    sa.Column("location", sa.Text, nullable=False),
    sa.Column("directory", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("schema_id", sa.Text, nullable=False),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("decided_at", sa.Double, nullable=False),
    sa.Column("superseded_at", sa.Double),
    sa.Column("dropped", sa.Text),
    sa.Index("ix_dataops_decision_batch", "table_key", "batch_id", "generation"),
    sa.Index("ix_dataops_decision_directory", "table_key", "directory"),
)

mark = sa.Table(
    "dataops_mark",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("writer", sa.Text, primary_key=True),
    sa.Column("marked_at", sa.Double, nullable=False),
)

# Every directory an attempt may have written to. `lost_at`: since when nobody can publish from it any more;
# `forgotten_at`: since when it is deleted.
directory = sa.Table(
    "dataops_directory",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("directory", sa.Text, primary_key=True),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("registered_at", sa.Double, nullable=False),
    sa.Column("lost_at", sa.Double),
    sa.Column("forgotten_at", sa.Double),
    sa.Index("ix_dataops_directory_batch", "table_key", "batch_id", "generation"),
)

# Schemas that many decisions share, by the digest of their text.
schema_text = sa.Table(
    "dataops_schema",
    metadata,
    sa.Column("schema_id", sa.Text, primary_key=True),
    sa.Column("schema", JsonText, nullable=False),
)

schema_history = sa.Table(
    "dataops_schema_history",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("table_key", sa.Text, nullable=False, index=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("schema_id", sa.Text, nullable=False),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.Double, nullable=False),
)

drift_event = sa.Table(
    "dataops_drift_event",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("table_key", sa.Text, nullable=False, index=True),
    sa.Column("source_id", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("before_fingerprint", sa.Text),
    sa.Column("after_fingerprint", sa.Text),
    sa.Column("batch_id", sa.Text),  # the first with this drift
    sa.Column("event", JsonText, nullable=False),
    sa.Column("recorded_at", sa.Double, nullable=False),
    sa.Column("decision", sa.Text),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", sa.Double),
)

# What each table's source shows (core.shown), as of the batch with this sequence. `gone`: the source does not list it.
shown_table = sa.Table(
    "dataops_shown",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("gone", sa.Boolean, nullable=False),
    sa.Column("state", JsonText, nullable=False),
)

ddl_audit = sa.Table(
    "dataops_ddl",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("table_key", sa.Text, nullable=False, index=True),
    sa.Column("entry", JsonText, nullable=False),
    sa.Column("recorded_at", sa.Double, nullable=False),
)

# The files a committed or held batch accounts for. Kept as JSON by digest: a path may be long, and need not be UTF-8.
source_file = sa.Table(
    "dataops_source_file",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("file_id", sa.Text, primary_key=True),
    sa.Column("content_id", sa.Text),
    sa.Column("file", JsonText, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("period_key", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.Double, nullable=False),
    sa.Index("ix_dataops_source_file_file", "table_key", "file_id"),
    sa.Index("ix_dataops_source_file_content", "table_key", "content_id"),
)

asset_event = sa.Table(
    "dataops_asset_event",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("table_key", sa.Text, nullable=False),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("event", JsonText, nullable=False),
    sa.Column("queued_at", sa.Double, nullable=False),
    sa.Column("told_at", sa.Double),
    sa.UniqueConstraint("table_key", "batch_id", "generation", name="uq_dataops_asset_event"),
    sa.Index("ix_dataops_asset_event_source", "source_id", "told_at"),
)

# What of a source is expected to be fresh (a target table, or '' for a source without any), since when it is known, and
# whether somebody was told that it is late.
freshness = sa.Table(
    "dataops_freshness",
    metadata,
    sa.Column("source_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("known_since", sa.Double, nullable=False),
    sa.Column("late_since", sa.Double),
    sa.Column("tried_at", sa.Double),
    sa.Column("told_at", sa.Double),
)

dead_letter = sa.Table(
    "dataops_dead_letter",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("table_key", sa.Text, nullable=False, index=True),
    sa.Column("source_id", sa.Text, nullable=False, index=True),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("attempt", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", JsonText, nullable=False),
    sa.Column("preview", sa.Text, nullable=False),
    sa.Column("raw_bytes", sa.BigInteger, nullable=False),
    sa.Column("source_file", JsonText),
    sa.Column("source_offset", sa.BigInteger),
    sa.Column("column_name", JsonText),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("recorded_at", sa.Double, nullable=False),
    sa.Column("stage", sa.Text, nullable=False, server_default="read"),
    # Where the record is: the file in the dead-letter place (one that ends with / stands for the only file in that folder), and
    # its number in there. `letters` > 1: this entry stands for so many records from there on, which have no entry of their own yet.
    sa.Column("file", sa.Text),
    sa.Column("place", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("letters", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("can_replay", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("withheld", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("schema_fingerprint", sa.Text),
    sa.Column("attempts", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("last_seen_at", sa.Double),
    sa.Column("replay_batch_id", sa.Text),
    sa.Column("changed_by", JsonText),
    sa.Column("changed_at", sa.Double),
    sa.Column("why", JsonText),
    sa.Index("ix_dataops_dead_letter_batch", "table_key", "batch_id", "generation"),
    sa.Index("ix_dataops_dead_letter_replay", "table_key", "replay_batch_id"),
    sa.Index("ix_dataops_dead_letter_file", "file"),
)

# Every file of dead letters that an attempt has begun; the only ground on which any of them is deleted. `expired_at`: since
# when its letters count as expired; `forgotten_at`: since when it is deleted.
letter_file = sa.Table(
    "dataops_letter_file",
    metadata,
    sa.Column("file", sa.Text, primary_key=True),
    sa.Column("table_key", sa.Text, nullable=False),
    sa.Column("source_id", sa.Text, nullable=False, index=True),
    sa.Column("begun_at", sa.Double, nullable=False),
    sa.Column("expired_at", sa.Double),
    sa.Column("forgotten_at", sa.Double),
)

# How each table fared in each run, failed ones included.
run_result = sa.Table(
    "dataops_run",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("result", JsonText, nullable=False),
    sa.Column("recorded_at", sa.Double, nullable=False),
    sa.Index("ix_dataops_run_source", "source_id", "recorded_at"),
    sa.Index("ix_dataops_run_recorded", "recorded_at"),
)

# Every row that a bundle has shown as a DAG, with its text as it was last good. `marked_as`: what the catalog says of its
# tables: "", "retired", or "unknown" (a rename has brought it those of another source).
source = sa.Table(
    "dataops_source",
    metadata,
    sa.Column("source_id", sa.Text, primary_key=True),
    sa.Column("bundle", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("row", sa.Text, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("delete_at", sa.Double),
    sa.Column("renamed_to", sa.Text),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("marked_as", sa.Text, nullable=False),
    sa.Index("ix_dataops_source_state", "state", "bundle"),
    sa.Index("ix_dataops_source_marked_as", "marked_as", "state"),
)

# A name that was given up → the one of now, and the id that the state of both hangs on: the first of the chain.
source_name = sa.Table(
    "dataops_source_name",
    metadata,
    sa.Column("former", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, nullable=False, index=True),
    sa.Column("state_id", sa.Text, nullable=False),
    sa.Column("renamed_at", sa.Double, nullable=False),
)

# What a person has to decide about: `question` stands for the table and the held changes, `open_question` is the same until
# somebody has answered, so that one is open at a time. `asked_at`: when Airflow was told to ask,
# empty again when nobody is asked any more; `told_at`: when its age was told. `renames`: columns that may be new names of
# others, with the evidence.
hold = sa.Table(
    "dataops_hold",
    metadata,
    sa.Column("hold_id", sa.Text, primary_key=True),
    sa.Column("table_key", sa.Text, nullable=False, index=True),
    sa.Column("source_id", sa.Text, nullable=False, index=True),
    sa.Column("question", sa.Text, nullable=False, index=True),
    sa.Column("open_question", sa.Text),
    sa.Column("changes", JsonText, nullable=False),
    sa.Column("why", JsonText, nullable=False),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("opened_at", sa.Double, nullable=False),
    sa.Column("decision", sa.Text),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", sa.Double),
    sa.Column("asked_at", sa.Double),
    sa.Column("told_at", sa.Double),
    sa.Column("renames", JsonText),
    sa.UniqueConstraint("open_question", name="uq_dataops_hold_open"),
)

# What was approved of a table, for all of its later batches.
approval = sa.Table(
    "dataops_approval",
    metadata,
    sa.Column("table_key", sa.Text, primary_key=True),
    sa.Column("change", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("approval", JsonText, nullable=False),
    sa.Column("hold_id", sa.Text, nullable=False),
    sa.Column("approved_at", sa.Double, nullable=False),
)

# What somebody asked to be onboarded. `open_source_id` is the source while the request is open: one per name.
request = sa.Table(
    "dataops_request",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("source_id", sa.Text, nullable=False, index=True),
    sa.Column("open_source_id", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("requested_at", sa.Double, nullable=False),
    sa.Column("proposal", JsonText),
    sa.Column("proposal_id", sa.Text),
    sa.Column("shown_id", sa.Text),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", sa.Double),
    sa.Column("built_at", sa.Double),
    sa.UniqueConstraint("open_source_id", name="uq_dataops_request_open"),
)
