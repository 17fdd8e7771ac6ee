"""Rules about where rows land: names, partitions, lakes and catalogs, and rows that would meet in one table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.naming import MAX_NAME, sanitise
from airflow_dataops.core.partition_name import MAX_SEGMENT_BYTES
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec, TableEntry, is_glob
from airflow_dataops.core.table_spec import fill, table_spec
from dag_factory.inventory.lint_row import nearest
from dag_factory.inventory.lint_tables import could_be_several, only_table
from dag_factory.inventory.narrow import Combination
from dag_factory.inventory.problem import Finding

STANDARD_NAMES = frozenset(("_ingested_at", "_batch_id", "_source_file", "_source_offset", "_row_fingerprint"))
"""The standard columns (`core/standards.py`); a test holds both equal, so that linting needs no Arrow."""

TEMPLATE_WORDS = ("domain", "name", "table", "source_table")
_WORD = re.compile(r"(?<!\{)\{([A-Za-z_][A-Za-z_0-9]*)\}(?!\})")


def target_findings(spec: PipelineSpec, use: Combination, platform: PlatformSpec) -> Iterator[Finding]:
    """What is wrong with the target of one combination."""
    yield from _places(use, platform)
    for name in ("lake", "catalog"):
        if getattr(use.target, name) != getattr(spec.target, name):
            text = f"is not the row's {name}: the tables of a row share one. Make two rows of it"
            yield Finding(use.field(f"target.{name}"), text)
    yield from _names(spec, use)
    yield from _partitions(use)
    yield from _location(spec, use)
    if any(action == "hash" for action in use.privacy.columns.values()) and use.privacy.key_conn_id is None:
        yield Finding(
            use.field("privacy.key_conn_id"),
            "is missing: `hash` needs a key, or anybody could try out the values. "
            "Name the Airflow connection whose password is the key",
        )


def _places(use: Combination, platform: PlatformSpec) -> Iterator[Finding]:
    target = use.target
    lakes = {"default", *platform.lakes}
    if target.lake not in lakes:
        yield Finding(
            use.field("target.lake"), f"found {target.lake!r}, {nearest(target.lake, lakes)} Lakes stand in platform.yaml"
        )
    catalogs = {"default", *platform.catalogs}
    if target.catalog not in catalogs:
        yield Finding(
            use.field("target.catalog"),
            f"found {target.catalog!r}, {nearest(target.catalog, catalogs)} Catalogs stand in platform.yaml",
        )


def _names(spec: PipelineSpec, use: Combination) -> Iterator[Finding]:
    for name in ("database", "table"):
        template = getattr(use.target, name)
        field = use.field(f"target.{name}")
        for word in _WORD.findall(template):
            if word not in TEMPLATE_WORDS:
                known = ", ".join(f"{{{w}}}" for w in TEMPLATE_WORDS)
                yield Finding(
                    field,
                    f"holds {{{word}}}, which stands for nothing; known are {known}. Correct it, or it stays as text",
                    "warning",
                )
        longest = fill(template, {"domain": spec.domain, "name": spec.name, "table": "", "source_table": ""})
        if len(longest) > MAX_NAME:
            yield Finding(field, f"gives a name of {len(longest)} characters, and Hive takes at most {MAX_NAME}. Shorten it")
        elif not longest.strip() and not _has_table(template):
            yield Finding(field, "gives an empty name. Write one")
    if not _has_table(use.target.table) and could_be_several(spec, use.table):
        yield Finding(
            use.field("target.table"),
            f"found {use.target.table!r}: several source tables could meet in this one table. "
            "Keep `{table}` in it, or name the one source table in `tables`",
        )


def _has_table(template: str) -> bool:
    return "{table}" in template or "{source_table}" in template


def _partitions(use: Combination) -> Iterator[Finding]:
    field = use.field("target.partition_by")
    seen: set[str] = set()
    replaces_a_period = (use.read.mode, use.write.mode) == ("window", "overwrite_partition")
    columns = {p.column for p in use.target.partition_by} | {use.read.cursor, use.write.order_by}
    known = {sanitise(column): column for column in columns if column}
    for part in use.target.partition_by:
        if sanitise(part.name) != part.name:
            yield Finding(
                field,
                f"{part.name[:60]!r} is no name of a Hive column: a lower-case letter or `_`, then lower-case letters, "
                f"digits, `_`, at most {MAX_NAME} characters. Correct it",
            )
        elif part.name in STANDARD_NAMES:
            yield Finding(field, f"{part.name!r} is the name of a standard column. Choose another")
        elif part.name in known:
            yield Finding(
                field,
                f"{part.name!r} is also the source's column {known[part.name]!r}, and Hive holds a name once. "
                f"Name the partition otherwise, for example {part.name + '_part'!r}",
            )
        if part.name in seen:
            yield Finding(field, f"{part.name!r} stands twice. Remove one")
        seen.add(part.name)
        if part.transform != "identity" and part.column is None and replaces_a_period:
            yield Finding(
                field,
                f"{part.name!r} holds several periods (`transform: {part.transform}`): with `overwrite_partition` each period "
                "would replace the others. Remove the transform, or use `append` or `merge`",
            )


def _location(spec: PipelineSpec, use: Combination) -> Iterator[Finding]:
    location = use.target.location
    if location is None:
        return
    field = use.field("target.location")
    parts = re.split(r"[/\\]", location)
    if ".." in parts or "." in parts or location.startswith("/") or "://" in location or "" in parts[:-1]:
        yield Finding(
            field,
            "is not a plain path below the lake's root. Write it relative, without `..` and address; the lake says where it begins",
        )
    elif any(ord(c) < 32 for c in location) or not location.strip():
        yield Finding(field, "is empty or holds a control character. Correct it")
    elif any(len(part.encode()) > MAX_SEGMENT_BYTES for part in parts):
        yield Finding(field, f"has a folder's name of more than {MAX_SEGMENT_BYTES} bytes, and no file system takes it. Shorten it")
    elif could_be_several(spec, use.table):
        yield Finding(field, "is one place, and several tables could get it. Put it into a `tables` entry that matches one table")


@dataclass(frozen=True, slots=True)
class Claim:
    """A target table that a row's text names: `place` is (catalog, database, table), `row_place` the row's file:line."""

    row: str
    row_place: str
    field: str
    source_table: str
    place: tuple[str, str, str]


def claims(spec: PipelineSpec) -> tuple[list[Claim], list[Finding]]:
    """(targets that the row's text alone tells, what is wrong with them)."""
    told: list[Claim] = []
    wrong: list[Finding] = []
    movers = _movers(spec)
    overrides = any(isinstance(entry, TableEntry) for entry in spec.tables)
    for field, source_table in _known_tables(spec):
        try:
            moved = movers(source_table)
            table = table_spec(spec.model_copy(update={"tables": moved}) if moved or overrides else spec, source_table)
        except InventoryError as error:
            wrong.append(Finding(field, str(error)))
            continue
        place = (table.target.catalog, table.database, table.table)
        told.append(Claim(spec.id, f"{spec.file}:{spec.line}", field, source_table, place))
    return told, wrong


def rivals(claimed: Iterable[Claim]) -> Iterator[tuple[Claim, Finding]]:
    """The claims of a target that another table has claimed before."""
    taken: dict[tuple[str, str, str], Claim] = {}
    for claim in claimed:
        owner = taken.setdefault(claim.place, claim)
        if (owner.row, owner.source_table) != (claim.row, claim.source_table):
            _, database, table = claim.place
            yield (
                claim,
                Finding(
                    claim.field,
                    f"{claim.source_table!r} would land in {database}.{table}, where {owner.source_table!r} of {owner.row} lands "
                    f"({owner.row_place}). Two sources never share a table. Give one of them another "
                    "`target.database` or `target.table`",
                ),
            )


def meetings(specs: Iterable[PipelineSpec]) -> Iterator[tuple[PipelineSpec, Finding]]:
    """Rows (and tables of one row) that would write one and the same target, where their text alone tells. The later
    one gets the finding."""
    by_id: dict[str, PipelineSpec] = {}
    told: list[Claim] = []
    for spec in specs:
        by_id[spec.id] = spec
        own, wrong = claims(spec)
        told += own
        yield from ((spec, finding) for finding in wrong)
    yield from ((by_id[claim.row], finding) for claim, finding in rivals(told))


def _movers(spec: PipelineSpec) -> Callable[[str], tuple[TableEntry, ...]]:
    """The entries that may change a named table's target, in their order: few, so that many tables cost no square."""
    found = [e for e in spec.tables if isinstance(e, TableEntry) and e.target]
    wide = [(i, e) for i, e in enumerate(found) if is_glob(e.match)]
    named: dict[str, list[tuple[int, TableEntry]]] = {}
    for index, entry in enumerate(found):
        if not is_glob(entry.match):
            named.setdefault(entry.match, []).append((index, entry))
    return lambda table: tuple(e for _, e in sorted([*wide, *named.get(table, [])], key=lambda pair: pair[0]))


def _known_tables(spec: PipelineSpec) -> Iterator[tuple[str, str]]:
    """(field, source table) of each table that is named, not matched."""
    if spec.kind == "files":
        table = only_table(spec)
        if table is not None or not could_be_several(spec, None):
            yield "target.table", table or spec.name
        return
    seen: set[str] = set()
    for index, entry in enumerate(spec.tables):
        name = entry if isinstance(entry, str) else entry.match
        if not is_glob(name) and name not in seen:
            seen.add(name)
            yield f"tables[{index}]", name
