"""Dead letters go on: through the contract of now, into their partition, exactly once."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.core.batch_id import batch_id, origin_of
from airflow_dataops.core.offset import Letters
from airflow_dataops.core.privacy import digest_text
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import table_spec
from airflow_dataops.ledger.sources_base import Retirement
from airflow_dataops.steps.build import own_rows
from airflow_dataops.steps.letter_expiry import expire_letters
from airflow_dataops.steps.letter_file import DeadLetterFile, read_letters
from airflow_dataops.steps.sweep import sweep_table
from airflow_dataops.steps.verify import verify
from tests.steps.effects import Killed, Watched, die_at
from tests.steps.letters import letters, replayed, states
from tests.steps.world import World, ids

NEW = {"read": {"mode": "new_files"}, "write": {"mode": "append"}, "dead_letters": {"max_share": 1.0}}
DT = {"target": {"partition_by": [{"name": "dt", "from": "period_start"}]}}
BY_ID = {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "append"}}


@pytest.fixture
def files(tmp_path: Path) -> World:
    world = World(tmp_path / "w", kind="files", options={"path": "in", "table_from": "source"})
    (world.folder / "in").mkdir()
    return world


def proved(world: World, spec: PipelineSpec, table: str) -> None:
    edges = world.edges(spec)
    verify(spec, edges, [table]).raise_for_problems("the test")
    target = table_spec(spec, table)
    sweep_table(target, replace(edges, dead_after_seconds=0))  # marks of the dead stay until nobody can still be alive
    key = target.key
    assert edges.ledger.batches.unfinished(key) == ()
    assert edges.ledger.decisions.marked(key) == ()


def test_a_record_goes_on_when_the_contract_lets_it(files: World) -> None:
    """A CSV line whose amount is no number goes into its period's partition once amounts are text; with where it stood."""
    spec = files.spec(**NEW, **DT)
    (files.folder / "in" / "a.csv").write_text("id,amount\n1,1.50\n2,2.50\n")
    assert files.load(spec, "src", "2024-04-30").error is None
    (files.folder / "in" / "b.csv").write_text("id,amount\n" + "".join(f"{n},{n}.50\n" for n in range(3, 21)) + "21,n/a\n")
    first = files.load(spec, "src", "2024-05-01")
    assert (first.accounting.rows_written, first.accounting.rows_dead_lettered) == (18, 1), first
    again = replayed(files, spec)
    assert (again.failed_again, again.batches[0].outcome) == (1, "unchanged")
    assert states(files) == [("open", "value_does_not_fit", 2)]
    (files.folder / "in" / "c.csv").write_text("id,amount\n30,x\n")
    widened = files.spec(**NEW, **DT, contract={"to_string": "widen"})
    assert files.load(widened, "src", "2024-05-02").error is None
    done = replayed(files, widened)
    assert (done.failed_again, done.batches[0].accounting.rows_written) == (0, 1), done
    shown = {row["id"]: (row["amount"], row["dt"]) for row in files.visible(widened, "src")}
    assert shown[21] == ("n/a", "2024-05-01")
    assert [(letter.state, letter.attempts, letter.changed_by) for letter in letters(files)] == [("replayed", 2, "replay/ann/1")]
    assert replayed(files, widened).batches == ()
    proved(files, widened, "src")


MODES = {
    "full": {},
    "full by period": DT,
    "full by column": {"target": {"partition_by": [{"name": "p", "from": "column:name"}]}},
    "append": BY_ID,
    "append by period": {**BY_ID, **DT},
    "merge": {"read": {"mode": "watermark", "cursor": "id"}, "write": {"mode": "merge", "keys": ["id"]}},
}
STRICT = {"contract": {"columns": "discard_row"}, "dead_letters": {"max_share": 1.0}}
DAY = "2024-05-01"


def with_a_letter(world: World, row: dict[str, Any]) -> PipelineSpec:
    """Order 4 came with a city, which the contract refused: a letter. Returns the row with a contract that takes it."""
    strict = world.spec(**STRICT, **row)
    assert world.load(strict, "orders", DAY).error is None
    world.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (4,'d',4.25,'Oslo')")
    second = world.load(strict, "orders", DAY)
    assert (second.error, second.accounting.rows_dead_lettered) == (None, 1)
    assert states(world) == [("open", "contract_columns", 1)]
    return world.spec(dead_letters={"max_share": 1.0}, **row)


@pytest.fixture
def shop(tmp_path: Path) -> World:
    world = World(tmp_path / "w")
    world.sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, amount DECIMAL(10,2))",
        "INSERT INTO orders VALUES (1,'a',1.5),(2,'b',NULL),(3,'c',3)",
    )
    return world


