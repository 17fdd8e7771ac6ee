"""Watermark runs over a text cursor, on the real servers: under a collation blind to case and trailing blanks, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.range_law import text_literal
from tests.sources.sql_databases import NewShop, new_shop_fixture  # noqa: F401
from tests.steps.world import World

GROWING = [["A", "B", "a"], ["a", "a ", "aB", "ab"], ["ab", "ab", "ab\t"], ["b", "á"], ["á", "ÿ", "\u0394", "\U0001f600"]]
"""What comes between two runs: at or above the highest before by code point, often below or equal to it by collation."""


@pytest.mark.parametrize(
    ("kind", "declared"),
    [("sqlite", "TEXT COLLATE NOCASE"), ("postgres-adbc", "text COLLATE blind"), ("mariadb", "varchar(9)")],
)
def test_a_growing_text_cursor_loses_and_doubles_nothing(new_shop: NewShop, tmp_path: Path, kind: str, declared: str) -> None:
    shop = new_shop(kind)
    if shop.server == "postgres":
        shop.run("CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level1', deterministic = false)")
    shop.run(f"CREATE TABLE codes (n INTEGER, c {declared})")
    world = World(tmp_path / "world", wrap=lambda name, edge: shop.open() if name == "source" else edge)
    table = shop.name("codes")
    spec = world.spec(read={"mode": "watermark", "cursor": "c"}, write={"mode": "append"}, target={"table": "codes"})
    put: list[dict[str, object]] = []
    for group in GROWING:
        rows = [{"n": len(put) + n, "c": value} for n, value in enumerate(group)]
        shop.run(
            "INSERT INTO codes VALUES " + ", ".join(f"({row['n']}, {text_literal(str(row['c']), shop.server)})" for row in rows)
        )
        put += rows
        result = world.load(spec, table)
        assert (result.error, result.accounting.rows_written) == (None, len(rows))
        assert world.load(spec, table).outcome == "nothing_new"
    assert sorted(world.visible(spec, table), key=lambda row: row["n"]) == put
