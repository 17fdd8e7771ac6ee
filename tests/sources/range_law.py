"""The law of ranges, told by Python: cut anywhere, a table falls into pieces that hold each of its rows exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_dataops.core.offset import CursorRange
from airflow_dataops.sources.base import Source
from tests.sources.sql_databases import Shop, letters_of, read_batches, rows_of


def filled(shop: Shop, table: str, declared: str, literals: Sequence[str], *, lax: bool = False) -> None:
    """A table of (n, c) with one row for each SQL literal, and a tie for each third. `lax`: MariaDB takes dates with zeros."""
    shop.run(f"CREATE TABLE {table} (n INTEGER, c {declared})")
    rows = enumerate([*literals, *literals[::3]])
    modes = ["SET sql_mode = 'ALLOW_INVALID_DATES'", "SET time_zone = '+00:00'"] if lax and shop.server == "mariadb" else []
    shop.run(*modes, f"INSERT INTO {table} VALUES " + ", ".join(f"({n}, {literal})" for n, literal in rows))


def text_literal(value: str, server: str) -> str:
    escaped = value.replace("'", "''")
    return "'" + (escaped.replace("\\", "\\\\") if server == "mariadb" else escaped) + "'"


def check_law(source: Source, table: str, query: str | None = None) -> None:
    """Cuts a table of (n, c) at every value of c: a piece holds the rows (and the dead letters) that Python puts there."""

    def found(low: Any, high: Any, low_in: bool = False, high_in: bool = True) -> tuple[list[int], int]:
        batches = read_batches(source, table, CursorRange("c", low, high, low_in, high_in), query=query)
        return sorted(row["n"] for row in rows_of(batches)), sum(letter.rows for letter in letters_of(batches))

    whole = read_batches(source, table, query=query)
    held = {row["n"]: row["c"] for row in rows_of(whole)}
    cuts = sorted(set(held.values()))
    assert source.high_cursor(table, "c", query) == cuts[-1]
    letters = 0
    for number, (below, cut) in enumerate(zip([None, *cuts], cuts, strict=False)):
        rows, more = found(below, cut)
        assert rows == sorted(n for n, v in held.items() if v == cut), cut
        letters += more
        if number % 2:
            assert found(None, cut, high_in=False)[0] == sorted(n for n, v in held.items() if v < cut), cut
        else:
            assert found(cut, None, low_in=True)[0] == sorted(n for n, v in held.items() if v >= cut), cut
    assert found(cuts[-1], None) == ([], 0)
    assert letters == sum(letter.rows for letter in letters_of(whole))
