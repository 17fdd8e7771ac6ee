"""The databases keep the contract of every source."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.contract import ORDERS, Case, SourceContract
from tests.sources.sql_databases import KINDS, MOMENT, TEXT, Shop, new_shop_of


@pytest.fixture(scope="module", params=KINDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same tables for every test of the suite: it only reads."""
    folder: Path = tmp_path_factory.mktemp("contract")
    shop = new_shop_of(request.param, folder / "shop.db", request)
    text, moment = TEXT[shop.server], MOMENT[shop.server]
    rows = []
    for row in ORDERS.to_pylist():
        customer = "NULL" if row["customer"] is None else "'" + row["customer"].replace("'", "''") + "'"
        rows.append(f"({row['id']}, {customer}, '{row['updated_at'].isoformat(' ')}')")
    shop.run(
        f"CREATE TABLE orders (id BIGINT, customer {text}, updated_at {moment})",
        f"CREATE TABLE undated (id BIGINT, updated_at {moment})",
        "INSERT INTO undated VALUES (1, NULL)",
        f"INSERT INTO orders VALUES {', '.join(rows)}",
    )
    return shop


class TestContract(SourceContract):
    @pytest.fixture
    def case(self, served: Shop) -> Case:
        return Case(served.open(), served.name("orders"), True, served.name("undated"), text_cursors=not served.generic)
