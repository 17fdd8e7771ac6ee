"""Dead letters of text files: read again by the parser of their format, and hidden column by column.

Each record is parsed as a file of its own, with the header it had: a stray quote ends with its record.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import pyarrow as pa

from airflow_dataops.core.comparison import hiding
from airflow_dataops.core.dead_letter import DeadLetter, LetterForm
from airflow_dataops.core.errors import InventoryError, ProofError
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.core.privacy import Action, apply_privacy
from airflow_dataops.formats.base import FileAccess, FileFormat, Rows, SchemaChanged, Tally
from airflow_dataops.formats.csv_format import CsvFormat
from airflow_dataops.formats.json_format import JsonFormat
from airflow_dataops.formats.json_values import Decoder, Misfit, fit_to, text_of
from airflow_dataops.formats.spelling import Spellings, respelled
from airflow_dataops.formats.text_types import firm_type
from airflow_dataops.formats.text_values import convert


class LetterText:
    """Under the row's options of now: what it says of encoding, delimiter and quote goes before what the file had."""

    def __init__(self, options: FilesOptions) -> None:
        self._options = options

    def read(self, letter: DeadLetter, expected: Mapping[str, pa.DataType]) -> Rows:
        """One row in the source's names, or one dead letter. A column of the table is read as `expected` says and as nothing
        else: one record alone never changes a type that it could have."""
        form = letter.form
        if form is None or form.kind == "row":
            raise ValueError("a letter that is no text")
        data, reader = self._file(letter.raw, form)
        try:
            return self._read(letter, reader, _access(letter.source_file or "the record", data), expected)
        except (ProofError, InventoryError):  # what is wrong with a whole file, here with its one record
            reason = "bad_json" if form.kind == "json" else letter.reason
            return _again(letter, pa.schema([]), reason, f"the record is no {form.kind.upper()} that can be read alone")

    def _read(self, letter: DeadLetter, reader: FileFormat, file: FileAccess, expected: Mapping[str, pa.DataType]) -> Rows:
        survey = reader.survey(file, expected, whole=True)
        inferred = reader.schema(respelled([survey], expected), expected)
        firm = pa.schema([pa.field(f.name, firm_type(expected.get(f.name)) or f.type) for f in inferred])
        for schema in (firm, inferred):
            try:
                found = list(reader.rows(file, schema, expected, 16, {}, Tally()))
            except SchemaChanged:
                continue
            records = sum(rows.records.num_rows for rows in found)
            dead = [one for rows in found for one in rows.dead_letters]
            if records + sum(one.rows for one in dead) == 1:
                return next(rows for rows in found if rows.records.num_rows or rows.dead_letters)
            problem = ("ragged_row", f"it reads as {records + len(dead)} records where it was one")
            return _again(letter, schema, *problem)
        return _again(letter, inferred, "value_does_not_fit", "a value is none of its column's type")

    def hide(
        self, letter: DeadLetter, actions: Mapping[str, Action], types: Mapping[str, pa.DataType], key: bytes | None
    ) -> DeadLetter:
        """The record without the values that privacy hides, each replaced as it would be stored; nothing of the record where it
        cannot be cut into columns, or a value has no type that gives its digest. `types` are those of the reading."""
        form = letter.form
        if form is None or not letter.can_replay:
            return letter.without_raw()
        cut = self._json if form.kind == "json" else self._csv
        return cut(letter, form, actions, types, key) or letter.without_raw()

    def _csv(
        self, letter: DeadLetter, form: LetterForm, actions: Mapping[str, Action], types: Mapping[str, pa.DataType],
        key: bytes | None,
    ) -> DeadLetter | None:  # fmt: skip
        columns = form.told["columns"]
        nulls, encoding = self._options.null_values, form.told["encoding"]
        rows = self.read(letter, {name: pa.string() for name in columns}) if nulls else None
        if rows is None or rows.dead_letters or set(columns) - set(actions):
            return None
        texts = dict(zip(rows.records.schema.names, rows.records.columns, strict=True))
        hidden = {name: action for name, action in actions.items() if name in texts and action != "keep"}
        for name, action in hidden.items():
            found = _hidden_text(texts[name], types[name], action, key)
            if found is None:
                return None
            texts[name] = found
        kept = [name for name in columns if hidden.get(name) != "drop"]
        quote = form.told["quote"] or ""
        values = [texts[name][0].as_py() for name in kept]
        fields = [nulls[0] if value is None else _quoted(value, quote) for value in values]
        told = {**form.told, "columns": kept}
        marks = hiding([name for name in kept if name in hidden], hidden, key)
        raw = form.told["delimiter"].join(fields).encode(encoding, "surrogateescape")
        return replace(letter, raw=raw, form=replace(form, told=told, hidden=marks))

    def _json(
        self, letter: DeadLetter, form: LetterForm, actions: Mapping[str, Action], types: Mapping[str, pa.DataType],
        key: bytes | None,
    ) -> DeadLetter | None:  # fmt: skip
        try:
            text = letter.raw.decode(form.told["encoding"])
            value, _ = Decoder().decode(text.strip())
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        record = dict(Spellings(types).under(value))
        if set(record) - set(actions):
            return None
        hidden = {name: action for name, action in actions.items() if name in record and action != "keep"}
        for name, action in hidden.items():
            if action == "drop":
                del record[name]
            elif action == "mask":
                record[name] = "***" if record[name] is not None and pa.types.is_string(types[name]) else None
            elif record[name] is not None:
                try:
                    array = pa.array([fit_to(types[name], types[name])(record[name])], types[name])
                except (Misfit, pa.ArrowInvalid, pa.ArrowTypeError):
                    return None
                record[name] = _column(array, action, key)[0].as_py()
        marks = hiding([name for name in record if name in hidden], hidden, key)
        return replace(letter, raw=text_of(record).encode(form.told["encoding"]), form=replace(form, hidden=marks))

    def _file(self, raw: bytes, form: LetterForm) -> tuple[bytes, FileFormat]:
        """The record as a file, and what reads it."""
        encoding = self._options.encoding or form.told["encoding"]
        plain: dict[str, Any] = {"compression": "none", "skip_rows": 0, "encoding": encoding}
        if form.kind == "json":
            kind = "json" if b"\n" in raw.strip() else "ndjson"
            return raw, JsonFormat(self._options.model_copy(update={**plain, "format": kind}))
        delimiter = self._options.delimiter or form.told["delimiter"]
        quote = self._options.quote or form.told["quote"]
        options = self._options.model_copy(
            update={**plain, "format": "csv", "header": True, "delimiter": delimiter, "quote": quote}
        )
        names = [_quoted(name, quote or "") for name in form.told["columns"]]
        header = delimiter.join(names).encode(encoding, "replace")
        return header + "\n".encode(encoding) + raw + "\n".encode(encoding), CsvFormat(options)


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace(quote, 2 * quote) + quote if quote else text


def _hidden_text(texts: pa.Array, t: pa.DataType, action: Action, key: bytes | None) -> pa.Array | None:
    """Text of a field → text of what is stored for it. None when its digest cannot be made: the text is no value of the type."""
    if action == "mask" and not pa.types.is_string(t):
        return pa.nulls(1, pa.string())
    if action == "drop":
        return texts
    values = texts if action == "mask" else convert(texts, t)
    if values is None:
        return None
    return _column(values, action, key).cast(pa.string())


def _column(values: pa.Array, action: Action, key: bytes | None) -> pa.Array:
    return apply_privacy(pa.RecordBatch.from_arrays([values], names=["v"]), {"v": action}, key).column(0)


def _again(letter: DeadLetter, schema: pa.Schema, reason: str, message: str) -> Rows:
    dead = replace(letter, reason=reason, message=message)
    return Rows(pa.RecordBatch.from_pylist([], schema), _NO_PLACES, (dead,))


_NO_PLACES = pa.array([], pa.int64())


def _access(path: str, data: bytes) -> FileAccess:
    def stream() -> BinaryIO:
        return io.BytesIO(data)

    return FileAccess(path, len(data), stream, lambda: pa.PythonFile(io.BytesIO(data), mode="r"))
