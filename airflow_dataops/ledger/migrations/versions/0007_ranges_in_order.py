"""Ranges of cursors as the database can order them, so that a run reads those at its end and not all of its table's."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from airflow_dataops.core.offset import range_of_json
from airflow_dataops.ledger.cursors import range_columns

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = ("range_series", "range_low", "range_high")
ROWS = 1000


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("dataops_batch", sa.Column(name, sa.Text() if name == "range_series" else sa.LargeBinary(), nullable=True))
    _fill(op.get_bind())
    op.create_index(
        "ix_dataops_batch_range", "dataops_batch",
        ["table_key", "range_series", "range_high", "range_low", "state", "batch_id"], unique=False,
    )  # fmt: skip


def _fill(connection: sa.Connection) -> None:
    """Batches that are not read by a cursor in one go; the others by page, because there may be very many."""
    connection.execute(sa.text("UPDATE dataops_batch SET range_series = '' WHERE range_kind <> 'cursor'"))
    key = ("table_key", "batch_id", "generation")
    names = (*key, "range_kind", "range", *COLUMNS)
    batch = sa.table("dataops_batch", *map(sa.column, names))
    bare = sa.select(*(batch.c[name] for name in (*key, "range"))).where(batch.c.range_kind == "cursor")
    place = sa.tuple_(*(batch.c[name] for name in key))
    page = bare.order_by(*key).limit(ROWS)
    is_it = sa.and_(*(batch.c[name] == sa.bindparam(f"its_{name}") for name in key))
    put = batch.update().where(is_it).values({name: sa.bindparam(f"new_{name}") for name in COLUMNS})
    rows = connection.execute(page).all()
    while rows:
        connection.execute(
            put,
            [
                {f"its_{name}": getattr(row, name) for name in key}
                | {f"new_{name}": value for name, value in range_columns(range_of_json(json.loads(row.range))).items()}
                for row in rows
            ],
        )
        rows = connection.execute(page.where(place > sa.tuple_(*(getattr(rows[-1], name) for name in key)))).all()
