"""How a record of a text file is read back from its dead letter."""

from __future__ import annotations

from functools import lru_cache

from airflow_dataops.core.dead_letter import LetterForm
from airflow_dataops.formats.csv_records import Dialect


@lru_cache(maxsize=64)
def csv_form(columns: tuple[str, ...], dialect: Dialect, encoding: str) -> LetterForm:
    """`columns` as the table spells them, in the order of the file."""
    told = {"columns": list(columns), "delimiter": dialect.delimiter, "quote": dialect.quote, "encoding": encoding}
    return LetterForm("csv", told=told)


@lru_cache(maxsize=64)
def json_form(encoding: str) -> LetterForm:
    return LetterForm("json", told={"encoding": encoding})
