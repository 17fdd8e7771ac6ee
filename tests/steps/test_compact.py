"""Compaction and rewrite: fewer files, the same rows, and nobody who reads or writes notices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airflow_dataops.core.errors import DataOpsError
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints
from airflow_dataops.steps import compact as compacting
from airflow_dataops.steps.maintain import Limits, TableMaintained, maintain_table
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests.steps.effects import Killed, Stage
from tests.steps.traces import DEAD, GRACE, LEASE, Traced, asleep, dying, rows_of

APPEND = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}
MERGE = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "merge", "keys": ["id"]}}
DAYS = {"read": {"mode": "window", "cursor": "at"}, "write": {"mode": "append"}}


def on(day: str) -> datetime:
    return datetime.fromisoformat(f"{day} 10:00:00")


def appended(folder: Path, row: dict[str, Any] | None = None, files: int = 6) -> Traced:
    """A table of so many loads, a file each."""
    world = Traced(folder, row or APPEND)
    for n in range(1, files + 1):
        world.put(*((i, f"v{i}") for i in range(1, n + 1)))
        world.loads(f"r{n}")
    return world


def maintain(world: Traced, stage: Stage | None = None, **limits: Any) -> TableMaintained:
    return maintain_table(world.table, world.edges(stage), Limits(**limits))


def files_of(world: Traced) -> list[str]:
    return [entry.path.rsplit("/", 1)[-1] for entry in world.lake.list(world.decided().location)]


def proved(world: Traced) -> None:
    assert verify(world.spec, world.edges(), ["orders"]).ok
    assert world.ledger.batches.unfinished() == ()


def test_many_small_files_become_one_with_the_same_rows(tmp_path: Path) -> None:
    world = appended(tmp_path)
    before, rows, old = world.decided(), world.visible(), world.planned()
    done = maintain(world)
    assert [(p.outcome, p.why, p.files_before, p.files_after, p.rows) for p in done.partitions] == [
        ("compacted", "small_files", 6, 1, 6)
    ]
    now = world.decided()
    assert (now.rows, now.fingerprint, now.epoch) == (before.rows, before.fingerprint, before.epoch + 1)
    assert len(files_of(world)) == 1 and world.visible() == rows and now.location != before.location
    assert world.ledger.maintenance.facts(world.table.key)[""].count == 1
    proved(world)
    assert not maintain(world).changed
    # A query that was planned before reads on; after the grace nobody can.
    world.expire()
    assert rows_of(old) == rows
    world.clock.wait(GRACE)
    world.expire()
    assert not any(file.exists() for file in old)
    assert world.visible() == rows
    assert world.ledger.decisions.marked() == ()


def test_what_is_large_is_linked_and_few_small_files_are_left(tmp_path: Path) -> None:
    world = appended(tmp_path, files=4)
    assert not maintain(world).changed
    sizes = {e.path: e.bytes for e in world.lake.list(world.decided().location)}
    large = max(sizes.values()) + 1
    files = [compacting.StandingFile(f"f{n}", size, "{}", False) for n, size in enumerate([10, 10, 10, 10, large, 10])]
    table = Traced(tmp_path / "other", APPEND | {"target": {"file_bytes": 1_048_576}}).table
    big = [f if f.bytes == 10 else compacting.StandingFile(f.path, 800_000, "{}", False) for f in files]
    plan = compacting.plan_compaction(table, world.decided(), big, {})
    assert plan is not None
    assert [f.path for f in plan.kept] == ["f4"] and [[f.path for f in group] for group in plan.groups] == [
        ["f0", "f1", "f2", "f3", "f5"]
    ]
    assert compacting.plan_compaction(table, world.decided(), big[1:], {}) is None


def test_files_that_are_hidden_in_other_ways_stay_apart() -> None:
    table = Traced(Path("/nowhere"), APPEND).table
    masked = [compacting.StandingFile(f"m{n}", 10, '{"v": "mask"}', False) for n in range(3)]
    open_ = [compacting.StandingFile(f"o{n}", 10, "{}", False) for n in range(3)]
    alone = compacting.StandingFile("a", 10, '{"v": "absent"}', False)
    decision: Any = None
    plan = compacting.plan_compaction(table, decision, [*masked, alone, *open_], {})
    assert plan is not None and [len(group) for group in plan.groups] == [3, 3] and plan.kept == (alone,)


@pytest.mark.parametrize("row", [APPEND, MERGE], ids=["append", "merge"])
def test_loads_go_on_after_it(tmp_path: Path, row: dict[str, Any]) -> None:
    world = appended(tmp_path, row)
    maintain(world)
    world.put(*((i, f"v{i}") for i in range(1, 9)))
    assert world.loads("r9").accounting.rows_written == 2
    assert world.visible() == [(i, f"v{i}") for i in range(1, 9)]
    proved(world)


def test_a_row_tied_with_the_watermark_is_known_in_compacted_files(tmp_path: Path) -> None:
    world = appended(tmp_path)
    maintain(world)
    world.put(*((i, f"v{i}") for i in range(1, 7)), (6, "late"))
    assert world.loads("r9").accounting.rows_written == 1
    assert world.loads("r10").outcome == "nothing_new"
    assert world.visible() == sorted([*((i, f"v{i}") for i in range(1, 7)), (6, "late")])


def of_days(folder: Path, days: int = 6) -> Traced:
    """Windows of a day each in one table without partitions: a batch can be run again."""
    world = Traced(folder, DAYS)
    for n in range(1, days + 1):
        world.put(*((i, on(f"2023-05-0{i}")) for i in range(1, n + 1)), columns=("id", "at"))
        world.loads(f"r{n}", period=f"2023-05-0{n}")
    return world


@pytest.mark.parametrize("compactions", [1, 2])
def test_a_batch_that_runs_again_replaces_its_rows_in_compacted_files(tmp_path: Path, compactions: int) -> None:
    world = of_days(tmp_path)
    maintain(world)
    if compactions == 2:
        for n in range(10, 15):
            world.put((n, on(f"2023-05-{n}")), columns=("id", "at"))
            world.loads(f"r{n}", period=f"2023-05-{n}")
        assert maintain(world).partitions[0].outcome == "compacted"
    rest = [row for row in world.visible() if row[0] != 3]
    world.put((33, on("2023-05-03")), (34, on("2023-05-03")), columns=("id", "at"))
    again = world.loads("cleared", period="2023-05-03")
    assert (again.generation, again.accounting.rows_written) == (2, 2)
    assert sorted(world.visible()) == sorted([*rest, (33, on("2023-05-03")), (34, on("2023-05-03"))])
    proved(world)


def test_a_batch_that_runs_again_by_watermark_is_not_taken_for_known(tmp_path: Path) -> None:
    """Its own rows of the first generation are about to be replaced: they are no reason to leave rows out."""
    world = appended(tmp_path)
    maintain(world)
    known = next(b for b in world.batches() if b.range.high == 6)
    edges = world.edges()
    shared = [e.path for e in edges.lake.list(world.decided().location)]
    assert shared and all("compact-" in path for path in shared)
    from airflow_dataops.core.drift_plan import plan_drift
    from airflow_dataops.steps.overlap import stored_since
    from airflow_dataops.steps.target import current_table, data_schema

    plan = plan_drift(None, data_schema(current_table(edges, world.table)), world.table.contract)
    actions = dict.fromkeys(plan.names, "keep")

    def stored(but: str | None) -> int:
        found = stored_since(world.table, "id", 5, plan, actions, edges, but_batch=but)
        return sum(n for counts in found.found.values() for n in counts.values())

    assert (stored(None), stored("another"), stored(known.batch_id)) == (2, 2, 1)


def test_rows_that_do_not_say_their_batch_stay_in_their_own_files(tmp_path: Path) -> None:
    world = appended(tmp_path, APPEND | {"standards": {"batch_id": False}})
    before = world.decided()
    (part,) = maintain(world).partitions
    assert (part.outcome, part.error_code) == ("left", "inventory")
    assert world.decided() == before
    left = {file.parts[-2] for file in (tmp_path / "lake").rglob("*.parquet")}
    assert not any(name.startswith("compact") for name in left)


def test_a_damaged_file_is_never_replaced(tmp_path: Path) -> None:
    world = appended(tmp_path)
    before, victim = world.decided(), world.planned()[0]
    table = pq.ParquetFile(victim).read()
    index = table.schema.get_field_index("v")
    changed = table.set_column(index, table.schema.field(index), [["forged"]])
    pq.write_table(changed.replace_schema_metadata(pq.read_schema(victim).metadata), victim)
    (part,) = maintain(world).partitions
    assert (part.outcome, part.error_code) == ("failed", "proof"), part
    assert world.decided() == before and victim.exists()
    assert not list((tmp_path / "lake").rglob("compact-*"))


def test_a_live_claim_keeps_it_away_and_a_dead_one_does_not(tmp_path: Path) -> None:
    world = appended(tmp_path)
    world.put(*((i, f"v{i}") for i in range(1, 8)))
    with dying("before ledger.batches.freeze") as stage:
        world.load("r7", stage)
    before = world.decided()
    done = maintain(world)
    assert [p.outcome for p in done.partitions] == ["busy"] and done.more and world.decided() == before
    world.clock.wait(LEASE)
    assert [p.outcome for p in maintain(world).partitions] == ["compacted"]
    assert world.loads("r7").accounting.rows_written == 1
    assert world.visible() == [(i, f"v{i}") for i in range(1, 8)]


DECIDING = ["ledger.maintenance.place", "lake.open_file", "ledger.maintenance.move"]
EFFECTS = [*DECIDING, "ledger.decisions.mark", "catalog.put_partitions", "ledger.decisions.clear_marks"]


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("row", [APPEND, MERGE], ids=["a12 append", "a13 merge"])
def test_a12_a13_whoever_comes_in_between_loses_no_row(
    tmp_path: Path, row: dict[str, Any], effect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load comes, whole, before each effect of the compaction."""
    monkeypatch.setattr(compacting, "FEWEST_FILES", 2)  # a merge leaves two: what stood, and the delta
    world = appended(tmp_path, row)
    world.put(*((i, f"v{i}") for i in range(1, 8)))
    with asleep(f"before {effect}", lambda: world.loads("r7")) as stage:
        done = maintain(world, stage)
    early = effect in DECIDING
    assert [p.outcome for p in done.partitions] == ["overtaken" if early else "compacted"]
    assert world.visible() == [(i, f"v{i}") for i in range(1, 8)]
    proved(world)
    world.clock.wait(DEAD)
    assert [p.outcome for p in maintain(world).partitions] in (["compacted"], [])
    assert world.visible() == [(i, f"v{i}") for i in range(1, 8)]
    proved(world)


