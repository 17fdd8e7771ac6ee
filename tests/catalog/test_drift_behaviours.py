"""Behaviours that no incumbent gets right (their numbers are those of the list of thirty), each through whole loads and read back
as a stranger would: catalog → location → files. Over a catalog in memory; where the metastore has a say, over a real one too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from airflow_dataops.catalog.base import Catalog
from airflow_dataops.catalog.memory import MemoryCatalog
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.steps.discover import discover
from airflow_dataops.steps.gone import GONE, notice_tables
from airflow_dataops.steps.held import answer, let_go
from airflow_dataops.steps.load import load
from airflow_dataops.steps.run import Run
from airflow_dataops.steps.verify import verify
from tests.catalog.conftest import hive_catalog
from tests.catalog.site import Site
from tests.steps.world import day

REAL_TOO = pytest.mark.parametrize("catalog", ["memory", "hive"], indirect=True)
MEMORY = pytest.mark.parametrize("catalog", ["memory"], indirect=True)


@pytest.fixture
def catalog(request: pytest.FixtureRequest) -> Iterator[Catalog]:
    opened: Catalog = hive_catalog(request.getfixturevalue("hive_server")) if request.param == "hive" else MemoryCatalog()
    yield opened
    opened.close()


@MEMORY
def test_04_a_narrower_type_keeps_the_wider_column(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.shows(n=pa.array([2**40], pa.int64()))
    assert site.shows(n=pa.array([7], pa.int32())).outcome == "loaded"
    assert (site.columns().column("n").type, site.rows()) == (pa.int64(), [{"n": 2**40}, {"n": 7}])
    assert site.told() == [["column 'n' stays int64, the source now says int32"]]


@REAL_TOO
def test_05_a_new_column_in_the_middle_goes_last(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.shows(a=[1], c=["x"])
    assert site.shows(a=[2], b=["new"], c=["y"]).outcome == "loaded"
    assert site.columns().names[:2] == ("a", "c") and site.columns().names[-1] == "b"
    assert site.rows() == [{"a": 1, "c": "x", "b": None}, {"a": 2, "c": "y", "b": "new"}]


@MEMORY
def test_07_two_names_that_differ_by_case_are_refused_by_name(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    result = site.shows(Id=[1], ID=[2])
    assert result.outcome == "failed" and "'Id' and 'ID' both become 'id'" in result.error
    assert catalog.get_table("sales", "t") is None


@MEMORY
def test_08_a_rename_is_suggested_and_never_applied(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.shows(id=[1], cust_nm=["Ann"])
    site.shows(id=[1], cust_name=["Ann"])
    assert site.rows() == [{"id": 1, "cust_nm": "Ann", "cust_name": None}, {"id": 1, "cust_nm": None, "cust_name": "Ann"}]
    (event,) = site.world.edges(site.spec).ledger.drift.events("d.src")
    (rename,) = event["renames"]
    assert (rename["before"], rename["after"], rename["same_type"], rename["same_position"]) == ("cust_nm", "cust_name", True, True)


@REAL_TOO
def test_08_an_approved_rename_goes_on_as_the_old_column_also_in_what_landed(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.shows(id=[1], cust_nm=["Ann"])
    site.shows(id=[2], **{"Cust Name": ["Bob"]})
    site.shows(id=[3], **{"Cust Name": ["Eve"]})
    edges, table = site.world.edges(site.spec), table_spec(site.spec, "t")
    (hold,) = edges.ledger.holds.list()
    answer(table, hold, "rename", "ann", edges.ledger)
    done = let_go(table, edges)
    assert (done.error, done.moved) == (None, ("dt=2024-05-02", "dt=2024-05-03"))
    assert site.shows(id=[4], **{"Cust Name": ["Joe"]}).outcome == "loaded"
    assert [(r["id"], r["cust_nm"], r["cust_x0020_name"]) for r in site.rows()] == [
        (1, "Ann", None), (2, "Bob", None), (3, "Eve", None), (4, "Joe", None),
    ]  # fmt: skip
    assert site.columns().names == ("id", "cust_nm", "cust_x0020_name") and site.columns().column("cust_nm").comment == ""
    verify(site.spec, edges, ["t"]).raise_for_problems("the rename")
    assert site.told()[-1] == ["column 'cust_nm' is 'cust_x0020_name' in the source"]


@MEMORY
def test_08_a_renamed_column_of_a_wider_type_widens_the_old_one(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.shows(id=[1, 2], n=pa.array([7, 8], pa.int32()))
    site.shows(id=[1, 2], m=pa.array([7, 8], pa.int64()))
    edges, table = site.world.edges(site.spec), table_spec(site.spec, "t")
    (hold,) = edges.ledger.holds.list()
    answer(table, hold, "rename", "ann", edges.ledger)
    assert let_go(table, edges).moved == ("dt=2024-05-02",)
    assert site.columns().column("n").type == pa.int64() and {r["n"] for r in site.rows()} == {7, 8}
    assert next(d["why"] for d in edges.ledger.drift.ddl() if d["statement"] == "alter_table") == "an approved rename"
    site.days = 1
    assert site.shows(id=[1, 2], m=pa.array([7, 8], pa.int64())).outcome == "unchanged", "it is what was moved"


@REAL_TOO
def test_09_a_column_that_is_gone_stays_is_retired_and_comes_back(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path, contract={"retire_runs": 2, "debounce_runs": 0})
    site.shows(id=[1], name=["a"])
    site.shows(id=[2])
    site.shows(id=[3])
    assert site.columns().column("name").comment.startswith("retired 20")
    site.shows(id=[4])
    site.shows(id=[5], name=["e"])
    assert site.columns().column("name").comment == ""
    assert [(r["id"], r["name"]) for r in site.rows()] == [(1, "a"), (2, None), (3, None), (4, None), (5, "e")]
    assert [text for (text,) in site.told()] == [
        "column 'name' is gone from the source", "column 'name' is retired: the source has not shown it for a while",
        "column 'name' is back in the source",
    ]  # fmt: skip
    assert site.shows(id=[6]).outcome == "loaded"
    assert site.shows(id=[7], name=pa.array([7], pa.int64())).outcome == "held"  # by the rules of types


@REAL_TOO
def test_11_a_long_comment_is_cut_and_kept_whole_beside_900_columns(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.source.comments = {"id": "é" * 400}
    assert site.shows(id=[1], **{f"column_{n}": [n] for n in range(900)}).outcome == "loaded"
    assert site.columns().column("id").comment == "é" * 256
    assert len(site.columns()) == 901 and site.rows()[0]["column_899"] == 899
    kept = site.world.edges(site.spec).ledger.drift.schema(table_spec(site.spec, "t").key)
    assert kept is not None and kept.column("id").comment == "é" * 400
    site.source.comments = {"id": "short"}
    site.shows(id=[2], **{f"column_{n}": [n] for n in range(900)})
    assert (site.columns().column("id").comment, site.told()) == ("short", [])


@REAL_TOO
def test_17_a_change_of_a_dba_between_two_runs_is_adopted_or_held(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.shows(id=[1])
    table = catalog.get_table("sales", "t")
    assert table is not None
    like = table.columns[0]
    added = (replace(like, name="note", type=pa.string()), replace(like, name="total", type=pa.int64()))
    catalog.alter_table(table, replace(table, columns=(*table.columns, *added)))
    assert site.shows(id=[2], note=["ours too"], total=[2]).outcome == "loaded"
    assert site.rows() == [{"id": 1, "note": None, "total": None}, {"id": 2, "note": "ours too", "total": 2}]
    names = [c.name for c in (catalog.get_table("sales", "t") or table).columns]
    assert len(names) == len(set(names))
    result = site.shows(id=[3], note=["n"], total=["not a number"])
    assert result.outcome == "held" and "'total' is int64, the source now says string" in result.reason


@REAL_TOO
def test_18_two_writers_with_two_schemas_end_with_the_union(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path, contract={"debounce_runs": 3})
    for number in range(3):
        site.shows(id=[number], old=["o"])
        site.shows(id=[number], new=["n"])
    assert set(site.columns().names) == {"id", "old", "new"}
    assert [(r["old"], r["new"]) for r in site.rows()] == [("o", None), (None, "n")] * 3
    (told,) = site.told()
    assert set(told) == {"new column 'new' (string)", "column 'old' is gone from the source"}
    edges = site.world.edges(site.spec)
    done = [e["statement"] for e in edges.ledger.drift.ddl(table_spec(site.spec, "t").key)]
    assert [one for one in done if one != "cascade_columns"] == ["alter_table", "create_table"]


@MEMORY
@pytest.mark.parametrize(("policy", "counted"), [("evolve", (1, 0)), ("discard_value", (1, 1)), ("freeze", (0, 0))])
def test_19_a_field_that_a_producer_adds_is_never_dropped_silently(
    catalog: Catalog, tmp_path: Path, policy: str, counted: tuple[int, int]
) -> None:
    site = Site(catalog, tmp_path, contract={"columns": policy})
    site.shows(id=[1])
    result = site.shows(id=[2], extra=["e"])
    counts = result.accounting
    assert (counts.rows_written, counts.values_discarded) == counted and counts.rows_held == (policy == "freeze")
    (event,) = site.world.edges(site.spec).ledger.drift.events("d.src")
    assert event["decision"] == {"evolve": "applied", "discard_value": "discarded", "freeze": "held"}[policy]
    assert [r.get("extra") for r in site.rows()][1:] == {"evolve": ["e"], "discard_value": [None], "freeze": []}[policy]


@MEMORY
def test_28_a_table_that_appears_and_is_removed_is_loaded_and_then_kept(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.shows("t", id=[1])
    edges = site.world.edges(site.spec)
    site.source.put("fresh", pa.table({"id": [9]}))
    assert "fresh" in [t.name for t in discover(site.spec, edges).tables]
    site.load("fresh")
    site.source.drop("fresh")
    assert notice_tables(site.spec, edges, discover(site.spec, edges).tables).gone == ("sales.fresh",)
    kept = catalog.get_table("sales", "fresh")
    assert kept is not None and GONE in kept.parameters and site.rows("fresh") == [{"id": 9}]
    assert site.told() == [["table 'fresh' is gone from the source"]]


@MEMORY
def test_29_one_bad_table_among_many_is_held_alone_and_told_once(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    names = [f"t{n}" for n in range(12)]
    for changed in (False, True):
        for name in names:
            bad = changed and name == "t5"
            site.source.put(name, pa.table({"n": ["text"] if bad else [1 + changed]}))
        edges = site.world.edges(site.spec)
        result = load(site.spec, edges, Run(f"r{changed}", day(f"2024-05-0{1 + changed}")), names)
    assert [t.source_table for t in result.tables if t.outcome != "loaded"] == ["t5"] and not result.failures
    assert all([r["n"] for r in site.rows(name)] == ([1] if name == "t5" else [1, 2]) for name in names)
    assert site.told() == [["column 'n' is int64, the source now says string"]]


@MEMORY
def test_30_one_event_per_transition_however_often_it_is_seen(catalog: Catalog, tmp_path: Path) -> None:
    site = Site(catalog, tmp_path)
    site.shows(id=[1])
    for number in range(5):
        site.shows(id=[number], city=["Rome"])
    assert site.told() == [["new column 'city' (string)"]]
    assert len(site.rows()) == 6
