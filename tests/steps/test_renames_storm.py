"""Renames among everything else: whatever comes between drift, approval, moves, reruns and the way back, each row ends once, with
its value in the one column that the table has for it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.compact import FEWEST_FILES
from airflow_dataops.steps.held import answer, let_go
from airflow_dataops.steps.maintain import Limits, maintain_table
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests.soak import seed
from tests.steps.effects import Killed, die_at
from tests.steps.world import World, day

KEYED = {"mode": "merge", "keys": ["id"]}
ROWS: dict[str, dict[str, Any]] = {
    "append": {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "append"}},
    "merge": {"read": {"mode": "watermark", "cursor": "at"}, "write": KEYED},
    "frozen": {"read": {"mode": "watermark", "cursor": "at"}, "write": {"mode": "append"}, "contract": {"columns": "freeze"}},
    "window": {
        "read": {"mode": "window", "cursor": "day"}, "write": {"mode": "overwrite_partition"},
        "target": {"partition_by": [{"name": "dt", "from": "period_start"}]},
    },
}  # fmt: skip
DAYS = [f"2024-05-{n:02d}" for n in range(1, 6)]


class Life:
    def __init__(self, folder: Path, name: str, dice: random.Random) -> None:
        self.world, self.dice, self.is_window = World(folder, lease_seconds=0.0), dice, name == "window"
        self.spec = self.world.spec(**ROWS[name])
        self.table, self.column, self.rows, self.names = table_spec(self.spec, "orders"), "nm", 0, 0
        self.own = {"nm"}
        self.world.sql("CREATE TABLE orders (id INTEGER, nm TEXT, at INTEGER, day TIMESTAMP)")
        self.insert()
        self.load(DAYS[0])

    def insert(self) -> None:
        for _ in range(self.dice.randint(1, 3)):
            n, day_ = self.rows, self.dice.choice(DAYS)
            self.world.sql(f"INSERT INTO orders (id, {self.column}, at, day) VALUES ({n}, 'v{n}', {n}, '{day_} 12:00:00')")
            self.rows += 1

    def rename(self) -> None:
        self.names += 1
        name = "nm" if self.dice.random() < 0.2 and self.column != "nm" else f"nm_{self.names}"
        self.world.sql(f"ALTER TABLE orders RENAME COLUMN {self.column} TO {name}")
        self.column = name

    def load(self, key: str | None = None) -> None:
        result = self.world.load(self.spec, "orders", day(key or self.dice.choice(DAYS), backfill=self.is_window))
        assert result.error is None, result.error

    def answer(self) -> None:
        edges = self.world.edges(self.spec)
        for hold in edges.ledger.holds.list():
            if hold.decision is None:
                try:
                    answer(self.table, hold, "rename", "ann", edges.ledger)
                except InventoryError:  # it is back, or was overtaken by another
                    answer(self.table, hold, "reject", "ann", edges.ledger)
                    self.own |= {one.after for one in hold.renames}

    def let_go(self) -> None:
        edges = self.world.edges(self.spec)
        if self.dice.random() < 0.3:
            doomed = World(self.world.folder, wrap=die_at(self.dice.randrange(30)).wrap, lease_seconds=0.0)
            try:
                let_go(self.table, doomed.edges(self.spec))
            except Killed:
                return
        assert let_go(self.table, edges).error is None

    def maintain(self) -> None:
        edges = replace(self.world.edges(self.spec), dead_after_seconds=0)
        assert sweep_table(self.table, edges).error is None
        assert maintain_table(self.table, edges, Limits()).error is None

    def settled(self) -> None:
        """Every question is answered, and every period is read once more where that is how rows come."""
        for _ in range(3):
            self.answer()
            self.let_go()
            for key in DAYS if self.is_window else DAYS[:1]:
                self.load(key)
        self.maintain()


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("number", [*range(2), *(pytest.param(n, marks=pytest.mark.soak) for n in range(2, 40))])
def test_each_row_ends_once_with_its_value_in_the_one_column(tmp_path: Path, name: str, number: int) -> None:
    dice = random.Random(f"{seed()}-{name}-{number}")
    life = Life(tmp_path, name, dice)
    steps = [life.insert, life.load, life.load, life.rename, life.answer, life.let_go, life.maintain]
    for _ in range(2 * FEWEST_FILES + 4):
        dice.choice(steps)()
    life.settled()
    life.insert()
    life.settled()
    rows = life.world.visible(life.spec, "orders")
    found = sorted((r["id"], name, value) for r in rows for name, value in r.items() if name.startswith("nm") and value is not None)
    assert [(n, value) for n, _, value in found] == [(n, f"v{n}") for n in range(life.rows)]
    assert {name for _, name, _ in found} <= life.own
    verify(life.spec, life.world.edges(life.spec), ["orders"]).raise_for_problems("the story")
