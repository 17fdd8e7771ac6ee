"""Types of SQLAlchemy's dialects: what orders rows, and what is refused before a row is left out."""

from __future__ import annotations

import pytest
from sqlalchemy import types as sa
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql
from sqlalchemy.types import TypeEngine

from airflow_dataops.sources.sql.generic_types import arrow_type, unordered

ORDERED = [
    mssql.DATETIME2(3), mssql.DATETIME2(6), mssql.DATETIME(), mssql.SMALLDATETIME(), mssql.TIME(6), oracle.TIMESTAMP(),
    oracle.DATE(), postgresql.TIMESTAMP(precision=6), mysql.DATETIME(fsp=6), sa.Date(), sa.Numeric(20, 9), sa.Float(53),
]  # fmt: skip
FINER = [mssql.DATETIME2(7), mssql.DATETIME2(), mssql.DATETIMEOFFSET(), mssql.DATETIMEOFFSET(7), mssql.TIME()]


@pytest.mark.parametrize("kind", ORDERED, ids=repr)
def test_what_can_be_a_cursor(kind: TypeEngine) -> None:
    assert unordered(kind, arrow_type(kind)[0], "mssql") == ""


@pytest.mark.parametrize("kind", FINER, ids=repr)
def test_what_is_finer_than_a_microsecond_is_told(kind: TypeEngine) -> None:
    """The highest position would be cut to a microsecond below the newest row, which then is in no range."""
    assert unordered(kind, arrow_type(kind)[0], "mssql") == "mssql keeps 7 digits of a second, and 6 are read"


@pytest.mark.parametrize("kind", [sa.String(9), sa.Enum("a"), mssql.UNIQUEIDENTIFIER(), mssql.DATETIMEOFFSET(7)], ids=repr)
def test_what_is_text_here_is_told(kind: TypeEngine) -> None:
    target = arrow_type(kind)[0]
    assert unordered(kind, target, "mssql")
