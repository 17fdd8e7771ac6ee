"""Rows that are gone, come back, or have a new name: what the bundle shows, what the ledger keeps, and what is no removal."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.base import Ledger
from airflow_dataops.ledger.sources import SqlSources
from dag_factory.bundle import InventoryBundle
from dag_factory.bundle.compiled import CompiledFleet
from dag_factory.bundle.desired import DesiredState
from dag_factory.bundle.files import shard_of
from dag_factory.bundle.retirement import DAY_SECONDS, Limits, TooManyGoneError, plan_retirement
from dag_factory.bundle.shard import read_bundle
from dag_factory.bundle.snapshots import Snapshots
from tests.bundle.fleet import Site, active, compiled, domain, loaded, row

A, B = "ingest__sales__a", "ingest__sales__b"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "main"))
    monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    made = Site(tmp_path)
    made.write(sales=domain(row("a", "schedule: '@hourly', freshness_seconds: 60, tags: [mine]"), row("b")))
    return made


@pytest.fixture
def ledger(site: Site) -> Iterator[Ledger]:
    opened = open_ledger(f"sqlite:///{site.root}/ledger.db")
    yield opened
    opened.close()


def started(site: Site) -> InventoryBundle:
    bundle = site.bundle()
    bundle.initialize()
    bundle.refresh()
    return bundle


def shown(bundle: InventoryBundle) -> set[str]:
    """The DAGs of rows that are not retired."""
    return {dag_id for dag_id in active(bundle.path) if dag_id.startswith("ingest__")}


def retired(bundle: InventoryBundle) -> dict[str, DAG]:
    return {dag_id: dag for dag_id, dag in loaded(bundle.path).items() if "retired" in dag.tags}


def errors(bundle: InventoryBundle) -> dict[str, str]:
    return {file.stem: json.loads(file.read_text())["message"] for file in (bundle.path / "errors").glob("*.json")}


def test_a_removed_row_is_a_retired_dag_in_its_own_shard(site: Site) -> None:
    bundle = started(site)
    site.write(sales=domain(row("b")))
    bundle.refresh()
    ((dag_id, dag),) = retired(bundle).items()
    assert (dag_id, shown(bundle)) == (A, {B})
    assert A in (bundle.path / f"shard_{shard_of('sales.a', 256):04}.json").read_text()
    assert not dag.timetable.can_be_scheduled and dag.tags == {"dataops", "mine", "retired", "sales", "sql"}
    assert "its row is not in the inventory any more" in (dag.doc_md or "") and "Airflow forgets this DAG on" in (dag.doc_md or "")
    rows = {
        spec.id: spec for spec in read_bundle(bundle.path).rows
    }  # the maintenance goes on sweeping its tables, and is never late
    assert rows["sales.a"].freshness_seconds is None and rows["sales.a"].notify == () and rows["sales.a"].enabled


def test_what_is_retired_outlives_every_folder_and_snapshot(site: Site) -> None:
    bundle = started(site)
    site.write(sales=domain(row("b")))
    bundle.refresh()
    shutil.rmtree(site.snapshots)
    with site.machine("two"):
        assert set(retired(started(site))) == {A}


def test_a_row_that_goes_while_nobody_looks_and_everything_is_lost_is_retired_all_the_same(site: Site) -> None:
    started(site)
    site.write(sales=domain(row("b")))
    shutil.rmtree(site.snapshots)
    with site.machine("two"):
        assert set(retired(started(site))) == {A}


def test_a_row_that_is_back_is_as_before(site: Site) -> None:
    text = (site.inventory / "sales.yaml").read_text()
    bundle = started(site)
    before = bundle.get_current_version()
    site.write(sales=domain(row("b")))
    bundle.refresh()
    site.write(sales=text)
    bundle.refresh()
    assert (retired(bundle), bundle.get_current_version()) == ({}, before)


def test_grace_is_set_in_the_defaults_and_may_be_none(site: Site, ledger: Ledger) -> None:
    site.write(defaults="retired_days: 0\n", sales=domain(row("a"), row("b", "retired_days: 2")))
    bundle = started(site)
    site.write(sales=domain(row("c")))
    bundle.refresh()
    assert (set(retired(bundle)), shown(bundle)) == ({B}, {"ingest__sales__c"})
    kept = {r.source_id: (r.delete_at or 0) - r.since for r in ledger.sources.records()}
    assert kept["sales.a"] == pytest.approx(0, abs=5) and kept["sales.b"] == pytest.approx(2 * DAY_SECONDS, abs=5)


def test_two_processors_agree_whoever_sees_it_first(site: Site) -> None:
    text = (site.inventory / "sales.yaml").read_text()
    with site.machine("one"):
        first = started(site)
    with site.machine("two"):
        second = started(site)
        for step in (domain(row("b")), text, domain(row("b")), domain(row("b"), row("c")), text):
            site.write(sales=step)
            for bundle in (first, second):
                bundle.refresh()
            first.refresh()
            assert loaded(first.path).keys() == loaded(second.path).keys()
            assert first.get_current_version() == second.get_current_version()
            first, second = second, first
    assert set(retired(first)) == {"ingest__sales__c"}


def test_what_another_processor_has_retired_is_not_gone_once_more(site: Site) -> None:
    rows = [row(f"r{n}") for n in range(10)]
    site.write(sales=domain(*rows))
    with site.machine("one"):
        quick = started(site)
    with site.machine("two"):
        slow = started(site)
    for some in (rows[4:], rows[8:]):
        site.write(sales=domain(*some))
        quick.refresh()
    slow.refresh()  # sees eight of ten go at once
    assert errors(slow) == {} and loaded(slow.path).keys() == loaded(quick.path).keys()
    assert len(retired(slow)) == 8 and slow.get_current_version() == quick.get_current_version()


def test_a_row_moves_to_another_bundle_that_sees_it_first(tmp_path: Path, ledger: Ledger) -> None:
    one, two = DesiredState("one", ledger=ledger), DesiredState("two", ledger=ledger)
    here, there = compiled(tmp_path, sales=domain(row("a"), row("b"))), compiled(tmp_path, other=domain(row("z")))
    one.take(here, set())
    two.take(there, {A, B})
    moved = compiled(tmp_path, other=domain(row("z")), sales=domain(row("a")))
    two.take(moved, {A, B})
    assert two.is_shown() and ledger.sources.known("two").keys() == {"other.z"}
    one.take(compiled(tmp_path, sales=domain(row("b"))), set())  # its DAG rests there now, and is still Airflow's
    assert not two.is_shown()
    two.take(moved, {A, B})
    assert two.is_shown() and ledger.sources.known("two").keys() == {"other.z", "sales.a"}
    assert not one.is_shown()
    assert one.take(compiled(tmp_path, sales=domain(row("b"))), set()).rows.keys() == {B}


ACCIDENTS: dict[str, Callable[[Site], Any]] = {
    "a wrong field": lambda site: site.write(sales=domain(row("a", "scheduel: x"), row("b"))),
    "an unknown kind": lambda site: site.write(sales=domain(row("a"), row("b")).replace("kind: sql", "kind: sqll", 1)),
    "an id that became illegal": lambda site: site.write(sales=domain(row("A"), row("b"))),
    "an id that was lost": lambda site: site.write(sales=domain(row("b"), "  - {kind: sql, owner: o}\n")),
    "an item that is no row": lambda site: site.write(sales=domain(row("b"), "  - a\n")),
    "YAML that cannot be read": lambda site: site.write(sales="sources: [\n"),
    "a file cut off": lambda site: site.write(sales=domain(row("b")) + "  - {name: a, kin"),
    "an empty file": lambda site: site.write(sales=""),
    "comments only": lambda site: site.write(sales="# sources:\n"),
    "a file without sources": lambda site: site.write(sales="version: 1\nsources:\n"),
    "no map": lambda site: site.write(sales="- a\n"),
    "another version": lambda site: site.write(sales="version: 2\n" + domain(row("a"), row("b"))),
    "not UTF-8": lambda site: (site.inventory / "sales.yaml").write_bytes(b"sources: [\xff]\n"),
    "another ending": lambda site: (site.inventory / "sales.yaml").rename(site.inventory / "sales.yml"),
    "no files": lambda site: (site.inventory / "sales.yaml").unlink(),
    "no folder": lambda site: shutil.rmtree(site.inventory),
    "broken defaults": lambda site: site.write(defaults="owner: [\n"),
    "wrong defaults": lambda site: site.write(defaults="schedule: oops\n"),
    "a broken platform": lambda site: site.write(platform="lakes: 3\n"),
}


@pytest.mark.parametrize("accident", ACCIDENTS)
@pytest.mark.parametrize("lost", [False, True], ids=["running", "restarted without snapshots"])
def test_an_accident_retires_nothing(accident: str, lost: bool, site: Site, ledger: Ledger) -> None:
    bundle = started(site)
    ACCIDENTS[accident](site)
    if lost:
        shutil.rmtree(site.snapshots)
        bundle = site.bundle()
    bundle.refresh()
    assert ledger.sources.records() == ()
    assert ledger.sources.known("inv").keys() == {"sales.a", "sales.b"}
    if accident in ("an empty file", "comments only", "a file without sources") and not lost:
        assert shown(bundle) == {A, B} and len(errors(bundle)) == 1


def test_sources_that_are_said_to_be_none_are_meant(site: Site) -> None:
    bundle = started(site)
    site.write(sales="sources: []\n")
    bundle.refresh()
    assert (set(retired(bundle)), shown(bundle)) == ({A, B}, set())


def test_much_at_once_is_taken_for_an_accident(site: Site, monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    site.write(big=domain(*(row(f"r{n}") for n in range(40))), sales=domain(row("a"), row("b")))
    bundle = started(site)
    before = shown(bundle)
    site.write(big=domain(*(row(f"r{n}") for n in range(29))), sales=domain(row("a"), row("b"), row("c")))
    for again in (bundle, site.bundle()):
        again.refresh()
        assert shown(again) == before and retired(again) == {} and ledger.sources.records() == ()
        (message,) = errors(again).values()
        assert "Cannot retire 11 of 42 sources at once: big.r29, big.r30" in message and "-> at most 10" in message
    monkeypatch.setenv("AIRFLOW__DATAOPS__RETIRE_MOST_PERCENT", "50")  # no restart, no edit
    bundle.refresh()
    assert len(retired(bundle)) == 11 and "ingest__sales__c" in shown(bundle) and errors(bundle) == {}


def test_what_is_too_much_comes_back(site: Site) -> None:
    whole = domain(*(row(f"r{n}") for n in range(40)))
    site.write(big=whole)
    bundle = started(site)
    before = bundle.get_current_version()
    (site.inventory / "big.yaml").unlink()
    bundle.refresh()
    assert len(errors(bundle)) == 1
    site.write(big=whole)
    bundle.refresh()
    assert (errors(bundle), bundle.get_current_version()) == ({}, before)


@pytest.mark.parametrize(
    ("known", "limits", "most"),
    [(4, Limits(100, 25), 5), (40, Limits(100, 25), 10), (10_000, Limits(100, 25), 100), (3, Limits(1, 1), 1)],
)
def test_the_limit_is_the_stricter_of_number_and_share(known: int, limits: Limits, most: int) -> None:
    assert limits.most(known) == most


def test_a_renamed_row_is_no_removal_and_its_old_dag_says_so(site: Site, ledger: Ledger) -> None:
    bundle = started(site)
    site.write(sales=domain(row("aa", "renamed_from: a", database="d_a"), row("b")))
    bundle.refresh()
    assert shown(bundle) == {"ingest__sales__aa", B}
    assert "the source is called sales.aa now" in (retired(bundle)[A].doc_md or "")
    assert ledger.sources.former_ids() == {"sales.a": "sales.aa"} and ledger.sources.state_id("sales.aa") == "sales.a"
    site.write(sales=domain(row("aa", database="d_a"), row("b")))  # its work is done
    bundle.refresh()
    assert shown(bundle) == {"ingest__sales__aa", B} and ledger.sources.state_id("sales.aa") == "sales.a"
    site.write(sales=domain(row("a"), row("b")))  # and back
    bundle.refresh()
    assert shown(bundle) == {A, B}
    assert ledger.sources.former_ids() == {"sales.aa": "sales.a"} and ledger.sources.state_id("sales.a") == "sales.a"


def test_a_rename_that_comes_after_the_removal_still_carries(site: Site, ledger: Ledger) -> None:
    bundle = started(site)
    site.write(sales=domain(row("aa", "renamed_from: a, kindd: x"), row("b")))
    bundle.refresh()
    assert "is not in the inventory any more" in (retired(bundle)[A].doc_md or "")
    site.write(sales=domain(row("aa", "renamed_from: a"), row("b")))
    bundle.refresh()
    assert "the source is called sales.aa now" in (retired(bundle)[A].doc_md or "")
    assert ledger.sources.state_id("sales.aa") == "sales.a"


def test_a_rename_of_many_is_no_accident(site: Site, ledger: Ledger) -> None:
    site.write(big=domain(*(row(f"r{n}") for n in range(40))))
    bundle = started(site)
    site.write(big=domain(*(row(f"s{n}", f"renamed_from: r{n}", database=f"d_r{n}") for n in range(40))))
    bundle.refresh()
    assert len(retired(bundle)) == 40 and len(ledger.sources.former_ids()) == 40 and errors(bundle) == {}


def test_a_name_that_was_given_up_is_not_free(site: Site) -> None:
    bundle = started(site)
    site.write(sales=domain(row("aa", "renamed_from: a", database="d_a"), row("b")))
    bundle.refresh()
    site.write(sales=domain(row("aa", database="d_a"), row("b"), row("a", database="new")))
    bundle.refresh()
    assert shown(bundle) == {"ingest__sales__aa", B}
    assert "was renamed to sales.aa" in errors(bundle)["sales__a"]


def test_a_name_with_tables_of_its_own_cannot_take_over_others(site: Site, ledger: Ledger) -> None:
    from tests.ledger.actors import asking

    bundle = started(site)
    ledger.batches.claim(asking(table_key="sales.b:x -> b.x", source_id="sales.b"))
    site.write(sales=domain(row("b", "renamed_from: a")))
    bundle.refresh()
    assert shown(bundle) == set() and ledger.sources.former_ids() == {}
    assert "sales.b has tables of its own" in errors(bundle)["sales__b"]
    assert "is not in the inventory any more" in (retired(bundle)[A].doc_md or "")


def test_of_two_old_names_that_are_back_the_first_has_the_state(site: Site, ledger: Ledger) -> None:
    bundle = started(site)
    for name, former in (("aa", "a"), ("aaa", "aa")):
        site.write(sales=domain(row(name, f"renamed_from: {former}", database="d_a"), row("b")))
        bundle.refresh()
    site.write(sales=domain(row("a"), row("aa"), row("b")))
    bundle.refresh()
    assert shown(bundle) == {A, B} and "was renamed to sales.a" in errors(bundle)["sales__aa"]
    assert ledger.sources.former_ids() == {"sales.aa": "sales.a", "sales.aaa": "sales.a"}


def test_names_back_and_forth_in_one_life(site: Site, ledger: Ledger) -> None:
    bundle, before = started(site), "a"
    for name in ("aa", "a", "aa", "aaa", "a", "aa"):
        site.write(sales=domain(row(name, f"renamed_from: {before}", database="d_a"), row("b")))
        bundle.refresh()
        assert errors(bundle) == {} and shown(bundle) == {f"ingest__sales__{name}", B}
        assert set(ledger.sources.former_ids().values()) == {f"sales.{name}"}
        assert ledger.sources.state_id(f"sales.{name}") == "sales.a"
        before = name


class Crash(Exception):
    """The process ends here."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("of", "effect"), [(SqlSources, "carry"), (SqlSources, "apply"), (Snapshots, "publish"), (InventoryBundle, "_show")]
)
def test_killed_around_any_effect_the_next_process_goes_on(
    of: type, effect: str, after: bool, site: Site, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit that removes one row and renames another."""
    site.write(sales=domain(row("a"), row("b"), row("c")))
    bundle = started(site)
    site.write(sales=domain(row("bb", "renamed_from: b", database="d_b"), row("c")))
    real = getattr(of, effect)

    def crash(*args: Any, **options: Any) -> None:
        if after:
            real(*args, **options)
        raise Crash

    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(of, effect, crash)
        bundle.refresh()
    with site.machine("two" if effect == "_show" else "main"):
        bundle = started(site)
    assert (set(retired(bundle)), shown(bundle)) == ({A, B}, {"ingest__sales__bb", "ingest__sales__c"})
    told = {r.source_id: (r.state, r.renamed_to) for r in ledger.sources.records()}
    assert told == {"sales.a": ("retired", None), "sales.b": ("retired", "sales.bb")}
    assert ledger.sources.former_ids() == {"sales.b": "sales.bb"}


def test_a_ledger_that_is_down_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = started(site)
    site.write(sales=domain(row("b"), row("c")))
    with monkeypatch.context() as down:
        down.setenv("AIRFLOW__DATAOPS__LEDGER", "postgresql://nobody:secret@127.0.0.1:1/x")
        restarted = site.bundle()
        restarted.refresh()
        assert shown(restarted) == {A, B}
        assert "its last good state stays" in caplog.text and "secret" not in caplog.text
    bundle.refresh()
    assert (set(retired(bundle)), shown(bundle)) == ({A}, {B, "ingest__sales__c"})


_EXAMPLES = itertools.count()
_NAMES = "abcde"  # as many as may always go at once


@pytest.fixture(scope="module")
def one_ledger() -> Iterator[Ledger]:
    """For all examples: each has a bundle and a domain of its own."""
    opened = open_ledger("sqlite://")
    yield opened
    opened.close()


@settings(max_examples=25)
@given(
    edits=st.lists(
        st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(["good", "edited", "bad"]), max_size=6), min_size=1, max_size=8
    ),
    restarts=st.sets(st.integers(0, 7)),
)
def test_whatever_is_edited_active_is_what_is_good_and_retired_is_what_is_gone(
    edits: list[dict[str, str]], restarts: set[int], one_ledger: Ledger, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Law: after every edit each id that was ever good is exactly one of active, bad, retired."""
    example = f"d{next(_EXAMPLES)}"
    cache = tmp_path_factory.getbasetemp() / "units"
    more = {"good": "", "edited": "tags: [edited]", "bad": "scheduel: x"}
    state, ever = DesiredState(example, ledger=one_ledger), set()
    for number, rows in enumerate(edits):
        if number in restarts:
            state = DesiredState(example, ledger=one_ledger)
        text = domain(*(row(name, more[how]) for name, how in rows.items())) if rows else "sources: []\n"
        fleet = state.take(compiled(cache, **{example: text}), set())
        good = {name for name, how in rows.items() if how != "bad"}
        ever |= good
        gone = {row.id.partition(".")[2] for row in fleet.rows.values() if '"retired"' in row.text}
        assert {row.id.partition(".")[2] for row in fleet.rows.values()} - gone == good
        assert gone == ever - rows.keys()
        assert len(fleet.problems) == len(rows) - len(good) and state.is_shown()


def test_the_plan_is_nothing_for_what_is_known(tmp_path: Path) -> None:
    fleet: CompiledFleet = compiled(tmp_path, sales=domain(row("a"), row("b")))
    known = {row.id: row.text for row in fleet.rows.values()}
    plan = plan_retirement(fleet, known, (), Limits(1, 1), 0.0)
    assert (plan.shown, plan.gone, plan.renames) == ({}, (), ())
    many = known | {f"sales.r{n}": "{}" for n in range(7)}
    with pytest.raises(TooManyGoneError, match="Cannot retire 7 of 9 sources at once"):
        plan_retirement(fleet, many, (), Limits(100, 25), 0.0)
    assert issubclass(TooManyGoneError, InventoryError)
