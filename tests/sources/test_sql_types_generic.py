"""Types of SQLAlchemy's dialects: what orders rows, and what is refused before a row is left out."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import types as sa
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql, registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.types import TypeEngine

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.offset import Everything
from airflow_dataops.core.options import SqlOptions
from airflow_dataops.sources.base import ReadRequest
from airflow_dataops.sources.sql.generic import Generic
from airflow_dataops.sources.sql.generic_types import arrow_type, second_digits, unordered, whole_text
from airflow_dataops.sources.sql.source import SqlSource
from airflow_dataops.sources.sql.values import Unfit, exact

ORDERED = [
    mssql.DATETIME2(3), mssql.DATETIME2(6), mssql.DATETIME(), mssql.SMALLDATETIME(), mssql.TIME(6), oracle.TIMESTAMP(),
    oracle.DATE(), postgresql.TIMESTAMP(precision=6), mysql.DATETIME(fsp=6), sa.Date(), sa.Numeric(20, 9), sa.Float(53),
]  # fmt: skip
FINER = [mssql.DATETIME2(7), mssql.DATETIME2(), mssql.DATETIMEOFFSET(), mssql.DATETIMEOFFSET(7), mssql.TIME()]


@pytest.mark.parametrize("kind", ORDERED, ids=repr)
def test_what_can_be_a_cursor(kind: TypeEngine) -> None:
    assert unordered(kind, arrow_type(kind)[0], "mssql") == ""
    assert second_digits(kind) == 0


@pytest.mark.parametrize("kind", FINER, ids=repr)
def test_what_is_finer_than_a_microsecond_is_told(kind: TypeEngine) -> None:
    """The highest position would be cut to a microsecond below the newest row, which then is in no range."""
    assert unordered(kind, arrow_type(kind)[0], "mssql") == "mssql keeps 7 digits of a second, and 6 can be compared"
    assert whole_text(kind, 'q."at"', "mssql") == 'CONVERT(varchar(34), q."at", 121)'


@pytest.mark.parametrize("kind", [sa.String(9), sa.Enum("a"), mssql.UNIQUEIDENTIFIER(), mssql.DATETIMEOFFSET(7)], ids=repr)
def test_what_is_text_here_is_told(kind: TypeEngine) -> None:
    target = arrow_type(kind)[0]
    assert unordered(kind, target, "mssql")


class NanosecondTimestamp(sa.DateTime):
    """As dialects of other packages declare TIMESTAMP(9)."""

    def __init__(self, precision: int) -> None:
        super().__init__()
        self.precision = precision


class PreciseDialect(SQLiteDialect_pysqlite):
    """A database whose timestamps say how many digits of a second they keep."""

    supports_statement_cache = True
    ischema_names = SQLiteDialect_pysqlite.ischema_names | {"TIMESTAMP": NanosecondTimestamp}


registry.register("precise", __name__, "PreciseDialect")


def test_a_table_whose_times_would_be_cut_is_refused_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "fine.db") as client:
        client.execute("CREATE TABLE fine (id INTEGER, at TIMESTAMP(9))")
        client.execute("INSERT INTO fine VALUES (1, '2024-05-01 10:00:00.123456')")
        client.execute("CREATE TABLE plain (id INTEGER, at TIMESTAMP(6))")
    client.close()
    connection = Connection("db", "generic", schema=str(tmp_path / "fine.db"), extra={"sqlalchemy_scheme": "precise"})
    source = SqlSource(lambda: Generic(connection, SqlOptions()))
    try:
        fine, plain = source.discover()
        assert "column at keeps 9 digits of a second" in fine.traits["problem"] and "problem" not in plain.traits
        assert plain.schema.column("at").type == pa.timestamp("us")
        with pytest.raises(InventoryError, match=r"Cannot read fine: column at keeps 9 .* a view .* can be"):
            source.read(ReadRequest("fine", Everything()))
    finally:
        source.close()


class DriversOwn(datetime):
    """Some drivers' datetimes keep nanoseconds beside the microseconds."""

    nanosecond = 0


def test_nanoseconds_of_a_drivers_own_datetime_are_not_dropped() -> None:
    value = DriversOwn(2024, 5, 1, 10, 0, 0, 123456)
    assert exact(value, pa.timestamp("us"), False) == value
    value.nanosecond = 789
    with pytest.raises(Unfit):
        exact(value, pa.timestamp("us"), False)
