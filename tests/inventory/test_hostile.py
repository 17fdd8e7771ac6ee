"""Whatever stands in the files: problems, never an exception, and never a row that a run could not resolve."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.spec import SourceSpec
from airflow_dataops.core.table_spec import table_spec
from dag_factory.inventory import read_inventory
from dag_factory.inventory.narrow import PARTS
from dag_factory.inventory.provenance import explained

SCALAR = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=8)
KEY = st.text(max_size=5) | st.sampled_from([*PARTS, "match"])
ANYTHING = st.recursive(
    SCALAR | st.sampled_from(["*", "a*", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=8,
)
FILE = (
    st.binary(max_size=60)
    | st.text("abc:-[]{}&*!|>'\"%@`#,? \n\t<=0.", max_size=60).map(str.encode)
    | ANYTHING.map(lambda data: json.dumps(data).encode())
)
PART = {
    part: st.dictionaries(st.sampled_from(list(model.model_fields)), ANYTHING, max_size=3) | ANYTHING
    for part, model in PARTS.items()
}
ENTRY = st.fixed_dictionaries({"match": st.sampled_from(["a", "a*", "*", "public.*"])}, optional=PART)
ROW = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "b", "c"])},
    optional={
        **{name: ANYTHING for name in SourceSpec.model_fields if name != "name"},
        **PART,
        "kind": st.sampled_from(["sql", "files"]),
        "owner": st.just("me"),
        "conn_id": st.just("c"),
        "tables": st.lists(st.sampled_from(["a", "*"]) | ENTRY | ANYTHING, max_size=3),
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inventory")


def check(folder: Path) -> None:
    inventory = read_inventory(folder)
    ids = [row.id for row in inventory.rows]
    assert len(ids) == len(set(ids))
    for row in inventory.rows:
        assert inventory.all_rows[row.id].spec is row
        table_spec(row, "public.a")
    for bad in inventory.all_rows.values():
        explained(bad, "public.a")
    for problem in inventory.problems:
        assert problem.line >= 1
        assert problem.message
        assert "\n" not in str(problem)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(rows=st.lists(ROW | ANYTHING, max_size=3), defaults=st.none() | ROW)
def test_any_rows(folder: Path, rows: list[Any], defaults: Any) -> None:
    (folder / "sales.yaml").write_text(json.dumps({"sources": rows, "defaults": defaults}))
    check(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120)
@given(name=st.sampled_from(["sales.yaml", "defaults.yaml", "platform.yaml"]), data=FILE)
def test_any_file(folder: Path, name: str, data: bytes) -> None:
    for file in folder.iterdir():
        file.unlink()
    (folder / name).write_bytes(data)
    check(folder)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="a folder with one YAML file per domain"):
        read_inventory(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(InventoryError, match="found a file"):
        read_inventory(tmp_path / "file")


def test_hostile_names_are_data(tmp_path: Path) -> None:
    """Quotes, dots, braces and SQL in every text field: resolved as they stand, rendered nowhere."""
    text = 'x\'; DROP TABLE "t"; -- {{ ds }} {domain} ${HOME} %s'
    row = {"name": "a", "kind": "sql", "conn_id": "c", "owner": text, "description": text, "tags": [text], "tables": [text]}
    (tmp_path / "sales.yaml").write_text(json.dumps({"sources": [row]}))
    (spec,) = read_inventory(tmp_path).rows
    assert (spec.owner, spec.description, spec.tags, spec.tables) == (text, text, (text,), (text,))
    assert table_spec(spec, text).source_table == text


def test_what_would_never_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "sales.yaml").write_text("sources:\n  - {name: a, kind: sql, conn_id: c, owner: o}\n")
    inventory = read_inventory(tmp_path)
    assert [row.id for row in inventory.rows] == ["sales.a"]
    for problem, name in zip(inventory.problems, ("folder", "pipe"), strict=True):
        assert str(problem).endswith(f"{name}.yaml:1: is no plain file. Replace it by one")


@pytest.mark.parametrize("piece", ["a://b:", "eyJ-", "a.b-", "password: ", "secret ", "Basic ", "x://1a"])
def test_a_hostile_text_does_not_make_lint_slow(tmp_path: Path, piece: str) -> None:
    text = json.dumps(piece * (500_000 // len(piece)))
    (tmp_path / "sales.yaml").write_text(f"sources:\n  - {{name: a, kind: sql, conn_id: c, owner: o, description: {text}}}\n")
    started = time.process_time()
    read_inventory(tmp_path)
    assert time.process_time() - started < 20, "seconds of the processor; quadratic work takes minutes"