@pytest.mark.parametrize("row", [APPEND, MERGE], ids=["append", "merge"])
def test_a12_a13_a_load_that_a_compaction_overtakes_builds_on_it(
    tmp_path: Path, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is over and it lives on: the compaction takes it for dead, and changes nothing that it does not see."""
    monkeypatch.setattr(compacting, "FEWEST_FILES", 2)
    world = appended(tmp_path, row)
    world.put(*((i, f"v{i}") for i in range(1, 8)))

    def compact() -> None:
        world.clock.wait(LEASE)
        assert [p.outcome for p in maintain(world).partitions] == ["compacted"]

    with asleep("before ledger.batches.freeze", compact) as stage:
        world.loads("r7", stage)
    assert world.visible() == [(i, f"v{i}") for i in range(1, 8)]
    proved(world)


def seen(world: Traced) -> Callable[[int, str], None]:
    rows = world.visible()

    def look(_: int, name: str) -> None:
        assert world.visible() == rows, name

    return look


def test_a_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    world = appended(tmp_path)
    stage = Stage(seen(world))
    maintain(world, stage)
    assert stage.count > 10 and len(files_of(world)) == 1


def effects(folder: Path) -> list[str]:
    stage = Stage(lambda *_: None)
    maintain(appended(folder), stage)
    return stage.names


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.soak)])
def test_dead_between_any_two_effects(tmp_path: Path, every: int) -> None:
    """Readers see all rows; the sweep shows what was decided, the next round does the rest, and nothing is left in the lake."""
    names = effects(tmp_path / "calm")
    assert len(names) >= 12
    for number in range(0, len(names), every):
        world = appended(tmp_path / f"w{number}")
        rows = world.visible()

        def die(reached: int, name: str, at: int = number) -> None:
            if reached >= at:
                raise Killed(name)

        with pytest.raises(Killed):
            maintain(world, Stage(die))
        assert world.visible() == rows, names[number]
        world.put(*((i, f"v{i}") for i in range(1, 8)))
        world.loads("r7")  # sweeps first
        assert maintain(world).error is None
        world.clock.wait(DEAD)
        sweep_table(world.table, world.edges())
        world.clock.wait(GRACE)
        world.expire()
        assert world.visible() == [(i, f"v{i}") for i in range(1, 8)], names[number]
        proved(world)
        assert world.ledger.decisions.marked() == ()
        kept = {str(file) for file in (world.folder / "lake").rglob("*.parquet")}
        assert kept == {str(file) for file in world.planned()}, names[number]


def test_a_round_stops_at_its_bytes_and_the_next_goes_on(tmp_path: Path) -> None:
    world = appended(tmp_path, APPEND | {"target": {"partition_by": [{"name": "p", "from": "column:v"}]}}, files=1)
    for n in range(2, 8):
        world.put(*((i, part) for i in range(1, n + 1) for part in ("a", "b")))
        world.loads(f"n{n}")
    first = maintain(world, bytes=1)
    assert [p.partition for p in first.partitions] == ["p=a"] and first.more
    second = maintain(world, bytes=1)
    assert [p.partition for p in second.partitions] == ["p=b"] and not second.more
    proved(world)


def test_values_are_what_is_proved_not_metadata(tmp_path: Path) -> None:
    world = appended(tmp_path)
    maintain(world)
    (file,) = world.planned()
    table = pq.ParquetFile(file).read()
    assert str(Fingerprint.of(row_fingerprints(table))) == world.decided().fingerprint
    assert set(table.column("_batch_id").to_pylist()) == {b.batch_id for b in world.batches()}


def test_what_the_product_does_not_know_is_raised(tmp_path: Path) -> None:
    world = appended(tmp_path)

    def full(_: int, name: str) -> None:
        if name == "before ledger.maintenance.move":
            raise DataOpsError("disk full")

    (part,) = maintain(world, Stage(full)).partitions
    assert part.outcome == "failed" and not list((tmp_path / "lake").rglob("compact-*"))
