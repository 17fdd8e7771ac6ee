"""`dataops sql`: one SELECT over what the catalog shows now."""

from __future__ import annotations

import difflib
import math
from contextlib import ExitStack
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_dataops.core.platform import PlatformSpec
from dag_factory.cli.report import Code, Context, Report, UsageError, problem
from dag_factory.inventory import read_platform

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.catalog.base import Catalog, CatalogTable
    from airflow_dataops.storage.base import Storage


def sql(context: Context, query: str, max_rows: int) -> Report:
    """Columns and rows of the answer. Exit code 2 for a query that cannot be meant, 4 when it has too many rows."""
    from dag_factory.cli import sql_views

    if max_rows < 1:
        raise UsageError("Cannot use `--max-rows` below 1 -> at least 1.")
    database = sql_views.open_database()
    try:
        with ExitStack() as stack:
            wanted = sql_views.tables_of(database, query)
            if wanted:
                catalogs, lakes = _open(context, stack)
                known = {(d, t): c for c in catalogs for d in c.databases() for t in c.table_names(d)}
                for name in sorted(wanted):
                    catalog, table = _find(name, known)
                    sql_views.add_view(database, catalog, table, lakes)
            columns, rows = sql_views.fetch(database, query, max_rows)
    except sql_views.QueryError as error:
        raise UsageError(str(error)) from None
    finally:
        database.close()
    if len(rows) > max_rows:
        text = f"Cannot show the answer: more than {max_rows} rows -> at most that many. Add a LIMIT, or raise `--max-rows`."
        return Report(problems=(problem(text, "limit"),), code=Code.LIMIT)
    names = _unique([name for name, _ in columns])

    def show(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        shown = Table(box=None, pad_edge=False, header_style="bold")
        for name, (_, kind) in zip(names, columns, strict=True):
            shown.add_column(Text(name), justify="right" if kind.startswith(_NUMBERS) else "left", overflow="fold")
        for row in rows:
            shown.add_row(*(Text("NULL", style="dim") if v is None else Text(_text(v)) for v in row))
        console.print(shown)
        console.print(f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}", style="dim")

    return Report(
        data={
            "columns": [{"name": name, "type": kind} for name, (_, kind) in zip(names, columns, strict=True)],
            "rows": [{name: _json(value) for name, value in zip(names, row, strict=True)} for row in rows],
        },
        show=show,
    )


_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINY", "USMALL", "UINT", "UBIG", "FLOAT", "DOUBLE", "DECIMAL")


def _open(context: Context, stack: ExitStack) -> tuple[list[Catalog], list[Storage]]:
    """Every catalog and lake that rows can name. An inventory that cannot be read does not hinder a query: the default
    lake and catalog come from the settings."""
    from airflow_dataops.connections import resolve
    from airflow_dataops.open_edges import open_named_catalog
    from airflow_dataops.storage import open_storage

    settings = context.settings
    folder = Path(settings.inventory)
    platform = read_platform(folder) if folder.is_dir() else PlatformSpec()
    catalogs = []
    for name in ("default", *(n for n in platform.catalogs if n != "default")):
        catalog = open_named_catalog(name, settings, platform)
        stack.callback(catalog.close)
        catalogs.append(catalog)
    places = [(lake.uri, lake.conn_id) for lake in platform.lakes.values()]
    if "default" not in platform.lakes:
        places.insert(0, (settings.lake, settings.lake_conn_id))
    lakes = [open_storage(uri, resolve(conn_id) if conn_id else None) for uri, conn_id in places]
    return catalogs, lakes


def _find(name: tuple[str, str], known: dict[tuple[str, str], Catalog]) -> tuple[Catalog, CatalogTable]:
    """The catalog's table of that name, whatever its case: names in the lake have no upper case."""
    key = (name[0].lower(), name[1].lower())
    if name[0] in ("information_schema", "pg_catalog"):
        raise UsageError("Cannot query DuckDB's own schemas -> tables of the catalog, as <database>.<table>.")
    catalog = known.get(key)
    table = catalog.get_table(*key) if catalog is not None else None
    if catalog is None or table is None:
        names = sorted(".".join(k) for k in known)
        near = difflib.get_close_matches(".".join(key), names, 3) or names[:10]
        raise UsageError(f"Cannot find table {'.'.join(name)} -> one of {', '.join(near) or 'none: nothing is loaded yet'}.")
    return catalog, table


def _unique(names: list[str]) -> list[str]:
    """Names of the answer's columns, the later one of two equals with a number behind."""
    result: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in result:
            number += 1
            candidate = f"{name}_{number}"
        result.append(candidate)
    return result


def _json(value: Any) -> Any:
    """JSON that loses nothing: decimals and moments as text, bytes as hex."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, dict):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)


def _text(value: Any) -> str:
    value = _json(value)
    return value if isinstance(value, str) else str(value)
