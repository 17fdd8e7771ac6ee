"""A spreadsheet becomes a domain file that says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dag_factory.import_csv import import_csv, to_yaml
from dag_factory.inventory import read_inventory
from dag_factory.inventory.yaml_nodes import faults, plain, read_yaml

SHEET = """\
name,kind,owner,conn_id,tables,exclude,read.mode,read.cursor,write.mode,write.keys,limits.retries,catchup,privacy.columns,options.path
orders,sql,data,pg,public.*;hr.staff,*_tmp,watermark,updated_at,merge,id | region,5,true,email=mask;*.ssn=drop,
weather,files,data,,,,new_files,,append,,,,,s3://bucket/w/*.csv
"""


def test_a_sheet_becomes_rows_that_lint_takes(tmp_path: Path) -> None:
    found = import_csv(SHEET.encode())
    assert found.bad == ()
    (tmp_path / "sales.yaml").write_text(to_yaml("sales", found.rows), encoding="utf-8")
    inventory = read_inventory(tmp_path)
    assert inventory.problems == ()
    orders, weather = inventory.rows
    assert orders.tables == ("public.*", "hr.staff")
    assert orders.write.keys == ("id", "region")
    assert orders.limits.retries == 5
    assert orders.catchup is True
    assert orders.privacy.columns == {"email": "mask", "*.ssn": "drop"}
    assert (weather.read.mode, weather.options) == ("new_files", {"path": "s3://bucket/w/*.csv"})


@pytest.mark.parametrize("form", ["utf-8-sig", "semicolon", "crlf", "blank lines"])
def test_how_spreadsheets_save(form: str) -> None:
    text = "name,kind,owner\na,files,Zoë\n"
    data = {
        "utf-8-sig": text.encode("utf-8-sig"),
        "semicolon": text.replace(",", ";").encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "blank lines": (text + ",,\n\n").encode(),
    }[form]
    assert import_csv(data).rows == ({"name": "a", "kind": "files", "owner": "Zoë"},)


def test_bad_cells_are_all_told_with_row_and_column() -> None:
    found = import_csv(
        b"name,kind,limits.retries,catchup,privacy.columns\na,sql,many,maybe,email\n,sql,1,,\nb,sql,2,true,x=mask,extra\nc,sql,,,\n"
    )
    assert [(b.row, b.column) for b in found.bad] == [
        (2, "limits.retries"), (2, "catchup"), (2, "privacy.columns"), (3, "name"), (4, "#6"),
    ]  # fmt: skip
    assert [r["name"] for r in found.rows] == ["c"]


@pytest.mark.parametrize(
    ("header", "column", "message"),
    [
        ("name,shedule", "shedule", "Did you mean `schedule`"),
        ("name,read.mod", "read.mod", "Did you mean `mode`"),
        ("name,read.mode.x", "read.mode.x", "goes deeper"),
        ("name,name", "name", "twice"),
        ("name,", "#2", "no name"),
        ("kind,owner", "name", "is missing"),
        ("name,options.password", "options.password", "credential"),
        ("name,options.pth", "options.pth", "Did you mean `path`"),
        ("read,read.mode,name", "read", "stands beside `read.mode`"),
        ("read.mode,read,name", "read", "stands beside `read.mode`"),
        ("name,password=XYZZY12345", "***", "holds a password"),
    ],
)
def test_bad_headers(header: str, column: str, message: str) -> None:
    found = import_csv(f"{header}\nx,y\n".encode())
    assert found.rows == ()
    assert any(b.row == 1 and b.column == column and message in b.message for b in found.bad)


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        ("dead_letters.max_share", "NaN"), ("dead_letters.max_share", "inf"), ("jitter_seconds", "9" * 5000),
        ("tables", "[" * 100_000), ("tables", '[{""match"": ""a"", ""match"": ""b""}]'), ("tables", "[NaN]"),
    ],
)  # fmt: skip
def test_cells_that_would_be_read_otherwise_than_written(field: str, cell: str) -> None:
    found = import_csv(f'name,{field}\na,"{cell}"\n'.encode())
    assert [(b.row, b.column) for b in found.bad] == [(2, field)]
    assert found.rows == ()


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xff\xfe\x00", b"name\nx\0y\n", b'name\n"x\n'])
def test_files_that_are_no_sheet(data: bytes) -> None:
    found = import_csv(data)
    assert found.bad
    assert found.rows == ()


def test_a_secret_is_refused_and_never_told() -> None:
    found = import_csv(b"name,description\na,postgres://u:XYZZY12345@h/d\n")
    assert found.rows == ()
    assert "XYZZY" not in str(found.bad[0])


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)
ROW = st.fixed_dictionaries(
    {"name": TEXT},
    optional={
        "description": TEXT,
        "tags": st.lists(TEXT),
        "catchup": st.booleans(),
        "limits": st.fixed_dictionaries({"retries": st.integers()}),
        "dead_letters": st.fixed_dictionaries({"max_share": st.floats(0, 1)}),
        "privacy": st.fixed_dictionaries({"columns": st.dictionaries(TEXT, st.sampled_from(["keep", "mask"]))}),
    },
)


@given(st.lists(ROW, max_size=4))
def test_what_is_written_is_read_back(rows: list[dict[str, Any]]) -> None:
    node = read_yaml(to_yaml("sales", rows), "f")
    assert plain(node) == {"version": 1, "domain": "sales", "sources": rows}
    assert list(faults(node)) == []
