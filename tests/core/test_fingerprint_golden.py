"""Golden vectors of `f1`: what is written in ledgers and lakes must still be what the next release computes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from airflow_dataops.core.fingerprint import Fingerprint, as_binary, key_fingerprints, row_fingerprints
from tests.core.fingerprint_reference import rows_of

CASES = Path(__file__).parents[1] / "cases" / "fingerprint"


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in yaml.safe_load((CASES / name).read_text("utf-8"))]


def arrow_type(told: Any) -> pa.DataType:
    """`decimal128 18 4`, or `[list_, int8]`, or `[struct, {a: int8}]`: a factory of pyarrow and its arguments."""
    if isinstance(told, str):
        factory, *arguments = told.split()
        return getattr(pa, factory)(*[int(a) if a.lstrip("-").isdigit() else a for a in arguments])
    factory, *arguments = told
    if factory == "struct":
        return pa.struct([(name, arrow_type(t)) for name, t in arguments[0].items()])
    return getattr(pa, factory)(*[a if isinstance(a, int) else arrow_type(a) for a in arguments])


def python_value(value: Any, t: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_decimal(t):
        return Decimal(value)
    if pa.types.is_interval(t):
        return pa.MonthDayNano(value)
    if pa.types.is_map(t):
        return [(k, python_value(v, t.item_type)) for k, v in value]
    if pa.types.is_nested(t) and not pa.types.is_struct(t):
        return [python_value(v, t.value_type) for v in value]
    return value


def column(t: pa.DataType, values: list[Any]) -> pa.Array:
    if isinstance(t, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(t, column(t.storage_type, values))
    if pa.types.is_dictionary(t):
        return column(t.value_type, values).dictionary_encode()
    if pa.types.is_decimal(t) and t.scale < 0:
        return column(pa.decimal128(38, 0), values).cast(t)
    return pa.array([python_value(v, t) for v in values], t)


def hex_of(rows: Any) -> str:
    assert rows.shape == (1, 2)
    return as_binary(rows)[0].as_py().hex()


def one_row(columns: dict[str, Any]) -> pa.Table:
    return pa.table({name: column(arrow_type(t), [value]) for name, (t, value) in columns.items()})


@pytest.mark.parametrize("case", cases("values.yaml"))
def test_value(case: dict[str, Any]) -> None:
    for told, value in case["same"]:
        table = one_row({case["column"]: [told, value]})
        assert hex_of(row_fingerprints(table)) == case["hex"], (told, value)
        assert ["{:016x}{:016x}".format(*row) for row in rows_of(table)] == [case["hex"]], (told, value)


def test_different_values_differ() -> None:
    seen = [(case["column"], case["hex"]) for case in yaml.safe_load((CASES / "values.yaml").read_text("utf-8"))]
    assert len({fingerprint for _, fingerprint in seen}) == len(seen) > 40


@pytest.mark.parametrize("case", cases("rows.yaml"))
def test_row(case: dict[str, Any]) -> None:
    table = one_row(case["columns"])
    assert hex_of(row_fingerprints(table)) == case["hex"]
    for keys in case.get("keys", []):
        assert hex_of(key_fingerprints(table, keys["of"])) == keys["hex"]


@pytest.mark.parametrize("case", cases("tables.yaml"))
def test_table(case: dict[str, Any]) -> None:
    types = {name: arrow_type(t) for name, t in case["columns"].items()}
    table = pa.table({n: column(t, [row[k] for row in case["rows"]]) for k, (n, t) in enumerate(types.items())})
    assert str(Fingerprint.of(row_fingerprints(table))) == case["fingerprint"]
    assert str(Fingerprint.parse(case["fingerprint"])) == case["fingerprint"]


def test_the_relations_that_the_vectors_tell() -> None:
    row = {case["name"]: case for case in yaml.safe_load((CASES / "rows.yaml").read_text("utf-8"))}
    order, other, empty = (case for name, case in row.items() if "order" in name)
    assert order["hex"] == other["hex"] != empty["hex"]
    assert order["keys"][1]["hex"] != empty["keys"][0]["hex"]
    table = {case["name"]: case["fingerprint"] for case in yaml.safe_load((CASES / "tables.yaml").read_text("utf-8"))}
    assert table["three rows"] == table["the same rows in another order"] != table["two cells of a column swapped"]
    assert table["no rows"] == str(Fingerprint.EMPTY)