@pytest.mark.parametrize("mode", MODES)
def test_a_row_of_a_database_goes_on_in_every_mode(shop: World, mode: str) -> None:
    """It is stored whole, with the column that it brings, beside what was there; once."""
    spec = with_a_letter(shop, MODES[mode])
    before = shop.visible(spec, "orders")
    result = replayed(shop, spec)
    assert (result.failed_again, result.left, len(result.batches)) == (0, 0, 1), result
    after = shop.visible(spec, "orders")
    assert ids(after) == [1, 2, 3, 4]
    (new,) = [row for row in after if row["id"] == 4]
    assert (new["name"], str(new["amount"]), new["city"]) == ("d", "4.25", "Oslo")
    assert [row for row in after if row["id"] != 4] == [{**row, "city": None} for row in before]
    assert [state for state, _, _ in states(shop)] == ["replayed"]
    assert replayed(shop, spec, "replay/ann/2").batches == ()
    proved(shop, spec, "orders")


@pytest.mark.parametrize("mode", ["full", "full by period", "append by period"])
def test_a_batch_that_is_run_again_takes_its_replayed_rows_with_it(shop: World, mode: str) -> None:
    """The rerun reads the record itself: it must not stand there twice."""
    row = {"read": {"mode": "window", "cursor": "at"}, "write": {"mode": "append"}, **DT} if "append" in mode else MODES[mode]
    if "append" in mode:
        shop.sql("ALTER TABLE orders ADD COLUMN at TIMESTAMP", "UPDATE orders SET at='2024-05-01 10:00:00'")
        strict = shop.spec(**STRICT, **row)
        assert shop.load(strict, "orders", "2024-04-30").error is None
        shop.sql("ALTER TABLE orders ADD COLUMN city TEXT", "INSERT INTO orders VALUES (4,'d',4.25,'2024-05-01 11:00:00','Oslo')")
        shop.load(strict, "orders", DAY)
        spec = shop.spec(**row)
    else:
        spec = with_a_letter(shop, row)
    assert replayed(shop, spec).failed_again == 0
    assert ids(shop.visible(spec, "orders")) == [1, 2, 3, 4]
    again = shop.load(spec, "orders", DAY)
    assert again.error is None, again.error
    assert ids(shop.visible(spec, "orders")) == [1, 2, 3, 4]
    proved(shop, spec, "orders")


def test_letters_of_a_batch_that_was_run_again_are_never_replayed(shop: World) -> None:
    spec = with_a_letter(shop, MODES["full"])
    shop.sql("UPDATE orders SET name='newer' WHERE id=4")
    assert shop.load(spec, "orders", DAY).error is None
    assert [state for state, _, _ in states(shop)] == ["superseded"]
    assert replayed(shop, spec).batches == ()
    assert [row["name"] for row in shop.visible(spec, "orders") if row["id"] == 4] == ["newer"]


def test_rows_of_a_replay_are_told_in_files_of_many_batches() -> None:
    """Compacted files hold rows of several batches: a batch that runs again takes what was replayed of it out of them, too."""
    base = "0123456789abcdef"
    replay = batch_id("d.src:orders -> d.orders", Letters(base, 1, ((7, 1),)))
    assert own_rows(pa.array([base, replay, "fedcba9876543210", base[:-1]]), base).to_pylist() == [True, True, False, False]
    assert origin_of(f"{replay}-g1-00000.parquet") == base


def test_a_discarded_letter_stays_where_it_is(shop: World) -> None:
    spec = with_a_letter(shop, BY_ID)
    edges = shop.edges(spec)
    (letter,) = letters(shop)
    assert edges.ledger.dead_letters.discard([letter.id], "ann", "a test order") == (letter.id,)
    assert edges.ledger.dead_letters.discard([letter.id], "bob", "me too") == ()
    assert replayed(shop, spec).batches == ()
    (letter,) = letters(shop)
    assert (letter.state, letter.changed_by, letter.why) == ("discarded", "ann", "a test order")
    assert ids(shop.visible(spec, "orders")) == [1, 2, 3]


