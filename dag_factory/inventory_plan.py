"""Two inventories → what the edit between them does to DAGs and tables, and what of it is dangerous. Pure: no I/O.

Which tables a source has is known at run time only. So tables are told by what the rows say of them: by a name, or by a glob
that stands for all tables it matches and of which the row says nothing more precise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, Literal

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec, SourceSpec, TableEntry, is_glob
from airflow_dataops.core.table_spec import TableSpec, bare_name, fill, is_selected, table_spec
from dag_factory.bundle.retirement import Limits
from dag_factory.inventory import Inventory, Problem
from dag_factory.inventory.secret_text import hidden
from dag_factory.inventory_dangers import Danger, place_of, removed, row_dangers, table_dangers
from dag_factory.plan import plan_dag

Action = Literal["add", "change", "retire", "rename"]

_OF_A_NEW_DAG = ("schedule", "timezone", "start_date", "pool", "error")
PARTS = ("read", "write", "target", "contract", "privacy", "standards")
"""What may be said per table."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A dotted field with its value before and after; None where there is none. Credentials are hidden."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What happens to a source table, or to those of a glob. `before` and `after` are targets (`database.table`), None when
    the row does not take it."""

    action: Literal["add", "change", "retire"]
    source_table: str
    before: str | None
    after: str | None
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """What happens to one source. `was` is its id before, when it is renamed. `fields` are those of the resolved row, and of
    the lake and catalog it names; `dag` those of its DAG. `file` and `line` tell where the row stands, or stood."""

    action: Action
    source_id: str
    dag_id: str
    file: str
    line: int
    was: str | None = None
    fields: tuple[FieldChange, ...] = ()
    dag: tuple[FieldChange, ...] = ()
    tables: tuple[TablePlan, ...] = ()
    dangers: tuple[Danger, ...] = ()

    @property
    def moves_schedule(self) -> bool:
        """Whether its runs start at other times, or stand for other periods."""
        return any(f.field in ("schedule", "timezone", "start_date", "jitter_seconds", "catchup") for f in self.dag)

    @property
    def moves_target(self) -> bool:
        """Whether some table lands elsewhere than before."""
        return any(d.code == "target" for d in self.dangers)

    def to_json(self) -> dict[str, Any]:
        return {
            "action": self.action, "source": self.source_id, "was": self.was, "dag_id": self.dag_id, "file": self.file,
            "line": self.line, "moves_schedule": self.moves_schedule, "moves_target": self.moves_target,
            "fields": [asdict(f) for f in self.fields], "dag": [asdict(f) for f in self.dag],
            "tables": [asdict(t) for t in self.tables], "dangers": [d.to_json() for d in self.dangers],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class InventoryPlan:
    """The whole edit, sources in order of id. `unreadable` are sources of which nothing can be said, because their row or file
    has errors now: Airflow keeps what it has of them. `problems` are all of the edited inventory."""

    sources: tuple[SourcePlan, ...]
    unchanged: int
    unreadable: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def dangers(self) -> tuple[Danger, ...]:
        return tuple(danger for source in self.sources for danger in source.dangers)

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "error")

    def counts(self) -> dict[str, int]:
        """Action → how many sources; `unchanged` and `unreadable` too."""
        counted = {action: sum(s.action == action for s in self.sources) for action in ("add", "change", "rename", "retire")}
        return counted | {"unchanged": self.unchanged, "unreadable": len(self.unreadable)}


def plan_inventory(before: Inventory, after: Inventory) -> InventoryPlan:
    """What it does to put `after` in the place of `before`. A row that is not enabled has no DAG, as if it were not there;
    but only a row that is gone is a danger."""
    old = {row.id: row for row in before.rows if row.enabled}
    new = {row.id: row for row in after.rows if row.enabled}
    good = {row.id for row in after.rows}
    unreadable = {*after.all_rows} - good | {name for name in old if name not in good and _file_is_broken(name, after)}
    renamed = {row.id: f"{row.domain}.{row.renamed_from}" for row in new.values() if row.renamed_from and row.id not in old}
    renamed = {now: was for now, was in renamed.items() if was in old and was not in good}
    plans: list[SourcePlan] = []
    unchanged = 0
    for name in sorted({*old, *new} - unreadable - set(renamed.values())):
        was, becomes = old.get(renamed.get(name, name)), new.get(name)
        if becomes is None and was is not None:
            plans.append(_retired(was, gone=name not in good))
        elif was is None and becomes is not None:
            plans.append(_added(becomes, after.platform))
        elif was is not None and becomes is not None:
            plan = _changed(was, becomes, before.platform, after.platform)
            if plan is None:
                unchanged += 1
            else:
                plans.append(plan)
    return InventoryPlan(tuple(plans), unchanged, tuple(sorted(unreadable)), after.problems)


def with_mass_removal(plan: InventoryPlan, known: int, limits: Limits) -> InventoryPlan:
    """The plan, with a problem when it removes so many of the `known` rows that the bundle would take it for an accident."""
    gone = sum(danger.code == "removed" for danger in plan.dangers)
    if gone <= limits.most(known):
        return plan
    message = (
        f"removes {gone} of {known} rows -> at most {limits.most(known)} at once: the inventory bundle would take it for an "
        "accident and change nothing. Do it in steps, or raise `retire_most_rows` and `retire_most_percent` first"
    )
    return replace(plan, problems=(Problem("error", "inventory", 1, "", "", message), *plan.problems))


def _file_is_broken(source_id: str, after: Inventory) -> bool:
    """Whether the file of this source has errors and gave no row at all, so that the row may still stand in it."""
    domain = source_id.partition(".")[0]
    if any(name.partition(".")[0] == domain for name in after.all_rows):
        return False
    return any(not p.row and p.file.replace("\\", "/").rpartition("/")[2] == f"{domain}.yaml" for p in after.errors)


def _added(row: PipelineSpec, platform: PlatformSpec) -> SourcePlan:
    tables = tuple(TablePlan("add", name, None, _target(row, name)) for name in _patterns(row) if is_selected(row, name))
    return SourcePlan("add", row.id, row.dag_id, row.file, row.line, dag=_dag_changes(None, row, platform, platform), tables=tables)


def _retired(row: PipelineSpec, *, gone: bool) -> SourcePlan:
    tables = tuple(TablePlan("retire", name, _target(row, name), None) for name in _patterns(row) if is_selected(row, name))
    dangers = (removed(row),) if gone else ()
    fields = () if gone else (FieldChange("enabled", True, False),)
    return SourcePlan("retire", row.id, row.dag_id, row.file, row.line, fields=fields, tables=tables, dangers=dangers)


def _changed(old: PipelineSpec, new: PipelineSpec, was: PlatformSpec, becomes: PlatformSpec) -> SourcePlan | None:
    """None when nothing changes but the place in the file."""
    renamed = old.id != new.id
    same_platform = was == becomes
    if not renamed and same_platform and all(getattr(old, f) == getattr(new, f) for f in _FIELDS):
        return None
    fields = _differences(_flat(old), _flat(new))
    if not same_platform:
        fields += _platform_changes(old, new, was, becomes)
    dag = _dag_changes(old, new, was, becomes)
    tables: list[TablePlan] = []
    dangers: list[Danger] = list(row_dangers(old, new))
    for name in dict.fromkeys([*_patterns(old), *_patterns(new)]):
        table, found = _table(old, new, name, was, becomes)
        dangers += found
        if table is not None:
            tables.append(table)
    if not (renamed or fields or dag or tables or dangers):
        return None
    return SourcePlan(
        "rename" if renamed else "change", new.id, new.dag_id, new.file, new.line, old.id if renamed else None, fields, dag,
        tuple(tables), tuple(dangers),
    )  # fmt: skip


def _table(
    old: PipelineSpec, new: PipelineSpec, name: str, was: PlatformSpec, becomes: PlatformSpec
) -> tuple[TablePlan | None, list[Danger]]:
    taken, takes = is_selected(old, name), is_selected(new, name)
    if not taken and not takes:
        return None, []
    if not taken:
        return TablePlan("add", name, None, _target(new, name)), []
    if not takes:
        target = _target(old, name)
        return TablePlan("retire", name, target, None), [Danger("table_removed", new.id, "tables", name, target, None)]
    before, after = table_spec(old, name), table_spec(new, name)
    targets = _target(old, name), _target(new, name)
    places = place_of(before, targets[0], was), place_of(after, targets[1], becomes)
    dangers = list(table_dangers(before, after, name, places))
    fields = _differences(_flat_table(before), _flat_table(after))
    if not fields and places[0] == places[1]:
        return None, dangers
    return TablePlan("change", name, *targets, fields), dangers


_FIELDS = tuple(f for f in SourceSpec.model_fields if f != "name")


def _patterns(row: PipelineSpec) -> list[str]:
    """Names and globs the row says something of, those it leaves out included."""
    named = [entry.match if isinstance(entry, TableEntry) else entry for entry in row.tables]
    return list(dict.fromkeys([*named, *row.exclude]))


def _target(row: PipelineSpec, name: str) -> str:
    """`database.table`; for a glob with the glob in its place, which no name of a table could keep."""
    table = table_spec(row, name)
    if not is_glob(name):
        return table.name
    bare = bare_name(name) if row.kind == "sql" else name
    words = {"domain": row.domain, "name": row.name, "table": bare, "source_table": name}
    return f"{fill(table.target.database, words)}.{fill(table.target.table, words)}"


def _flat(row: PipelineSpec) -> dict[str, Any]:
    data = row.model_dump(mode="json", by_alias=True, exclude={"name", "file", "line", "domain"})
    return dict(_leaves(data))


def _flat_table(table: TableSpec) -> dict[str, Any]:
    return dict(_leaves({part: getattr(table, part).model_dump(mode="json", by_alias=True) for part in PARTS}))


def _leaves(data: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        here = f"{path}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{here}.")
        else:
            yield here, value


def _differences(before: dict[str, Any], after: dict[str, Any]) -> tuple[FieldChange, ...]:
    return tuple(
        FieldChange(name, hidden(before.get(name), name), hidden(after.get(name), name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    )


def _platform_changes(old: PipelineSpec, new: PipelineSpec, was: PlatformSpec, becomes: PlatformSpec) -> tuple[FieldChange, ...]:
    """Of the lake and the catalog that the row names before and after, where they are called the same."""
    found: list[FieldChange] = []
    for name in {old.target.lake} & {new.target.lake}:
        found += _platform_fields(f"platform.lakes.{name}", was.lakes.get(name), becomes.lakes.get(name))
    for name in {old.target.catalog} & {new.target.catalog}:
        found += _platform_fields(f"platform.catalogs.{name}", was.catalogs.get(name), becomes.catalogs.get(name))
    return tuple(found)


def _platform_fields(path: str, was: Any, becomes: Any) -> tuple[FieldChange, ...]:
    before, after = (dict(_leaves(x.model_dump(mode="json"), f"{path}.")) if x is not None else {} for x in (was, becomes))
    return _differences(before, after)


def _dag_changes(old: PipelineSpec | None, new: PipelineSpec, was: PlatformSpec, becomes: PlatformSpec) -> tuple[FieldChange, ...]:
    before = _dag(old, was) if old is not None else {}
    after = _dag(new, becomes)
    if old is None:
        return tuple(FieldChange(name, None, after[name]) for name in _OF_A_NEW_DAG if name in after)
    return _differences(before, after)


def _dag(row: PipelineSpec, platform: PlatformSpec) -> dict[str, Any]:
    """What Airflow gets of the row. Not its documentation, which quotes the row's fingerprint: it changes with anything."""
    try:
        plan = asdict(plan_dag(row, platform.pools))
    except InventoryError as error:
        return {"error": str(error)}
    return {
        name: value.isoformat() if isinstance(value, date) else list(value) if isinstance(value, tuple) else value
        for name, value in plan.items()
        if name not in ("doc", "source_id")
    }
