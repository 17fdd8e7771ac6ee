"""Which read modes go with which write modes, and what each of them needs (INVENTORY.md "What goes with what")."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_dataops.core.spec import PipelineSpec
from dag_factory.inventory.narrow import Combination
from dag_factory.inventory.problem import Finding

DELTA_OVER_DELTA = (
    "a period's second delta would overwrite its first, and rows would be lost. Use `write.mode: append`, or `merge` with `keys`"
)
SNAPSHOT_TWICE = (
    "every run reads the whole table, and appending it again would double each row. "
    "Use `write.mode: overwrite_partition`, or `merge` with `keys`"
)

REFUSED: dict[tuple[str, str], str] = {
    ("full", "append"): SNAPSHOT_TWICE,
    ("watermark", "overwrite_partition"): DELTA_OVER_DELTA,
    ("new_files", "overwrite_partition"): DELTA_OVER_DELTA,
    ("cdc", "overwrite_partition"): DELTA_OVER_DELTA,
}
"""The cells of the matrix that are refused, with the reason and the fix; every other cell is allowed."""

MODES_OF_KIND = {"sql": ("full", "window", "watermark"), "files": ("full", "new_files")}
"""Which read modes a kind of source can give at all."""

_WHY_NOT = {
    ("files", "window"): "files cannot be read by a cursor",
    ("files", "watermark"): "files cannot be read by a cursor",
    ("sql", "new_files"): "a database has no files",
}


def mode_findings(spec: PipelineSpec, use: Combination) -> Iterator[Finding]:
    """What does not fit together in one combination."""
    read, write = use.read, use.write
    where = use.field_of("write.mode", "read.mode")
    if reason := REFUSED.get((read.mode, write.mode)):
        yield Finding(where, f"`{write.mode}` does not go with `read.mode: {read.mode}`: {reason}")
    modes = MODES_OF_KIND.get(spec.kind)
    if modes is not None and read.mode not in modes and read.mode != "cdc":
        why = _WHY_NOT.get((spec.kind, read.mode), "this kind of source cannot")
        yield Finding(
            use.field("read.mode"), f"`{read.mode}` does not go with `kind: {spec.kind}`: {why}. Known are {', '.join(modes)}"
        )
    yield from _cursor(use)
    yield from _keys(use)
    yield from _partitions(use)
    yield from _continuous(spec, use)
    yield from _backfill(spec, use)


def _cursor(use: Combination) -> Iterator[Finding]:
    read = use.read
    if read.mode in ("window", "watermark") and not read.cursor:
        what = "the column that dates a row" if read.mode == "window" else "a column that only grows"
        yield Finding(use.field("read.cursor"), f"is missing: `read.mode: {read.mode}` needs {what}. Add `cursor: <column>`")
    if read.mode in ("full", "new_files"):
        for name, is_set in (("cursor", read.cursor), ("lag_seconds", read.lag_seconds)):
            if is_set:
                yield _unused(use, f"read.{name}", f"`read.mode: {read.mode}` has no cursor")
    if read.overlap_seconds and read.mode != "watermark":
        yield _unused(use, "read.overlap_seconds", f"`read.mode: {read.mode}` has no watermark")


def _keys(use: Combination) -> Iterator[Finding]:
    write = use.write
    if write.mode == "merge" and not write.keys:
        yield Finding(
            use.field("write.keys"), "is missing: `write.mode: merge` must know which row is which. Add `keys: [<column>, …]`"
        )
    twice = sorted({key for key in write.keys if write.keys.count(key) > 1})
    if twice:
        yield Finding(use.field("write.keys"), f"names {twice[0]!r} twice. Remove one")
    if any(not key.strip() for key in write.keys):
        yield Finding(use.field("write.keys"), "holds an empty name. Remove it")
    if write.mode != "merge" and write.keys:
        yield _unused(use, "write.keys", f"`write.mode: {write.mode}` does not compare rows")
    if write.mode != "merge" and write.order_by:
        yield _unused(use, "write.order_by", f"`write.mode: {write.mode}` does not compare rows")


def _partitions(use: Combination) -> Iterator[Finding]:
    mode, write, by = use.read.mode, use.write.mode, use.target.partition_by
    of_data = [p for p in by if p.column is not None]
    where = use.field_of("target.partition_by", "write.mode", "read.mode")
    if of_data and write == "overwrite_partition" and mode == "window":
        yield Finding(
            where,
            f"{of_data[0].name!r} comes from a data column: with `overwrite_partition` one period's rows would replace other "
            "periods' rows of the same partition. Use `write.mode: append` or `merge`, or `read.mode: full`",
        )
    elif mode == "window" and write == "overwrite_partition" and not by:
        yield Finding(
            where,
            "is missing: without a partition per period each window would replace the whole table. "
            "Add `partition_by: [{name: dt, from: period_start}]`, or use `append` or `merge`",
        )


def _continuous(spec: PipelineSpec, use: Combination) -> Iterator[Finding]:
    if spec.schedule != "@continuous":
        return
    for part in use.target.partition_by:
        if part.column is None:
            yield Finding(
                use.field("target.partition_by"),
                f"{part.name!r} comes from the period, and `schedule: @continuous` has none. "
                "Partition by a column, or use a cron schedule",
            )
    if use.read.mode == "window":
        yield Finding(
            use.field("read.mode"), "`window` reads one period, and `schedule: @continuous` has none. Use `watermark`, or a cron"
        )


def _backfill(spec: PipelineSpec, use: Combination) -> Iterator[Finding]:
    if use.read.backfill == "snapshot" and use.read.mode != "full":
        yield _unused(use, "read.backfill", f"`read.mode: {use.read.mode}` has history of its own")
    if spec.catchup and use.read.mode == "full" and use.read.backfill == "refuse":
        yield Finding(
            "catchup",
            "asks for past periods, and `read.mode: full` knows only today's state: those runs would all be refused. "
            "Remove it, or set `read.backfill: snapshot`",
            "warning",
        )


def _unused(use: Combination, path: str, why: str) -> Finding:
    return Finding(use.field(path), f"has no effect: {why}. Remove it", "warning")