def test_a_record_that_died_twice_near_the_watermark_is_stored_once(shop: World) -> None:
    """The watermark is read again by each run: order 3 dies in the first and in the second."""
    shop.sql("UPDATE orders SET amount='n/a' WHERE id=3")
    spec = shop.spec(**BY_ID, dead_letters={"max_share": 1.0}, contract={"to_string": "widen"})
    shop.load(spec, "orders")
    shop.sql("INSERT INTO orders VALUES (4,'d',4)")
    shop.load(spec, "orders")
    assert [state for state, _, _ in states(shop)] == ["open", "open"]
    shop.sql("CREATE TABLE new (id INTEGER PRIMARY KEY, name TEXT, amount TEXT)", "INSERT INTO new SELECT * FROM orders WHERE id<4",
             "INSERT INTO new VALUES (5,'e','many')", "DROP TABLE orders", "ALTER TABLE new RENAME TO orders")  # fmt: skip
    assert shop.load(spec, "orders").error is None
    result = replayed(shop, spec)
    assert sum(b.accounting.rows_written for b in result.batches) == 1, result
    assert sum(b.accounting.rows_deduplicated for b in result.batches) == 1
    assert ids(shop.visible(spec, "orders")) == [1, 2, 3, 4, 5]


def test_records_whose_retention_is_over_are_deleted(shop: World) -> None:
    """The one nobody cared about is counted; the expiry that died after the index goes on with the files."""
    spec = with_a_letter(shop, BY_ID)
    short = spec.model_copy(update={"dead_letters": spec.dead_letters.model_copy(update={"retention_days": 2})})
    shop.sql("INSERT INTO orders VALUES (5,'e',5,'Rom')")
    edges = shop.edges(spec)
    assert expire_letters([short], edges.ledger, lambda _: nullcontext(edges), edges.clock()) == ()
    kept = list((shop.folder / "dead").rglob("*.parquet"))
    assert len(kept) == 1
    later = replace(edges, clock=lambda: time.time() + 3 * 86_400)
    assert expire_letters([spec], edges.ledger, lambda _: nullcontext(later), later.clock()) == ()
    dying = replace(later, dead_letters=Watched(die_at(0), "lake", later.dead_letters))
    with pytest.raises(Killed):
        expire_letters([short], edges.ledger, lambda _: nullcontext(dying), later.clock())
    (letter,) = letters(shop)
    assert (letter.state, letter.why) == ("expired", "its retention is over")
    assert kept[0].exists()
    (expired,) = expire_letters([short], edges.ledger, lambda _: nullcontext(later), later.clock())
    assert (expired.files, expired.error) == (1, None)
    assert not kept[0].exists()
    assert expire_letters([short], edges.ledger, lambda _: nullcontext(later), later.clock()) == ()
    assert replayed(shop, spec).batches == ()
    assert ids(shop.visible(spec, "orders")) == [1, 2, 3]


def test_letters_of_a_retired_source_go_by_its_last_row(shop: World) -> None:
    spec = with_a_letter(shop, BY_ID)
    short = spec.model_copy(update={"dead_letters": spec.dead_letters.model_copy(update={"retention_days": 2})})
    edges = shop.edges(spec)
    later = replace(edges, clock=lambda: time.time() + 3 * 86_400)

    def expired() -> list[tuple[str, int]]:
        return [(e.source_id, e.files) for e in expire_letters([], edges.ledger, lambda _: nullcontext(later), later.clock())]

    assert expired() == []  # nobody has shown its row
    edges.ledger.sources.apply("b", {spec.id: short.model_dump_json()}, [])
    assert expired() == []  # it is not retired
    edges.ledger.sources.apply("b", {}, [Retirement(spec.id, later.clock())])
    assert expired() == [(spec.id, 1)] and expired() == []
    assert not list((shop.folder / "dead").rglob("*.parquet"))


def test_old_letters_beside_data_are_not_deleted(shop: World) -> None:
    """Letters of before lay in their attempt's folder; whoever had made one place of lake and letters keeps both."""
    spec = with_a_letter(shop, BY_ID)
    (letter,) = letters(shop)
    (file,) = (shop.folder / "dead").rglob("*.parquet")
    old = file.parent.parent / "dead-000.parquet"
    file.rename(old)
    file.parent.rmdir()
    (old.parent / "data.parquet").write_bytes(b"data")
    edges = shop.edges(spec)
    folder = f"{old.parent.relative_to(shop.folder / 'dead')}/"
    with edges.ledger._database.write() as connection:
        for table in ("dataops_dead_letter", "dataops_letter_file"):
            connection.exec_driver_sql(f"UPDATE {table} SET file = '{folder}'")
    later = replace(edges, clock=lambda: time.time() + 40 * 86_400)
    (failed,) = expire_letters([spec], edges.ledger, lambda _: nullcontext(later), later.clock())
    assert failed.error_code == "foreign_change"
    assert old.exists()
    (old.parent / "data.parquet").unlink()
    found = read_letters(edges, folder, [0])
    assert found[0].reason == letter.reason
    (expired,) = expire_letters([spec], edges.ledger, lambda _: nullcontext(later), later.clock())
    assert (expired.files, old.exists()) == (1, False)


