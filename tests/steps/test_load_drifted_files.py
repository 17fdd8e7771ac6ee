"""Files of one table that drifted apart, through the whole load: what the lake then holds, and that it is proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.steps.test_load_files import NEW, put
from tests.steps.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "in").mkdir()
    return World(tmp_path, kind="files", options={"path": "in/*"})


def known(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """A struct without the fields that are NULL: files of before have none of them."""
    return None if value is None else {name: item for name, item in value.items() if item is not None}


def test_nested_json_is_loaded_a_second_time_by_the_names_of_the_lake(world: World) -> None:
    spec = world.spec(**NEW)
    put(world, "1.json", '[{"orderId": 1, "shipTo": {"zipCode": "01234"}}]')
    assert world.load(spec, "src").error is None
    put(world, "2.json", '[{"orderId": 2, "shipTo": {"zipCode": "5", "Country": "DE"}}, {"OrderID": 3, "shipto": null}]')
    assert world.load(spec, "src").error is None
    rows = sorted((r["orderid"], known(r["shipto"])) for r in world.visible(spec, "src"))
    assert rows == [(1, {"zipcode": "01234"}), (2, {"zipcode": "5", "country": "DE"}), (3, None)]


@pytest.mark.parametrize("mode", ["full", "new_files"])
def test_parquet_whose_structs_grew_keeps_every_value(world: World, mode: str) -> None:
    spec = world.spec(**NEW) if mode == "new_files" else world.spec()
    for n, person in enumerate([{"Name": "Ann"}, {"City": "Ulm", "Name": "Bob"}]):
        pq.write_table(pa.table({"id": [n], "Who": [person]}), world.folder / "in" / f"{n}.parquet")
        result = world.load(spec, "src")
        assert (result.error, result.accounting.rows_dead_lettered) == (None, 0)
    rows = sorted((r["id"], known(r["who"])) for r in world.visible(spec, "src"))
    assert rows == [(0, {"name": "Ann"}), (1, {"name": "Bob", "city": "Ulm"})]


@pytest.mark.parametrize(("policy", "counts"), [("evolve", ("held", 0, 0)), ("discard_row", ("loaded", 1, 1))])
def test_a_new_file_of_another_type_is_for_the_contract(world: World, policy: str, counts: tuple[str, int, int]) -> None:
    spec = world.spec(**NEW, contract={"types": policy}, dead_letters={"max_share": 1.0})
    pq.write_table(pa.table({"v": [1]}), world.folder / "in" / "1.parquet")
    assert world.load(spec, "src").outcome == "loaded"
    pq.write_table(pa.table({"v": ["2", "x"]}), world.folder / "in" / "2.parquet")
    result = world.load(spec, "src")
    assert (result.outcome, result.accounting.rows_written, result.accounting.rows_dead_lettered) == counts, result.error


def test_the_newest_of_nanoseconds_wins(world: World) -> None:
    spec = world.spec(read={"mode": "new_files"}, write={"mode": "merge", "keys": ["id"], "order_by": "at"})
    moments = pa.array([1_000_000_001, 1_000_000_003, 1_000_000_002], pa.timestamp("ns"))
    pq.write_table(pa.table({"id": [1, 1, 1], "at": moments, "name": ["a", "c", "b"]}), world.folder / "in" / "1.parquet")
    result = world.load(spec, "src")
    assert (result.error, result.accounting.rows_written, result.accounting.rows_deduplicated) == (None, 1, 2)
    stored = [file for file in (world.folder / "lake").rglob("*.parquet") if file.parent.name == "d"]
    assert [pq.ParquetFile(file).read(columns=["name"]).to_pylist() for file in stored] == [[{"name": "c"}]]
