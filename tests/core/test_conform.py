"""A batch as its source gave it, and what is stored of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airflow_dataops.core.conform import Conformed, conform
from airflow_dataops.core.drift_plan import apply_drift, plan_drift
from airflow_dataops.core.errors import ConflictError, DriftHeldError
from airflow_dataops.core.fingerprint import Fingerprint, row_fingerprints
from airflow_dataops.core.row_json import rows_to_json
from airflow_dataops.core.schema import Column, TableSchema
from airflow_dataops.core.spec import ContractSpec
from airflow_dataops.core.types_text import type_from_text
from tests.core.arrow_values import batches
from tests.core.test_drift import contracts, drifted, first

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "conform" / "batches.yaml").read_text(encoding="utf-8"))
KNOWN = {"name", "contract", "table", "types", "source", "rows", "kept", "letters", "values_discarded"}


def batch_of(types: dict[str, str], rows: list[dict[str, Any]]) -> pa.RecordBatch:
    arrays = []
    for name, text in types.items():
        t = type_from_text(text)
        values = [row[name] for row in rows]
        if pa.types.is_binary(t):
            values = [None if v is None else v.encode() for v in values]
        is_written_as_text = pa.types.is_temporal(t) or pa.types.is_decimal(t)
        arrays.append(pa.array(values, pa.string()).cast(t) if is_written_as_text else pa.array(values, t))
    return pa.RecordBatch.from_arrays(arrays, names=list(types))


def table_of(types: dict[str, str] | None) -> TableSchema | None:
    return None if types is None else TableSchema(tuple(Column(n, type_from_text(t)) for n, t in types.items()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_batch(case: dict[str, Any]) -> None:
    assert set(case) <= KNOWN
    source, contract = batch_of(case["types"], case["source"]), ContractSpec(**case.get("contract", {}))
    plan = plan_drift(table_of(case.get("table")), TableSchema.of_arrow(source.schema), contract)
    result = conform(source, plan, contract, source_file="orders.csv")
    assert result.records.schema == plan.schema.to_arrow()
    assert [json.loads(row) for row in rows_to_json(result.records)] == case["rows"]
    assert (None if result.kept is None else result.kept.tolist()) == case.get("kept")
    assert result.values_discarded == case.get("values_discarded", 0)
    letters = [f"{d.reason} {d.column} {d.rows} {d.raw.decode()}" for d in result.dead_letters]
    assert letters == case.get("letters", [])
    assert all(d.source_file == "orders.csv" and d.message.startswith("Cannot store") for d in result.dead_letters)


def check(source: pa.RecordBatch, result: Conformed, schema: pa.Schema) -> None:
    """The laws: the table's schema exactly; every row in, out once; kept rows say where they came from."""
    result.records.validate(full=True)
    assert result.records.schema == schema
    lost = sum(letter.rows for letter in result.dead_letters)
    assert result.records.num_rows + lost == source.num_rows
    kept = np.arange(source.num_rows) if result.kept is None else result.kept
    assert len(kept) == result.records.num_rows == len(set(kept.tolist()))
    discarded = sum(len(json.loads(d.raw)["values"]) for d in result.dead_letters if d.rows == 0)
    assert discarded == result.values_discarded


@given(batches())
def test_a_first_load_keeps_every_value(source: pa.RecordBatch) -> None:
    plan = plan_drift(None, TableSchema.of_arrow(source.schema), ContractSpec())
    result = conform(source, plan, ContractSpec())
    check(source, result, plan.schema.to_arrow())
    if len(plan.schema):
        assert result.kept is None
        assert not [d for d in result.dead_letters if d.reason != "untyped_value"]
    for name, target in plan.names.items():
        if target in plan.schema and result.kept is None and pa.types.is_string(source.schema.field(name).type):
            assert result.records.column(target) == source.column(name)


@given(st.data(), batches(), contracts)
def test_no_row_and_no_value_gets_lost(data: st.DataObject, source: pa.RecordBatch, contract: ContractSpec) -> None:
    """Against any table that drift may have left behind."""
    table = first(data.draw(drifted(first(TableSchema.of_arrow(source.schema)))))
    plan = plan_drift(table, TableSchema.of_arrow(source.schema), contract)
    if plan.hold or plan.refuse:
        with pytest.raises(DriftHeldError):
            conform(source, plan, contract)
        return
    result = conform(source, plan, contract)
    check(source, result, apply_drift(table, plan).to_arrow())
    kept = range(source.num_rows) if result.kept is None else result.kept.tolist()
    left_out = {(d.column, place) for d in result.dead_letters if d.rows == 0 for place, _ in json.loads(d.raw)["values"]}
    for name, target in plan.names.items():
        for at, row in enumerate(kept):
            there = source.column(name)[row].is_valid
            stored = target in plan.schema and result.records.column(target)[at].is_valid
            assert stored or not there or (name, row) in left_out
            assert there or not stored


@given(batches())
def test_an_exact_copy_has_the_same_fingerprint(source: pa.RecordBatch) -> None:
    """Numbers, text, times of day and bytes are the same content after they were widened and renamed alike."""
    storable_as_is = [n for n in source.schema.names if pa.types.is_integer(source.schema.field(n).type)]
    source = source.select(storable_as_is).rename_columns([f"c{i}" for i in range(len(storable_as_is))])
    if not storable_as_is:
        return
    plan = plan_drift(None, TableSchema.of_arrow(source.schema), ContractSpec())
    stored = conform(source, plan, ContractSpec()).records
    assert Fingerprint.of(row_fingerprints(stored)) == Fingerprint.of(row_fingerprints(source))


def test_a_letter_knows_where_its_row_stood() -> None:
    source = batch_of({"n": "int64"}, [{"n": 1}, {"n": 300}, {"n": 2}])
    contract = ContractSpec(types="discard_row")
    plan = plan_drift(TableSchema((Column("n", pa.int8()),)), TableSchema.of_arrow(source.schema), contract)
    result = conform(source, plan, contract, source_file="a.csv", source_offsets=pa.array([10, 11, 12]))
    (letter,) = result.dead_letters
    assert (letter.source_file, letter.source_offset, letter.column) == ("a.csv", 11, "n")
    assert "300" not in letter.message


def test_a_column_that_was_not_planned_is_never_dropped() -> None:
    source = batch_of({"n": "int64"}, [{"n": 1}])
    plan = plan_drift(None, TableSchema.of_arrow(source.schema), ContractSpec())
    with pytest.raises(ConflictError, match="Plan again"):
        conform(source.append_column("late", pa.array([2])), plan, ContractSpec())


def test_a_batch_of_the_tables_own_types_is_not_copied() -> None:
    source = batch_of({"n": "int64", "s": "string"}, [{"n": 1, "s": "a"}] * 1000)
    schema = TableSchema.of_arrow(source.schema)
    result = conform(source, plan_drift(schema, schema, ContractSpec()), ContractSpec())
    for before, after in zip(source.columns, result.records.columns, strict=True):
        assert before.buffers()[-1].address == after.buffers()[-1].address


def test_a_whole_batch_of_faults_takes_seconds_not_minutes() -> None:
    source = pa.record_batch({"n": pa.array(np.arange(300, 65_836))})
    contract = ContractSpec(types="discard_value")
    plan = plan_drift(TableSchema((Column("n", pa.int8()),)), TableSchema.of_arrow(source.schema), contract)
    began = time.process_time()
    assert conform(source, plan, contract).values_discarded == source.num_rows
    assert time.process_time() - began < 20
