"""What of an edit of the inventory can hurt: rules over one row, and over what the row says of one table. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec, PrivacySpec, is_glob
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.schedule import Schedule, parse_schedule
from dag_factory.inventory import globs

WHY = {
    "removed": "Its DAG is retired, and its tables are not written any more. Rows that nobody names any more stay in the lake.",
    "table_removed": "It is not written any more. What it has stays in the lake as it is.",
    "target": "The table begins anew there: nothing is carried over from the old place, which gets no more rows.",
    "cursor": "How far the source was read is known by the old cursor only.",
    "keys": "Rows that are there were merged by the old keys: they can stay beside their new versions.",
    "read_mode": "What was read so far was read in another way: rows can be missing or come twice until everything is read again.",
    "write_mode": "Rows that are there were written in another way: they can stay beside their new versions.",
    "privacy": "Values that were hidden are stored in the clear from now on.",
    "privacy_key": "The same value gets another digest: old and new rows cannot be joined or merged by it.",
    "source": "How far the source was read is known of the old system: rows of the new one can be left out.",
    "periods": "Runs stand for other periods: partition keys are written differently, and old and new partitions can overlap.",
}
"""Code → why it is dangerous; the codes are stable."""

INCREMENTAL = ("watermark", "new_files", "cdc")
_MOST_PAIRS = 10_000
_HIDES = {"keep": 0, "hash": 1, "mask": 2, "drop": 3}
"""How much of a value is hidden: a digest still tells equal values apart."""


@dataclass(frozen=True, slots=True)
class Danger:
    """One danger. `about` is the source, or the source table or glob of it. `before` and `after` are shown values."""

    code: str
    source_id: str
    field: str
    about: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.code in ("removed", "table_removed"):
            return f"{self.about}: removed. {WHY[self.code]}"
        return f"{self.about}: {self.field} {_text(self.before)} -> {_text(self.after)}. {WHY[self.code]}"

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code, "source": self.source_id, "field": self.field, "about": self.about, "before": self.before,
            "after": self.after, "message": str(self),
        }  # fmt: skip


def removed(row: PipelineSpec) -> Danger:
    """The row is not there any more."""
    return Danger("removed", row.id, "", row.id, row.id, None)


def row_dangers(old: PipelineSpec, new: PipelineSpec) -> Iterator[Danger]:
    """Dangers of the row as a whole."""
    modes = {spec.read.mode for spec in (old, new)} | {mode for spec in (old, new) for mode in _entry_modes(spec)}
    if old.kind != new.kind:
        yield Danger("source", new.id, "kind", new.id, old.kind, new.kind)
    elif modes & set(INCREMENTAL):
        if old.conn_id != new.conn_id:
            yield Danger("source", new.id, "conn_id", new.id, old.conn_id, new.conn_id)
        for name in sorted({*old.options, *new.options}):
            if name in ("path", "table_from", "schemas") and old.options.get(name) != new.options.get(name):
                yield Danger("source", new.id, f"options.{name}", new.id, old.options.get(name), new.options.get(name))
    before, after = _periods(old), _periods(new)
    if before != after and ("window" in modes or any(_has_period(spec) for spec in (old, new))):
        yield Danger("periods", new.id, "schedule", new.id, before, after)


def _entry_modes(spec: PipelineSpec) -> Iterator[str]:
    for entry in spec.tables:
        if not isinstance(entry, str) and entry.read and entry.read.get("mode"):
            yield entry.read["mode"]


def _has_period(spec: PipelineSpec) -> bool:
    return any(p.column is None for p in spec.target.partition_by) or any(
        isinstance(p, dict) and p.get("from") == "period_start"
        for entry in spec.tables
        if not isinstance(entry, str) and entry.target
        for p in entry.target.get("partition_by") or ()
    )


def _periods(spec: PipelineSpec) -> str:
    """What bounds the periods, as text: the cron of their begins and the zone."""
    schedule: Schedule = parse_schedule(spec.schedule, spec.timezone)
    return f"{schedule.grid or 'days'} ({schedule.timezone})"


def table_dangers(
    old: TableSpec, new: TableSpec, about: str, places: tuple[tuple[str, str], tuple[str, str]]
) -> Iterator[Danger]:
    """Dangers for one table, or the tables of one glob. `places` are (target, where that is) before and after; the second is
    anything that changes when its lake or catalog does."""
    source = new.source_id
    before, after = places
    if before != after:
        shown = (before[0], after[0]) if before[0] != after[0] else (before[1], after[1])
        yield Danger("target", source, "target", about, *shown)
    for field in ("partition_by", "format"):
        was, becomes = _value(getattr(old.target, field)), _value(getattr(new.target, field))
        if was != becomes:
            yield Danger("target", source, f"target.{field}", about, was, becomes)
    if old.read.mode != new.read.mode:
        yield Danger("read_mode", source, "read.mode", about, old.read.mode, new.read.mode)
    if old.read.query != new.read.query:
        yield Danger("read_mode", source, "read.query", about, old.read.query, new.read.query)
    if old.read.cursor != new.read.cursor and not (old.read.cursor is None and old.read.mode != new.read.mode):
        yield Danger("cursor", source, "read.cursor", about, old.read.cursor, new.read.cursor)
    if old.write.mode != new.write.mode:
        yield Danger("write_mode", source, "write.mode", about, old.write.mode, new.write.mode)
    if set(old.write.keys) != set(new.write.keys) and (old.write.keys or old.write.mode == new.write.mode):
        yield Danger("keys", source, "write.keys", about, list(old.write.keys), list(new.write.keys))
    yield from _privacy(old.privacy, new.privacy, source, about)


def _privacy(old: PrivacySpec, new: PrivacySpec, source: str, about: str) -> Iterator[Danger]:
    """Rules that let more of a value through than before, for columns of one rule's glob, of two that meet, and of none."""
    rules = list(dict.fromkeys([*old.columns, *new.columns]))
    meeting = [(a, b) for a, b in combinations(rules, 2) if (is_glob(a) or is_glob(b)) and globs.meet(a, b)][:_MOST_PAIRS]
    for column in [(), *((rule,) for rule in rules), *meeting]:
        before, after = _action(old, column), _action(new, column)
        if _HIDES[after] < _HIDES[before]:
            field = f"privacy.columns.{' and '.join(column)}" if column else "privacy.mode"
            yield Danger("privacy", source, field, about, before, after)
    if old.key_conn_id != new.key_conn_id and {"hash"} <= set(old.columns.values()) & set(new.columns.values()):
        yield Danger("privacy_key", source, "privacy.key_conn_id", about, old.key_conn_id, new.key_conn_id)


def _action(privacy: PrivacySpec, column: tuple[str, ...]) -> str:
    """What happens to a column that matches these globs and nothing more precise: the last rule that covers it wins."""
    action = "mask" if privacy.mode == "mask_unclassified" else "keep"
    for rule, wanted in privacy.columns.items():
        if rule == "*" or any(rule == glob or globs.covers(rule, glob) for glob in column):
            action = wanted
    return action


def _value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [v.model_dump(by_alias=True) for v in value]
    return value


def _text(value: Any) -> str:
    return "nothing" if value in (None, [], "") else str(value)


def place_of(table: TableSpec, name: str, platform: PlatformSpec) -> tuple[str, str]:
    """(target, where it is): the second changes when the address behind the target's lake or catalog does."""
    lake, catalog = platform.lakes.get(table.target.lake), platform.catalogs.get(table.target.catalog)
    where = [f"lake {table.target.lake}"]
    if lake is not None:
        where.append(f"at {lake.uri}")
    where.append(f"catalog {table.target.catalog}")
    if catalog is not None:
        where.append(f"({catalog.kind}{', ' + catalog.conn_id if catalog.conn_id else ''})")
    if table.target.location:
        where.append(f"location {table.target.location}")
    return name, " ".join(where)