def test_more_letters_than_the_index_lists_are_all_replayed(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeadLetterFile, "KEEP", 3)
    monkeypatch.setattr("airflow_dataops.steps.replay.UNFOLD_LETTERS", 2)
    monkeypatch.setattr("airflow_dataops.steps.replay.LETTERS_PER_BATCH", 4)
    shop.load(shop.spec(**STRICT, **BY_ID), "orders")
    rows = ",".join(f"({n},'n',{n},'Oslo')" for n in range(10, 20))
    shop.sql("ALTER TABLE orders ADD COLUMN city TEXT", f"INSERT INTO orders VALUES {rows}")
    shop.load(shop.spec(**STRICT, **BY_ID), "orders")
    assert [(e.letters, e.rows, e.reason == "not_listed") for e in letters(shop)] == [(1, 1, False)] * 3 + [(7, 7, True)]
    spec = shop.spec(**BY_ID)
    folded = letters(shop)[-1].id
    result = replayed(shop, spec, ids=(folded,))
    assert sum(b.accounting.rows_written for b in result.batches) == 7
    result = replayed(shop, spec, "replay/ann/2")
    assert [b.accounting.rows_written for b in result.batches] == [3]
    assert ids(shop.visible(spec, "orders")) == [1, 2, 3, *range(10, 20)]
    proved(shop, spec, "orders")


def test_masked_columns_stay_masked_in_letters_of_files(files: World) -> None:
    """Line 3 is cut into its columns; line 4 cannot be, and is withheld. What is replayed is stored as any other row."""
    hidden = {"privacy": {"columns": {"name": "mask", "mail": "hash", "iban": "drop"}, "key_conn_id": "k"}}
    spec = files.spec(**NEW, **DT, **hidden)
    (files.folder / "in" / "a.csv").write_text("id,name,mail,iban,n\n1,Ann,ann@x.org,DE1,5\n2,Bob,bob@x.org,DE2,6\n3,,,,7\n")
    assert files.load(spec, "src", DAY).error is None
    (files.folder / "in" / "b.csv").write_text(
        "id,name,mail,iban,n\n4,Cid,cid@x.org,DE4,8\n5,Secretia,dora@x.org,DE555,n/a\n6,Secretus,fox@x.org\n7,Ed,ed@x.org,DE7,9\n"
    )
    done = files.load(spec, "src", DAY)
    assert (done.error, done.accounting.rows_dead_lettered) == (None, 2)
    kept = b"".join(f.read_bytes() for f in (files.folder / "dead").rglob("*.parquet"))
    edges = files.edges(spec)
    raws = []
    for letter in letters(files):
        raws.append(read_letters(edges, letter.file, [letter.place])[letter.place])
    for secret in (b"Secretia", b"Secretus", b"dora", b"fox", b"DE555"):
        assert secret not in kept
        assert all(secret not in letter.raw for letter in raws)
    assert raws[0].raw.startswith(b'"5","***","')
    assert raws[0].raw.endswith(b',"n/a"')
    assert [(letter.withheld, letter.can_replay, letter.source_offset) for letter in letters(files)] == [
        (False, True, 3), (True, False, 4),
    ]  # fmt: skip
    (files.folder / "in" / "c.csv").write_text("id,name,mail,iban,n\n8,G,g@x.org,DE8,x\n")
    widened = files.spec(**NEW, **DT, **hidden, contract={"to_string": "widen"})
    assert files.load(widened, "src", DAY).error is None
    result = replayed(files, widened)
    assert (result.failed_again, result.left) == (0, 1), result
    shown = {row["id"]: row for row in files.visible(widened, "src")}
    assert (shown[5]["name"], shown[5]["n"], shown[5]["mail"]) == ("***", "n/a", digest_text("dora@x.org", b"secret"))
    assert "iban" not in shown[5]
    open_again = files.spec(**NEW, **DT, contract={"to_string": "widen"})
    assert replayed(files, open_again, "replay/ann/2").batches == ()


def test_a_value_that_was_never_kept_is_not_made_up(shop: World) -> None:
    """The letter has a name as a mask; the row asks for its digest, or for the name itself, by now."""
    with_a_letter(shop, {**BY_ID, "privacy": {"columns": {"name": "mask"}}})
    for asked in ("hash", "keep"):
        spec = shop.spec(**BY_ID, privacy={"columns": {"name": asked}})
        assert replayed(shop, spec, f"replay/{asked}").failed_again == 1
        assert states(shop)[0][1] == "hidden_otherwise"
    dropped = shop.spec(**BY_ID, privacy={"columns": {"name": "drop"}})
    assert replayed(shop, dropped, "replay/drop").failed_again == 0
    assert [row["name"] for row in shop.visible(dropped, "orders") if row["id"] == 4] == [None]
