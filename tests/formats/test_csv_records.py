"""Laws of the cutter: however the bytes are cut, the records are the same, and so are their lines."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_dataops.core.errors import LimitError
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.formats.base import FileAccess, Tally
from airflow_dataops.formats.csv_format import CsvFormat
from airflow_dataops.formats.csv_records import Dialect, blocks, fields_of, spans_of

COMMA = Dialect()


def records(data: bytes, block_bytes: int, dialect: Dialect = COMMA, **limit: int) -> list[tuple[bytes, int, bool]]:
    """(bytes, line, malformed) of every record."""
    found = []
    for block in blocks(io.BytesIO(data), dialect, block_bytes, **limit):
        spans = spans_of(block, dialect, blank_is_record=False)
        for start, end, line, bad in zip(
            *(c.tolist() for c in (spans.starts, spans.ends, spans.lines, spans.malformed)), strict=True
        ):
            found.append((block.data[start:end], line, bad))
    return found


def slowly(data: bytes) -> list[tuple[bytes, int, bool]]:
    """The rules of `csv_records` once more, one character at a time."""
    found, at, line = [], 0, 1
    while at < len(data):
        start, start_line, quoted, field_start, malformed = at, line, False, True, False
        i = at
        while i < len(data):
            c = data[i : i + 1]
            if quoted:
                if c == b'"':
                    if data[i + 1 : i + 2] == b'"':
                        i += 2
                        continue
                    quoted = False
                    if data[i + 1 : i + 2] not in (b"", b",", b"\r", b"\n"):
                        malformed = True
                        break
                i += 1
                continue
            if c in (b"\r", b"\n"):
                break
            quoted = c == b'"' and field_start
            field_start = c == b","
            i += 1
        if malformed or (quoted and i >= len(data)):
            malformed = True
            i = start
            while i < len(data) and data[i : i + 1] not in (b"\r", b"\n"):
                i += 1
        end = i
        i += 2 if data[i : i + 2] == b"\r\n" else 1
        text = data[start:end]
        if text:
            found.append((text, start_line, malformed))
        passed = data[start : min(i, len(data))]
        line += passed.count(b"\n") + passed.count(b"\r") - passed.count(b"\r\n")
        at = i
    return found


@given(
    st.lists(st.sampled_from([b"a", b"12", b'"', b'""', b",", b"\n", b"\r\n", b"\r", b'"x"', b" "]), max_size=60),
    st.integers(1, 40),
)
@example([b'"', b"a", b"\n", b"b", b",", b'"x"', b"\n"], 1)
@example([b'"x"', b"\r\n", b'"', b"\r", b"\n", b'"', b"\n"], 3)
def test_any_bytes_in_any_blocks_give_the_same_records(parts: list[bytes], block_bytes: int) -> None:
    data = b"".join(parts)
    assert records(data, block_bytes) == slowly(data)


FIELD = st.text(st.sampled_from("ab,;\"\n\r é🎈\t|'"), max_size=8)


@given(
    st.lists(st.lists(FIELD, min_size=3, max_size=3), min_size=1, max_size=20),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
    st.integers(1, 3),
)
def test_what_python_writes_is_read_back(
    rows: list[list[str]], delimiter: str, line_end: str, quoting: int, encoding: str, batch_rows: int
) -> None:
    if quoting == csv.QUOTE_MINIMAL:
        # Python then quotes only its own line end; every reader takes the other one for a line end as well.
        other = "\n" if line_end == "\r" else "\r"
        rows = [[field.replace(other, "") for field in row] for row in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(["a", "b", "c"])
    writer.writerows(rows)
    data = out.getvalue().encode(encoding)
    options = FilesOptions(path="x", delimiter=delimiter, quote='"', header=True, null_values=())
    reader, file = CsvFormat(options), FileAccess("x.csv", len(data), lambda: io.BytesIO(data), lambda: None)
    schema = reader.schema([reader.survey(file, {}, whole=True)], {})
    found = list(reader.rows(file, schema, {}, batch_rows, {}, Tally()))
    assert [letter for part in found for letter in part.dead_letters] == []
    read = [list(row.values()) for part in found for row in part.records.to_pylist()]
    # Without NULL texts an empty field is an empty text, and these fields hold nothing that reads as a number.
    assert read == rows
    assert all(len(part.records) <= batch_rows for part in found)


def test_fields_of_one_record() -> None:
    assert fields_of(b'a,"b,""c""",,"",5" x', COMMA) == ["a", 'b,"c"', "", "", '5" x']
    assert fields_of(b"", COMMA) == [""]
    assert fields_of(b'"a";b', Dialect(";", None)) == ['"a"', "b"]


@pytest.mark.parametrize("data", [b"", b"\n\n\r\n", b"\r"])
def test_nothing_is_no_record(data: bytes) -> None:
    assert records(data, 1) == []


def test_a_file_without_any_line_end_is_refused_before_memory_is_full() -> None:
    with pytest.raises(LimitError, match="line 2: more than 2097152 bytes"):
        records(b"id,t\n" + b"x" * (5 << 20), 1 << 16, most_record_bytes=1 << 20)


@pytest.mark.parametrize("other", [b"x", b'"x"'], ids=["plain", "quoted"])
def test_a_quote_that_is_lost_in_a_large_file_costs_one_record(other: bytes) -> None:
    many = 400_000
    found = records(b'id,t\n1,"x\n' + (b"3," + other + b"\n") * many, 1 << 16, most_record_bytes=1 << 20)
    assert [(record, line) for record, line, malformed in found if malformed] == [(b'1,"x', 2)]
    assert len(found) == 1 + 1 + many and found[-1][1] == 2 + many
