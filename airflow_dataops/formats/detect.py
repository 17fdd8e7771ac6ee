"""Which format a file has: its first bytes first, its name where bytes leave a choice."""

from __future__ import annotations

from airflow_dataops.core.errors import InventoryError, ProofError
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.formats.base import FileAccess
from airflow_dataops.formats.text_stream import TextStream

PARQUET_MAGIC, AVRO_MAGIC = b"PAR1", b"Obj\x01"
_FAMILY = {
    "csv": "csv", "tsv": "csv", "tab": "csv", "psv": "csv", "txt": "csv",
    "json": "json", "ndjson": "json", "jsonl": "json", "geojson": "json",
    "parquet": "parquet", "pq": "parquet", "avro": "avro",
}  # fmt: skip
_HEAD_BYTES = 4096


def detect_family(file: FileAccess, options: FilesOptions) -> str:
    """`csv`, `json`, `parquet` or `avro`. An empty file is what its name says, else CSV.

    ProofError for a file that is told or named Parquet or Avro and does not begin so; InventoryError for bytes that are
    no text and none of these.
    """
    told = _FAMILY[options.format] if options.format != "auto" else None
    if told in ("csv", "json"):
        return told
    stream = TextStream.open(file, options, _HEAD_BYTES)
    try:
        head = stream.peek(_HEAD_BYTES)
        compressed = stream.traits["compression"] != "none"
    finally:
        stream.close()
    by_name = next((_FAMILY[part] for part in reversed(file.path.lower().split(".")[1:]) if part in _FAMILY), None)
    for family, magic in (("parquet", PARQUET_MAGIC), ("avro", AVRO_MAGIC)):
        if head.startswith(magic):
            if compressed:
                raise InventoryError(
                    f"Cannot read file {file.path!r}: compressed {family} -> plain {family}. "
                    "The format compresses inside. Store the file as it was before."
                )
            return family
        if told == family or (told is None and by_name == family):
            if not head and told is None:
                return family
            raise ProofError(
                f"Cannot read file {file.path!r}: it does not begin like {family} -> {magic!r}. "
                "It is cut off, damaged, or something else. Send it again, or correct `format`."
            )
    if head.lstrip(b" \t\r\n")[:1] in (b"{", b"[") and by_name != "csv":
        return "json"
    if by_name is None and b"\0" in head:
        raise InventoryError(
            f"Cannot read file {file.path!r}: neither text nor a known format -> CSV, JSON, Parquet or Avro. "
            "Exclude the file, or set `format`."
        )
    return by_name or "csv"
