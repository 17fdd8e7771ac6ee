"""Dead letters in Airflow's face: the `replay` task, and who is told of limits and of expiry."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException

from airflow_dataops.ledger import open_ledger
from airflow_dataops.operators.replay import ReplayOperator
from dag_factory.render import render
from tests.airflow.test_operators import AirflowRun, _execute, _spec, shop, webhook

__all__ = ["shop", "webhook"]

ROW = {"tables": ["orders"], "read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}


def test_a_task_replays_what_the_contract_takes_now(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strict = render(_spec(**ROW, contract={"columns": "discard_row"}, dead_letters={"max_share": 1.0}))
    _execute(strict, "load", AirflowRun(), {}, pack=["orders"])
    with sqlite3.connect(shop) as db:
        db.execute("ALTER TABLE orders ADD COLUMN city TEXT")
        db.execute("INSERT INTO orders (name, city) VALUES ('six', 'Oslo')")
    _execute(strict, "load", AirflowRun(run_id="manual__2"), {}, pack=["orders"])
    with DAG("mine"):
        task = ReplayOperator(task_id="replay", spec=_spec(**ROW), table="ord*", reason="contract_columns")
    task.execute(AirflowRun().context(task))
    logged = capsys.readouterr().out
    assert "rows_read=1 rows_written=1" in logged
    assert "Oslo" not in logged
    ledger = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    (letter,) = ledger.dead_letters.find()
    assert (letter.state, str(letter.changed_by).startswith("replay/ingest__")) == ("replayed", True)
    ledger.close()


def test_people_are_told_when_dead_letters_fail_a_table(shop: Path, webhook: list[dict[str, Any]]) -> None:
    spec = _spec(**ROW, dead_letters={"max_rows": 0}, contract={"columns": "discard_row"}, notify=["hook"])
    _execute(render(spec), "load", AirflowRun(), {}, pack=["orders"])
    with sqlite3.connect(shop) as db:
        db.execute("ALTER TABLE orders ADD COLUMN city TEXT")
        db.execute("INSERT INTO orders (name, city) VALUES ('six', 'Oslo')")
    with pytest.raises(AirflowException, match="max_rows"):
        _execute(render(spec), "load", AirflowRun(run_id="manual__2"), {}, pack=["orders"])
    (message,) = webhook
    assert (message["event"], message["tables"]) == ("limit_reached", ["shop.orders"])
    assert "1 dead letters -> at most 0" in message["text"]
    assert "Oslo" not in str(message)
