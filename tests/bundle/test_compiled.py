"""Files → fleet → files of the bundle: pure, one bad row alone, the last good text of a broken file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import PipelineSpec
from dag_factory.bundle.compiled import CompiledFleet
from dag_factory.bundle.files import MOST_ERROR_FILES, BundleFiles, shard_of
from dag_factory.bundle.shard import raise_error, read_shard
from dag_factory.bundle.snapshots import version_of
from dag_factory.bundle.units import UnitCache, factory_version
from dag_factory.inventory import read_inventory
from tests.bundle.fleet import compiled, domain, files, row


def ids(fleet: CompiledFleet) -> set[str]:
    return {text.id for text in fleet.rows.values()}


def errors(fleet: CompiledFleet) -> dict[str, str]:
    made = BundleFiles(16).make(fleet)
    return {
        path.removeprefix("errors/").removesuffix(".json"): json.loads(content.data)["message"]
        for path, content in made.items()
        if path.startswith("errors/") and path.endswith(".json")
    }


def test_the_rows_are_those_that_the_reader_finds_good(tmp_path: Path) -> None:
    """Over an inventory with every kind of trouble; the bundle must never have an opinion of its own."""
    texts = {
        "sales": domain(row("a"), row("b", database="shared") + row("c", "schedule: every day"), row("idle", "enabled: false")),
        "web": domain(row("x"), row("x", database="other"), row("z", "renamed_from: x"), "  - just text\n"),
        "zoo": domain(row("meets", "tables: [orders]", database="one"), row("too", "tables: [orders]", database="one")),
        "defaults": "timezone: Europe/Vienna\n",
        "platform": "pools: {pg: 3}\n",
    }
    folder = tmp_path / "inventory"
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    found, fleet = read_inventory(folder), compiled(tmp_path / "cache", **texts)
    assert ids(fleet) == {spec.id for spec in found.rows} == {"sales.a", "sales.b", "sales.idle", "web.x", "zoo.meets"}
    for spec in found.rows:
        assert PipelineSpec.model_validate_json(fleet.rows[spec.dag_id].text) == spec.model_copy(update={"line": 0})
    assert [(p.line, p.row, p.field, p.message) for p in fleet.problems] == [
        (p.line, p.row, p.field, p.message) for p in found.errors
    ]
    assert all(p.file.startswith("inventory/") for p in fleet.problems)
    assert fleet.platform == found.platform


def test_the_same_files_make_the_same_version_whatever_was_compiled_before(tmp_path: Path) -> None:
    first = {"sales": domain(row("a"), row("b")), "web": domain(row("c"))}
    second = {**first, "web": domain(row("c"), row("d", "schedule: oops"))}
    maker = BundleFiles(16)
    made = [maker.make(compiled(tmp_path / "one", **texts)) for texts in (first, second, first)]
    alone = BundleFiles(16).make(compiled(tmp_path / "two", **first))
    assert made[0] == made[2] == alone != made[1]
    assert version_of(alone, "f")[0] == version_of(made[2], "f")[0] != version_of(alone, "g")[0]


def test_a_line_that_moves_changes_nothing(tmp_path: Path) -> None:
    one = BundleFiles(16).make(compiled(tmp_path, sales=domain(row("a"), row("b"))))
    two = BundleFiles(16).make(compiled(tmp_path, sales="# a comment\n\n" + domain(row("a"), row("b"))))
    assert one == two


def test_one_edited_file_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    put = UnitCache.put
    monkeypatch.setattr(UnitCache, "put", lambda self, key, unit: (read.append(unit.rows[0].id), put(self, key, unit))[1])
    texts = {name: domain(row(f"in_{name}")) for name in ("a", "b", "c")}
    compiled(tmp_path, **texts)
    assert len(read) == 3
    compiled(tmp_path, **texts)  # a new process: the cache lies on disk
    compiled(tmp_path, **{**texts, "b": domain(row("in_b", "tags: [new]"))})
    assert read[3:] == ["b.in_b"]
    compiled(tmp_path, **texts, defaults="timezone: Europe/Vienna\n")
    assert sorted(read[4:]) == ["a.in_a", "b.in_b", "c.in_c"]


def test_a_damaged_cache_is_compiled_anew(tmp_path: Path) -> None:
    before = compiled(tmp_path, sales=domain(row("a")))
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:40])
    assert compiled(tmp_path, sales=domain(row("a"))) == before


BAD = {
    "a wrong value": row("bad", "schedule: every day"),
    "an unknown field": row("bad", "scheduel: '@daily'"),
    "an unknown kind": row("bad").replace("kind: sql", "kind: sqll"),
    "no owner": row("bad").replace("owner: o, ", ""),
    "what only Airflow refuses": row("bad", f"tags: [{'x' * 101}]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_alone(name: str, tmp_path: Path) -> None:
    fleet = compiled(tmp_path, sales=domain(row("a"), BAD[name], row("z")), web=domain(row("c")))
    assert ids(fleet) == {"sales.a", "sales.z", "web.c"}
    ((file, message),) = errors(fleet).items()
    assert file == "sales__bad"
    assert message.startswith("Cannot use row sales.bad: 1 problem -> none.\ninventory/sales.yaml:3 sales.bad")


HOSTILE = ["../../etc/passwd", "Ünïcode", "a__b", "оrders", "{{ 1 + 1 }}", "a\\nimport os", "a' + b", "x" * 300, "", "con\\0"]


@pytest.mark.parametrize("name", HOSTILE)
def test_an_illegal_id_becomes_no_path_and_no_code(name: str, tmp_path: Path) -> None:
    fleet = compiled(tmp_path, sales=domain(row("a"), row(f'"{name}"', database="d")))
    assert ids(fleet) == {"sales.a"}
    made = BundleFiles(16).make(fleet)
    assert len(errors(fleet)) == 1
    for path, content in made.items():
        ours = r"shard_\d{4}\.(py|json)|errors/[a-z0-9_]+\.(py|json)|dataops_(approvals|maintenance|onboard)\.py"
        assert re.fullmatch(ours, path)
        if path.endswith(".py"):
            assert re.fullmatch(
                rb"# Airflow dags made [^\n]+ Content [0-9a-f]{16}\n|"
                rb"# Airflow dags made [^\n]+\nfrom dag_factory\.bundle\.shard import (\w+)\n"
                rb"\1\(globals\(\)(, 'dataops_approvals')?\)\n",
                content.data,
            )


def test_ten_thousand_rows_with_one_id_are_one_dag_and_one_error(tmp_path: Path) -> None:
    fleet = compiled(tmp_path, sales=domain(row("a"), *[row("a")] * 300))
    assert ids(fleet) == {"sales.a"}
    ((file, message),) = errors(fleet).items()
    assert file == "sales__a" and "300 problems" in message and "and 280 more" in message


def test_so_many_bad_rows_that_files_would_drown_airflow(tmp_path: Path) -> None:
    bad = [row(f"bad{n}", "schedule: every day") for n in range(MOST_ERROR_FILES + 20)]
    told = errors(compiled(tmp_path, sales=domain(row("a"), *bad)))
    assert len(told) == MOST_ERROR_FILES
    assert "21 more rows" in told["more"]


@pytest.mark.parametrize(
    "broken",
    ["sources:\n  - {name: [\n", b"\xff\xfe", "- a list\n", "version: 2\n" + domain(row("a")), "soources: []\n" + domain(row("a"))],
)
def test_a_broken_file_keeps_the_rows_of_its_last_good_text(broken: str | bytes, tmp_path: Path) -> None:
    good = {"sales": domain(row("a"), row("b", "schedule: oops")), "web": domain(row("c"))}
    before = compiled(tmp_path, **good)
    now = compiled(tmp_path, dict(before.good), sales=broken, web=domain(row("c", "tags: [new]")))
    assert ids(now) == {"sales.a", "web.c"}
    assert now.rows["ingest__sales__a"] == before.rows["ingest__sales__a"]
    assert "new" in now.rows["ingest__web__c"].text
    ((_, message),) = errors(now).items()
    assert message.startswith("Cannot use file inventory/sales.yaml: 1 problem")
    assert now.good["sales.yaml"] == files(sales=good["sales"])["sales.yaml"]
    assert ids(compiled(tmp_path, sales=broken, web=good["web"])) == {"web.c"}  # there is no last good text


@pytest.mark.parametrize("name", ["defaults", "platform"])
def test_a_broken_shared_file_keeps_its_last_good_text(name: str, tmp_path: Path) -> None:
    good = {"sales": domain(row("a")), "defaults": "timezone: Europe/Vienna\n", "platform": "pools: {pg: 3}\n"}
    before = compiled(tmp_path, **good)
    now = compiled(tmp_path, dict(before.good), **{**good, name: "timezone: [\n", "sales": domain(row("a"), row("b"))})
    assert ids(now) == {"sales.a", "sales.b"}
    assert (now.rows["ingest__sales__a"], now.platform) == (before.rows["ingest__sales__a"], before.platform)
    ((_, message),) = errors(now).items()
    assert message.startswith(f"Cannot use file inventory/{name}.yaml")


def test_a_removed_row_is_gone_and_an_empty_list_is_meant(tmp_path: Path) -> None:
    before = compiled(tmp_path, sales=domain(row("a"), row("b")))
    assert ids(compiled(tmp_path, dict(before.good), sales=domain(row("a")))) == {"sales.a"}
    assert ids(compiled(tmp_path, dict(before.good), sales="sources: []\n")) == set()


def test_a_shard_is_read_by_row(tmp_path: Path) -> None:
    """Text that looks like the shard's own form stays text."""
    nasty = json.dumps('\n"ingest__sales__b": {"name": "evil"}\n"rows": {\n')
    fleet = compiled(tmp_path, sales=domain(row("a", f"description: {nasty}"), row("b"), row("a2")))
    data = BundleFiles(1).make(fleet)["shard_0000.json"].data
    assert json.loads(data)["rows"].keys() == {f"ingest__sales__{name}" for name in ("a", "a2", "b")}
    _, everything = read_shard(data, None)
    assert [json.loads(text)["name"] for text in everything] == ["a", "a2", "b"]
    for name in ("a", "b", "a2"):
        (text,) = read_shard(data, f"ingest__sales__{name}")[1]
        assert json.loads(text)["name"] == name
    for nobody in ("ingest__sales__", "ingest__sales__c", "rows", "", 'ingest__sales__a": '):
        assert list(read_shard(data, nobody)[1]) == []


def test_shards_never_move() -> None:
    """Golden: another function would move every DAG of every fleet."""
    assert [shard_of(name, 256) for name in ("sales.orders", "crm.people")] == [121, 120]


def test_an_error_file_raises_its_message(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"message": "Cannot use {{ this }} – ünïcode"}))
    with pytest.raises(InventoryError, match=r"Cannot use \{\{ this \}\} – ünïcode"):
        raise_error({"__file__": str(tmp_path / "x.py")})


def test_the_factory_is_part_of_the_version() -> None:
    assert re.fullmatch(r".+\+[0-9a-f]{12}", factory_version())
