"""How a CSV file is written: delimiter, quote, line ends, header; told by the row or seen in the head of the file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.formats.csv_records import Block, Dialect, Spans, fields_of, first_block, spans_of
from airflow_dataops.formats.text_types import TEXT, kind_of

DELIMITERS = (",", ";", "\t", "|")
_RECORDS = 100
_DOUBLE = re.compile(rb'(?:^|[,;\t|\r\n])"')
_SINGLE = re.compile(rb"(?:^|[,;\t|\r\n])'[^',;\t|\r\n]*+(?:''|[,;\t|])(?:[^'\r\n]|'')*+'(?:[,;\t|\r\n]|\Z)")
_MADE_UP = re.compile(r"column_[0-9]+")


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What a head shows. `width`: number of fields. `names`: the header's, None when there is none."""

    dialect: Dialect
    line_ends: str
    width: int
    header: bool
    names: tuple[str, ...]


def sniff(head: bytes, options: FilesOptions, is_whole: bool) -> Sniffed | None:
    """The form of a file from the beginning of its (UTF-8) bytes, after the skipped lines; None for an empty file.

    The delimiter is the candidate that cuts most of the first hundred records into the same number of fields, more than
    one; of equals, the one with more fields. Without any: one column. The first record is a header unless one of its
    fields reads as a number, date or bool; a file of texts only is taken to have one. Both can be told by the row.
    """
    quote = options.quote or _quote(head)
    candidates = (options.delimiter,) if options.delimiter else ("\t",) if options.format == "tsv" else DELIMITERS
    best: tuple[tuple[float, int], Dialect, list[list[str]], Block, Spans] | None = None
    for delimiter in candidates:
        dialect = Dialect(delimiter, quote)
        block = first_block(head, dialect, is_whole)
        spans = spans_of(block, dialect, blank_is_record=False)
        good = [n for n in range(len(spans.starts)) if not spans.malformed[n]][:_RECORDS]
        records = [fields_of(block.data[spans.starts[n] : spans.ends[n]], dialect) for n in good]
        if not records:
            continue
        widths = Counter(len(fields) for fields in records)
        width, count = max(widths.items(), key=lambda item: (item[1], item[0] == len(records[0])))
        score = (count / len(records) if width > 1 else 0.0, width)
        if best is None or score > best[0]:
            best = score, dialect, records, block, spans
    if best is None:
        return None
    _, dialect, records, block, spans = best
    if options.quote is None and not _DOUBLE.search(head) and dialect.quote == '"' and _are_single_quoted(records):
        return sniff(head, options.model_copy(update={"quote": "'"}), is_whole)
    header = options.header if options.header is not None else _is_header(records[0])
    if header:
        names = _names(records[0])
    else:
        widths = Counter(len(fields) for fields in records)
        width = max(widths.items(), key=lambda item: item[1])[0]
        names = tuple(f"column_{n}" for n in range(1, width + 1))
    return Sniffed(dialect, _line_ends(block, spans), len(names), header, names)


def _quote(head: bytes) -> str:
    """`'` when no field begins with `"`, and `'` is around something that needs it."""
    return "'" if not _DOUBLE.search(head) and _SINGLE.search(head) else '"'


def _are_single_quoted(records: list[list[str]]) -> bool:
    """Whether `'` is around a name, or around every value of a column. Around a value here and there it is part of it."""
    names, *rows = [[len(text) > 1 and text[0] == text[-1] == "'" if text else None for text in record] for record in records]
    columns = [[quoted for quoted in column if quoted is not None] for column in zip_longest(*rows)]
    return any(names) or any(len(column) > 1 and all(column) for column in columns)


def _is_header(first: list[str]) -> bool:
    return all(not text or kind_of(text) == TEXT for text in first) and any(first)


def _names(header: list[str]) -> tuple[str, ...]:
    """Column names from a header: spaces around them do not count; an empty one is `column_<n>`; a repeated one gets
    `_2`, `_3`, …, in order. InventoryError when a name made this way is also written in the header."""
    bare = [text.strip() for text in header]
    written = set(bare)
    seen: Counter[str] = Counter()
    names = []
    for n, text in enumerate(bare, 1):
        seen[text] += 1
        name = f"column_{n}" if not text else text if seen[text] == 1 else f"{text}_{seen[text]}"
        if name != text and name in written:
            what = f"{text!r} (column {n}, repeated)" if text else f"column {n} without a name"
            raise InventoryError(
                f"Cannot name columns: {what} would become {name!r}, which the header has as well -> names that differ. "
                "Correct the header, or set `header: false` and `skip_rows: 1`."
            )
        names.append(name)
    return tuple(names)


def are_made_up(names: Iterable[str]) -> bool:
    """Whether these are the names of columns that no header names."""
    return all(_MADE_UP.fullmatch(name) for name in names)


def _line_ends(block: Block, spans: Spans) -> str:
    kinds = set()
    for end in spans.ends[:1000]:
        two = block.data[end : end + 2]
        kinds.add("CRLF" if two == b"\r\n" else "LF" if two[:1] == b"\n" else "CR" if two[:1] == b"\r" else "")
    kinds.discard("")
    return "none" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed: " + ", ".join(sorted(kinds))
