"""The databases keep the contract of every source."""

from __future__ import annotations

import pytest

from tests.sources.contract import ORDERS, Case, SourceContract
from tests.sources.sql_databases import (
    MOMENT,
    TEXT,
    Shop,
    new_shop_fixture,  # noqa: F401
    shop_fixture,  # noqa: F401
)


class TestContract(SourceContract):
    @pytest.fixture
    def case(self, shop: Shop) -> Case:
        text, moment = TEXT[shop.server], MOMENT[shop.server]
        shop.run(f"CREATE TABLE orders (id BIGINT, customer {text}, updated_at {moment})")
        shop.run(f"CREATE TABLE undated (id BIGINT, updated_at {moment})", "INSERT INTO undated VALUES (1, NULL)")
        for row in ORDERS.to_pylist():
            customer = "NULL" if row["customer"] is None else "'" + row["customer"].replace("'", "''") + "'"
            shop.run(f"INSERT INTO orders VALUES ({row['id']}, {customer}, '{row['updated_at'].isoformat(' ')}')")
        return Case(shop.open(), shop.name("orders"), True, shop.name("undated"))
