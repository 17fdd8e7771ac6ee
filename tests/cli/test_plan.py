"""What an edit of the inventory would do, told before it is committed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.bundle.retirement import Limits
from dag_factory.cli.plan_markdown import MOST_CHARACTERS, as_markdown
from dag_factory.inventory import Inventory
from dag_factory.inventory_plan import InventoryPlan, SourcePlan, plan_inventory, with_mass_removal
from tests.cli.conftest import Dataops

DB: dict[str, Any] = {
    "name": "db", "kind": "sql", "conn_id": "shop_db", "owner": "ann",
    "tables": ["public.*", {"match": "public.orders", "read": {"mode": "watermark", "cursor": "at"},
                            "write": {"mode": "merge", "keys": ["id"]}}],
    "privacy": {"columns": {"email": "mask", "card_*": "drop"}},
    "target": {"partition_by": [{"name": "dt", "from": "period_start"}]},
}  # fmt: skip


def row(**more: Any) -> PipelineSpec:
    return PipelineSpec.model_validate({**DB, "domain": "shop", **more}, strict=False)


def edit(old: list[PipelineSpec], new: list[PipelineSpec], **platforms: PlatformSpec) -> InventoryPlan:
    before = Inventory("before", tuple(old), (), platforms.get("was", PlatformSpec()))
    return plan_inventory(before, Inventory("after", tuple(new), (), platforms.get("becomes", PlatformSpec())))


def change(**more: Any) -> SourcePlan:
    (found,) = edit([row()], [row(**more)]).sources
    return found


def dangers(found: SourcePlan) -> set[tuple[str, str]]:
    return {(d.code, d.about) for d in found.dangers}


def orders(**parts: Any) -> list[Any]:
    entry = {**DB["tables"][1], **parts}
    return ["public.*", entry]


DANGEROUS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "nothing of weight": ({"owner": "bob", "tags": ("x",), "description": "d", "limits": {"retries": 1}}, set()),
    "another database": ({"target": {**DB["target"], "database": "other"}}, {("target", "public.*"), ("target", "public.orders")}),
    "another lake": ({"target": {**DB["target"], "lake": "cold"}}, {("target", "public.*"), ("target", "public.orders")}),
    "another partition": ({"target": {}}, {("target", "public.*"), ("target", "public.orders")}),
    "one table elsewhere": ({"tables": orders(target={"table": "o"})}, {("target", "public.orders")}),
    "another cursor": (
        {"tables": orders(read={"mode": "watermark", "cursor": "changed"})}, {("cursor", "public.orders")}),
    "other keys": ({"tables": orders(write={"mode": "merge", "keys": ["id", "line"]})}, {("keys", "public.orders")}),
    "keys in another order": ({"tables": orders(write={"mode": "merge", "keys": ["id"]})}, set()),
    "another way of reading": (
        {"tables": orders(read={"mode": "window", "cursor": "at"})}, {("read_mode", "public.orders")}),
    "another way of writing": (
        {"tables": orders(write={"mode": "append"})}, {("write_mode", "public.orders"), ("keys", "public.orders")}),
    "a table read differently from now on": (
        {"tables": [*DB["tables"], {"match": "public.big", "read": {"mode": "window", "cursor": "at"}}]},
        {("read_mode", "public.big")}),
    "a table left out": ({"exclude": ("public.orders",)}, {("table_removed", "public.orders")}),
    "a table taken in": ({"tables": [*DB["tables"], "sales.x"]}, set()),
    "a rule of privacy gone": (
        {"privacy": {"columns": {"card_*": "drop"}}}, {("privacy", "public.*"), ("privacy", "public.orders")}),
    "a rule of privacy weaker": (
        {"privacy": {"columns": {"email": "hash", "card_*": "drop"}}}, {("privacy", "public.*"), ("privacy", "public.orders")}),
    "a rule of privacy stronger": ({"privacy": {"columns": {"email": "drop", "card_*": "drop", "iban": "mask"}}}, set()),
    "a rule that takes precedence": (
        {"privacy": {"columns": {"email": "mask", "card_*": "drop", "*_number": "keep"}}},
        {("privacy", "public.*"), ("privacy", "public.orders")}),
    "another system below the same watermark": ({"conn_id": "new_db"}, {("source", "shop.db")}),
    "other periods": ({"schedule": "@hourly"}, {("periods", "shop.db")}),
    "another minute of the day": ({"schedule": "30 6 * * *"}, set()),
}  # fmt: skip


@pytest.mark.parametrize("name", DANGEROUS)
def test_what_is_dangerous(name: str) -> None:
    more, expected = DANGEROUS[name]
    found = edit([row()], [row(**more)])
    assert {(d.code, d.about) for d in found.dangers} == expected
    for danger in found.dangers:
        assert str(danger).startswith(danger.about) and danger.source_id == "shop.db"


def test_fields_tables_dags_and_what_moves() -> None:
    found = change(schedule="30 6 * * *", target={**DB["target"], "database": "other"})
    assert (found.action, found.dag_id, found.moves_schedule, found.moves_target) == ("change", "ingest__shop__db", True, True)
    fields = {f.field: (f.before, f.after) for f in found.fields}
    assert fields == {"schedule": ("@daily", "30 6 * * *"), "target.database": ("{domain}", "other")}
    assert {(t.source_table, t.before, t.after) for t in found.tables} == {
        ("public.*", "shop.*", "other.*"), ("public.orders", "shop.orders", "other.orders"),
    }  # fmt: skip
    quiet = change(owner="bob")
    assert (quiet.moves_schedule, quiet.moves_target, quiet.tables) == (False, False, ())
    assert {f.field for f in quiet.dag} == {"owner"}


@pytest.mark.parametrize(("gone", "refused"), [(5, False), (10, False), (11, True)])
def test_a_mass_removal_is_told_before_the_bundle_refuses_it(gone: int, refused: bool) -> None:
    rows = [row(name=f"r{n}") for n in range(40)]
    plan = with_mass_removal(edit(rows, rows[gone:]), len(rows), Limits(100, 25))
    assert [p.message.partition(":")[0] for p in plan.errors] == ([f"removes {gone} of 40 rows -> at most 10 at once"] * refused)
    renamed = [row(name=f"s{n}", renamed_from=f"r{n}") for n in range(40)]
    assert with_mass_removal(edit(rows, renamed), len(rows), Limits(100, 25)).errors == ()


def test_added_retired_and_unchanged() -> None:
    plan = edit([row(), row(name="old")], [row(), row(name="new")])
    assert {(s.action, s.source_id) for s in plan.sources} == {("add", "shop.new"), ("retire", "shop.old")}
    assert plan.counts() == {"add": 1, "change": 0, "rename": 0, "retire": 1, "unchanged": 1, "unreadable": 0}
    assert {(d.code, d.source_id) for d in plan.dangers} == {("removed", "shop.old")}
    assert {t.after for s in plan.sources if s.action == "add" for t in s.tables} == {"shop.*", "shop.orders"}


def test_switching_a_row_off_retires_its_dag_and_is_no_danger() -> None:
    plan = edit([row()], [row(enabled=False)])
    assert [(s.action, s.dangers) for s in plan.sources] == [("retire", ())]
    assert [s.action for s in edit([row(enabled=False)], [row()]).sources] == ["add"]
    assert edit([row(enabled=False)], []).sources == ()


def test_a_rename_is_one_change_of_one_source() -> None:
    plan = edit([row()], [row(name="orders_db", renamed_from="db")])
    (only,) = plan.sources
    assert (only.action, only.source_id, only.was, only.dangers) == ("rename", "shop.orders_db", "shop.db", ())
    moved = row(name="b", renamed_from="a", target={**DB["target"], "database": "{name}"})
    assert dangers(edit([row(name="a", target=moved.target.model_dump(by_alias=True))], [moved]).sources[0]) == {
        ("target", "public.*"), ("target", "public.orders"),
    }  # fmt: skip
    assert [s.action for s in edit([moved], [moved]).sources] == [], "done long ago"


def test_moving_a_row_within_its_file_is_nothing() -> None:
    assert edit([row(line=3, file="a")], [row(line=99, file="b")]).sources == ()


def test_a_lake_that_moves_moves_its_tables() -> None:
    was = PlatformSpec.model_validate({"lakes": {"default": {"uri": "s3://a/x"}, "other": {"uri": "s3://o"}}})
    becomes = PlatformSpec.model_validate({"lakes": {"default": {"uri": "s3://b/x"}, "other": {"uri": "s3://p"}}})
    elsewhere = row(name="elsewhere", target={"catalog": "x", "lake": "third"})
    plan = edit([row(), elsewhere], [row(), elsewhere], was=was, becomes=becomes)
    (only,) = plan.sources
    assert (only.source_id, {d.code for d in only.dangers}) == ("shop.db", {"target"})
    assert {f.field: (f.before, f.after) for f in only.fields} == {"platform.lakes.default.uri": ("s3://a/x", "s3://b/x")}


Git = Callable[..., None]


@pytest.fixture
def git(home: Path) -> Git:
    def run(*words: str) -> None:
        environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        identity = ("-c", "user.name=ann", "-c", "user.email=ann@example.com")
        subprocess.run(["git", *identity, *words], cwd=home, env=environ, check=True, capture_output=True)

    run("init", "-q", "-b", "main")
    write(home, "shop", [dict(DB), {**DB, "name": "lists"}])
    run("add", "inventory")
    run("commit", "-qm", "one")
    return run


def write(home: Path, domain: str, rows: list[dict[str, Any]]) -> None:
    apart = [{**row, "target": {**row["target"], "database": "{name}"}} for row in rows]  # no two write one table
    plain = json.loads(json.dumps({"version": 1, "sources": apart}))  # nothing shared: no anchors
    (home / "inventory" / f"{domain}.yaml").write_text(yaml.safe_dump(plain))


def test_against_git(git: Git, home: Path, dataops: Dataops) -> None:
    assert (dataops("plan").code, dataops("plan", "--json").document["counts"]["unchanged"]) == (0, 2)
    write(home, "shop", [{**DB, "owner": "bob"}, {**DB, "name": "lists"}, {**DB, "name": "fresh"}])
    safe = dataops("plan", "--json")
    assert (safe.code, safe.document["ok"], safe.document["safe"]) == (0, True, True)
    assert {(s["source"], s["action"]) for s in safe.document["sources"]} == {("shop.db", "change"), ("shop.fresh", "add")}
    git("commit", "-qam", "two")
    assert dataops("plan", "--json").document["sources"] == []
    assert dataops("plan", "--against", "HEAD~1", "--json").document["counts"]["change"] == 1
    write(home, "shop", [{**DB, "owner": "bob"}])
    danger = dataops("plan", "--against", "main", "--json")
    assert (danger.code, {p["code"] for p in danger.document["problems"]}) == (1, {"danger_removed"})
    text = dataops("plan")
    assert (text.code, "- shop.fresh" in text.out) == (1, True)
    assert "Retired: 2" in dataops("plan", "--markdown").out


def test_the_work_tree_and_the_index_are_not_touched(git: Git, home: Path, dataops: Dataops) -> None:
    write(home, "shop", [])
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in home.rglob("*") if p.is_file()}
    assert dataops("plan").code == 1
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in home.rglob("*") if p.is_file()} == before


def test_against_a_folder_and_against_nothing(git: Git, home: Path, dataops: Dataops) -> None:
    (home / "other").mkdir()
    assert dataops("plan", "--against", "other", "--json").document["counts"]["add"] == 2
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "shop.yaml").write_text((home / "inventory" / "shop.yaml").read_text())
    assert dataops("plan", "--inventory", "elsewhere", "--json").document["counts"]["add"] == 2, "not in HEAD yet"
    for wrong in ("no-such-thing", "--help", "HEAD:inventory", "-x"):
        answer = dataops("plan", f"--against={wrong}", "--json")
        assert (answer.code, answer.document["problems"][0]["code"]) == (2, "usage")


def test_a_folder_outside_of_git(home: Path, dataops: Dataops) -> None:
    answer = dataops("plan", "--json")
    assert answer.code == 2
    assert "no git repository" in answer.document["problems"][0]["message"]


def test_a_broken_row_or_file_is_not_taken_for_a_removed_one(git: Git, home: Path, dataops: Dataops) -> None:
    write(home, "shop", [{**DB, "schedule": "every day"}, {**DB, "name": "lists"}])
    row_broken = dataops("plan", "--json")
    assert (row_broken.code, row_broken.document["unreadable"], row_broken.document["sources"]) == (1, ["shop.db"], [])
    (home / "inventory" / "shop.yaml").write_text("version: 1\nsources: [")
    broken = dataops("plan", "--json").document
    assert (broken["unreadable"], broken["sources"]) == (["shop.db", "shop.lists"], [])


def test_the_comment_fits_however_much_there_is() -> None:
    hostile = "`@ann` <b>x</b> | [y](z) " * 20
    old = [row(name=f"s{n}") for n in range(3000)]
    new = [row(name=f"s{n}", owner=hostile, target={"database": "other"}) for n in range(2000)]
    text = as_markdown(edit(old, new), hostile)
    assert 30_000 < len(text) <= MOST_CHARACTERS
    assert "Left out" in text and text.count("<details>") == text.count("</details>")
    assert "@ann" not in text.replace("`", "").split("Dangerous")[1][:2000]
    small = as_markdown(edit([row()], [row(owner="bob")]), "HEAD")
    assert "<details>" not in small and "`owner`: `ann` → `bob`" in small
