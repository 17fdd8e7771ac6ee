"""Rules about which tables a row takes: globs that cannot match, entries without effect, queries."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_dataops.core.options import FilesOptions
from airflow_dataops.core.spec import PipelineSpec, TableEntry, is_glob
from airflow_dataops.core.table_spec import is_selected
from dag_factory.inventory import globs
from dag_factory.inventory.narrow import PARTS, Combination
from dag_factory.inventory.problem import Finding

_FILE = re.compile(r"\.(csv|tsv|txt|json|ndjson|jsonl|parquet|avro|gz|zst|bz2|xz)$", re.IGNORECASE)


def table_findings(spec: PipelineSpec) -> Iterator[Finding]:
    """What `tables` and `exclude` say that can never be."""
    if not spec.tables:
        yield Finding("tables", 'is empty, so the row takes no table. Remove it, or write `tables: ["*"]`')
    entries = [(i, entry.match if isinstance(entry, TableEntry) else entry) for i, entry in enumerate(spec.tables)]
    bad = False
    for index, glob in entries:
        field = f"tables[{index}].match" if isinstance(spec.tables[index], TableEntry) else f"tables[{index}]"
        if why := globs.fault(glob):
            bad = True
            yield Finding(field, f"found {glob!r}: {why}")
        elif hidden := next((e for e in spec.exclude if globs.covers(e, glob)), None):
            bad = True
            yield Finding(field, f"found {glob!r}: can never match, as `exclude` takes away all of it ({hidden!r}). Remove one")
        elif why := globs.doubt(glob):
            yield Finding(field, f"found {glob!r}: {why}. Correct it, unless the table's name really does", "warning")
    for index, glob in enumerate(spec.exclude):
        if why := globs.fault(glob):
            bad = True
            yield Finding(f"exclude[{index}]", f"found {glob!r}: {why}")
        elif not any(globs.meet(glob, match) for _, match in entries if not globs.fault(match)):
            yield Finding(
                f"exclude[{index}]", f"found {glob!r}: can never match, as no `tables` entry takes such a table. Remove it"
            )
    if not bad:
        yield from _shadowed(spec, entries)
        yield from _single(spec)


def _shadowed(spec: PipelineSpec, entries: list[tuple[int, str]]) -> Iterator[Finding]:
    """Entries that say nothing: globs that stand twice, and overrides that later entries undo whole."""
    at: dict[str, list[int]] = {}
    for index, glob in entries:
        at.setdefault(glob, []).append(index)
    wide = [(index, glob) for index, glob in entries if is_glob(glob)]
    for index, glob in entries:
        entry = spec.tables[index]
        if isinstance(entry, str):
            if index > at[glob][0]:
                yield Finding(f"tables[{index}]", f"{glob!r} stands twice. Remove one", "warning")
            continue
        said = {name for name in PARTS if getattr(entry, name)}
        if not said:
            yield Finding(f"tables[{index}]", f"overrides nothing. Write the glob alone: {glob!r}", "warning")
            continue
        same = {later: glob for later in at[glob] if later > index}
        covering = same | {later: other for later, other in wide if later > index and globs.covers(other, glob)}
        for later, other in sorted(covering.items()):
            over = spec.tables[later]
            said -= {name for name in said if set(getattr(entry, name)) <= set(getattr(over, name, None) or ())}
            if not said:
                yield Finding(
                    f"tables[{index}]",
                    f"has no effect: entry {later} ({other!r}) stands later, matches the same tables and overrides every "
                    "field. Put the narrower entry last",
                )
                break


def _single(spec: PipelineSpec) -> Iterator[Finding]:
    table = only_table(spec)
    if table is not None and spec.kind == "files" and not is_selected(spec, table):
        yield Finding(
            "tables",
            f"can never match: the files are one table called {table!r}, and no entry takes it. "
            "Remove `tables` and `exclude`, or set `options.table_from`",
        )


def only_table(spec: PipelineSpec) -> str | None:
    """The one source table this row is about, when its text alone tells; None when there may be several."""
    if spec.kind == "files":
        options = FilesOptions.model_construct(**{"path": "", "table_from": "auto", **spec.options})
        if options.table_from == "source" or (options.table_from == "auto" and is_glob(options.path)):
            return spec.name
        return None
    matches = {entry.match if isinstance(entry, TableEntry) else entry for entry in spec.tables}
    (first, *others) = matches or {"*"}
    return None if others or is_glob(first) else first


def could_be_several(spec: PipelineSpec, table: str | None) -> bool:
    """Whether more than one source table could get what is said here; `table` is the one a glob-free entry names."""
    if table is not None and spec.kind != "files":
        return False
    if spec.kind == "files" and str(spec.options.get("table_from", "auto")) == "auto" and _names_a_file(spec):
        return False
    return only_table(spec) is None


def _names_a_file(spec: PipelineSpec) -> bool:
    """By its extension. Not proof: there are folders called `orders.parquet`."""
    return _FILE.search(str(spec.options.get("path", ""))) is not None


def query_findings(spec: PipelineSpec, use: Combination) -> Iterator[Finding]:
    """`read.query` stands for exactly one table."""
    if use.read.query is None:
        return
    field = use.field("read.query")
    if spec.kind != "sql":
        yield Finding(field, f"does not go with `kind: {spec.kind}`: only a database answers queries. Remove it")
        return
    if not use.read.query.strip():
        yield Finding(field, "is empty. Write a SELECT, or remove it")
    if use.table is None or not ("read" in use.overridden or only_table(spec)):
        yield Finding(
            field,
            "stands for exactly one table, and here several could get it. "
            "Name that table: `tables: [<its name>]`, or put the query into a `tables` entry that matches one name",
        )
