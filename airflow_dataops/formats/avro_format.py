"""Avro container files as a source: their own schema, block by block.

A file that ends inside a block, or whose sync marks do not match, is refused as a whole (ProofError). One that was cut
exactly between two blocks cannot be told from a whole one: the format has no end mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import fastavro
import pyarrow as pa
from fastavro.schema import parse_schema

from airflow_dataops.core.errors import DataOpsError, InventoryError, ProofError
from airflow_dataops.formats.avro_types import AvroTypes, Convert, without_logical_types
from airflow_dataops.formats.base import FileAccess, Rows, Survey, Tally
from airflow_dataops.formats.columnar import DeclaredSchema, columns_of, lifted
from airflow_dataops.formats.compression import decompressed
from airflow_dataops.formats.text_stream import buffered


class AvroFormat(DeclaredSchema):
    """Avro container files."""

    name = "avro"

    def survey(self, file: FileAccess, expected: Mapping[str, pa.DataType], whole: bool) -> Survey:
        with _Container(file) as container:
            return Survey(columns_of(file.path, container.schema), container.traits)

    def rows(
        self, file: FileAccess, schema: pa.Schema, expected: Mapping[str, pa.DataType], batch_rows: int,
        traits: dict[str, str], tally: Tally,
    ) -> Iterator[Rows]:  # fmt: skip
        with _Container(file) as container:
            place = 1
            for records in container.batches(batch_rows):
                yield lifted(records, schema, file.path, place)
                place += len(records)
            traits |= container.traits


class _Container:
    """One open file."""

    def __init__(self, file: FileAccess) -> None:
        self._path = file.path
        self._stream, compression = decompressed(buffered(file.stream()), file.path)
        if compression != "none":
            self._stream.close()
            raise InventoryError(
                f"Cannot read file {file.path!r}: {compression} around Avro -> plain Avro, which compresses inside. "
                "Unpack the file."
            )
        try:
            self._blocks = self._guarded(lambda: fastavro.block_reader(self._stream))  # type: ignore[arg-type]
            written = self._blocks.writer_schema
            named = getattr(self._blocks, "_named_schemas", {}).get("writer") or _named_in(written)
            self._raw = parse_schema(without_logical_types(written))
            self._columns: list[tuple[str, pa.DataType, Convert | None]] = AvroTypes(named, file.path).columns(written)
        except BaseException:
            self._stream.close()
            raise
        self.schema = pa.schema([(name, t) for name, t, _ in self._columns])
        self.traits = {"format": "avro", "compression": str(self._blocks.codec)}

    def batches(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """At most so many rows at once."""
        held: list[dict[str, Any]] = []
        for record in self._records():
            held.append(record)
            if len(held) == batch_rows:
                yield self._made(held)
                held = []
        if held:
            yield self._made(held)

    def _records(self) -> Iterator[dict[str, Any]]:
        blocks = iter(self._blocks)
        while (block := self._guarded(lambda: next(blocks, None))) is not None:
            for _ in range(block.num_records):
                yield self._guarded(lambda held=block.bytes_: fastavro.schemaless_reader(
                    held, self._raw, None, return_named_type=True, return_named_type_override=True
                ))  # fmt: skip

    def _made(self, records: list[dict[str, Any]]) -> pa.RecordBatch:
        arrays = []
        for name, t, convert in self._columns:
            values = [record[name] for record in records]
            if convert is not None:
                values = [None if v is None else convert(v) for v in values]
            arrays.append(pa.array(values, t))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _guarded(self, call: Any) -> Any:
        """fastavro reports damage with whatever its parser stumbled over."""
        try:
            return call()
        except DataOpsError:
            raise
        except ValueError as error:
            if "codec" in str(error) or "install" in str(error):
                raise InventoryError(
                    f"Cannot read file {self._path!r}: {str(error)[:200]} -> a codec that is installed here. Install it."
                ) from error
            raise self._broken(error) from error
        except (EOFError, IndexError, KeyError, StopIteration, TypeError, OSError, OverflowError, MemoryError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> ProofError:
        return ProofError(
            f"Cannot read file {self._path!r}: {type(error).__name__} {str(error)[:150]} -> a whole Avro file. "
            "It is cut off or damaged; nothing of it was loaded. Send the file again."
        )

    def __enter__(self) -> _Container:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _named_in(schema: Any) -> dict[str, Any]:
    """Every named schema by name."""
    found: dict[str, Any] = {}
    todo = [schema]
    while todo:
        one = todo.pop()
        if isinstance(one, list):
            todo += one
        elif isinstance(one, dict):
            if "name" in one and one.get("type") in ("record", "enum", "fixed", "error"):
                found[one["name"]] = one
            todo += [one[key] for key in ("type", "items", "values") if isinstance(one.get(key), dict | list)]
            todo += [f["type"] for f in one.get("fields", ()) if isinstance(f.get("type"), dict | list)]
    return found
