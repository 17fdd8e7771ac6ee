"""Bytes ↔ Arrow: one file in one format, recognised by its content."""

from __future__ import annotations

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.formats.base import FileAccess, FileFormat, Rows, SchemaChanged, Survey, Tally

__all__ = ["FAMILIES", "FileAccess", "FileFormat", "Rows", "SchemaChanged", "Survey", "Tally", "family_of", "open_format"]

FAMILIES = ("csv", "json", "parquet", "avro")
"""Formats whose files may stand side by side in one table: CSV with TSV, JSON with NDJSON."""


def open_format(family: str, options: FilesOptions) -> FileFormat:
    """The reader of a family. Libraries are imported only now."""
    match family:
        case "csv":
            from airflow_dataops.formats.csv_format import CsvFormat

            return CsvFormat(options)
        case "json":
            from airflow_dataops.formats.json_format import JsonFormat

            return JsonFormat(options)
        case "parquet":
            from airflow_dataops.formats.parquet_format import ParquetFormat

            return ParquetFormat()
        case "avro":
            from airflow_dataops.formats.avro_format import AvroFormat

            return AvroFormat()
    raise InventoryError(f"Cannot open format {family!r} -> one of {', '.join(FAMILIES)}. Correct `format`.")


def family_of(file: FileAccess, options: FilesOptions) -> str:
    """The family of a file: as told, else by its first bytes, else by its name."""
    from airflow_dataops.formats.detect import detect_family

    return detect_family(file, options)
