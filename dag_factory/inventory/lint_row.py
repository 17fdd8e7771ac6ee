"""Rules about one row as a whole: its kind and options, schedule, connections, notifications, names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.options import OPTION_MODELS, FilesOptions
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec, SourceSpec
from dag_factory.inventory.fields import validated
from dag_factory.inventory.merge import Tree
from dag_factory.inventory.problem import Finding

MOST_DAG_ID = 250
MOST_TAG = 100
MOST_OWNER = 500
# Airflow refuses other ids when a connection is stored (`sanitize_conn_id`).
_CONN_ID = re.compile(r"[\w#!()\-.:/\\]{1,250}\Z", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONN_FIELDS = ("conn_id", "privacy.key_conn_id", "dead_letters.conn_id")
_NEEDS_CONNECTION = frozenset(("sql",))


def row_findings(spec: PipelineSpec, tree: Tree, platform: PlatformSpec) -> Iterator[Finding]:
    """Everything about the row itself, tables aside."""
    yield from _kind(spec, tree)
    yield from _schedule(spec)
    yield from _connections(spec)
    yield from _names(spec)
    yield from _pool(spec, platform)


def nearest(name: str, known: Iterable[str]) -> str:
    """`known are a, b. Did you mean a?` or `… Choose one.`"""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"Did you mean `{near[0]}`?" if near else "Choose one."
    return f"known are {', '.join(names)}. {hint}"


def _kind(spec: PipelineSpec, tree: Tree) -> Iterator[Finding]:
    model = OPTION_MODELS.get(spec.kind)
    if model is None:
        yield Finding("kind", f"found {spec.kind!r}, {nearest(spec.kind, OPTION_MODELS)}")
        return
    options = tree.get("options", {})
    _, wrong = validated(model, options if isinstance(options, dict) else {}, f"the options of kind {spec.kind}")
    for finding in wrong:
        yield Finding(f"options.{finding.field}", finding.message)
    if model is FilesOptions:
        yield from _path(spec.options)
    if spec.kind in _NEEDS_CONNECTION and spec.conn_id is None:
        yield Finding("conn_id", f"is missing: `kind: {spec.kind}` is opened by an Airflow connection. Add `conn_id: <id>`")


def _path(options: Mapping[str, Any]) -> Iterator[Finding]:
    path = str(options.get("path", ""))
    if ".." in re.split(r"[/\\]", path):
        yield Finding("options.path", "holds `..`, and files outside the base path are never read. Write the path without it")
    if any(ord(c) < 32 for c in path):
        yield Finding("options.path", "holds a control character. Remove it")
    scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.\-]*)://", path)
    if scheme and scheme[1].lower() not in ("s3", "file"):
        yield Finding("options.path", f"has scheme {scheme[1]!r}, known are s3, file, or a plain path. Choose one")
    form = options.get("format", "auto")
    if form in ("json", "ndjson", "parquet", "avro"):
        for name in ("delimiter", "quote", "header"):
            if options.get(name) is not None:
                yield Finding(f"options.{name}", f"has no effect: `format: {form}` has none. Remove it", "warning")


def _schedule(spec: PipelineSpec) -> Iterator[Finding]:
    # Late: the cron library is only needed to lint and to plan, not to read a row inside a task.
    from airflow_dataops.schedule import YEARS, parse_schedule

    try:
        parse_schedule("none", spec.timezone)
    except InventoryError as error:
        yield Finding("timezone", str(error))
    try:
        parse_schedule(spec.schedule, "UTC")
    except InventoryError as error:
        yield Finding("schedule", str(error))
    if spec.start_date.year not in YEARS:
        yield Finding("start_date", f"found {spec.start_date} -> a day of the years {YEARS.start} to {YEARS.stop - 1}. Correct it")


def _connections(spec: PipelineSpec) -> Iterator[Finding]:
    for path in _CONN_FIELDS:
        owner, _, name = path.rpartition(".")
        value = getattr(getattr(spec, owner) if owner else spec, name)
        if value is not None and not _CONN_ID.match(value):
            yield Finding(path, "is no connection id: letters, digits and `_ - . : / # ! ( )`, at most 250. Correct it")
    for index, conn_id in enumerate(spec.notify):
        if not _CONN_ID.match(conn_id):
            yield Finding(
                f"notify[{index}]", "is no connection id. Name the Airflow connection (http, smtp, …) that carries the message"
            )
    if len(set(spec.notify)) < len(spec.notify):
        yield Finding("notify", "names a connection twice. Remove one", "warning")
    for index, person in enumerate(spec.approvers):
        if not person.strip():
            yield Finding(f"approvers[{index}]", "is empty. Name an Airflow user, or remove it")


def _names(spec: PipelineSpec) -> Iterator[Finding]:
    if len(spec.dag_id) > MOST_DAG_ID:
        yield Finding("name", f"gives a DAG id of {len(spec.dag_id)} characters, at most {MOST_DAG_ID}. Shorten it")
    for index, tag in enumerate(spec.tags):
        if not tag.strip() or len(tag) > MOST_TAG:
            yield Finding(f"tags[{index}]", f"has {len(tag)} characters -> 1 to {MOST_TAG}, as Airflow takes them. Correct it")
    if not spec.owner.strip():
        yield Finding("owner", "is empty: who is asked when it fails? Name a person or a team")
    if len(spec.owner) > MOST_OWNER:
        yield Finding("owner", f"has {len(spec.owner)} characters, at most {MOST_OWNER} fit Airflow's tables. Shorten it")
    shown = [("owner", spec.owner), *((f"tags[{i}]", tag) for i, tag in enumerate(spec.tags)), ("limits.pool", spec.limits.pool)]
    for field, text in shown:
        if text and _CONTROL.search(text):
            yield Finding(field, "holds a control character, a line break perhaps. Write it in one line of plain text")
    if spec.renamed_from == spec.name:
        yield Finding("renamed_from", "is the row's own name. Remove it")


def _pool(spec: PipelineSpec, platform: PlatformSpec) -> Iterator[Finding]:
    pool = spec.limits.pool
    if pool is None:
        return
    if not pool.strip() or len(pool) > 256:
        yield Finding("limits.pool", "is no pool name: 1 to 256 characters. Correct it")
    elif platform.pools and pool not in platform.pools and pool != "default_pool":
        yield Finding("limits.pool", f"found {pool!r}, {nearest(pool, platform.pools)} Pools stand in platform.yaml")


ROW_FIELDS = tuple(field.alias or name for name, field in SourceSpec.model_fields.items())
"""The fields of a row, in the order of the contract."""
