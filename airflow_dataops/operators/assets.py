"""Published partitions as asset events, through the source's alias: tables are known at run time only.

The outbox of the ledger decides what is to be told, so that an event is told at least once: `verify` strikes it off, after
Airflow has recorded the success of the task that told it. An alias event carries the partition key of the run; so one of
a table that is partitioned by period is told by a run of that period only, and the key equals the Hive value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from airflow_dataops.core.partition_name import parse_partition_name
from airflow_dataops.core.period import Period
from airflow_dataops.core.spec import PipelineSpec

if TYPE_CHECKING:
    from airflow.sdk.execution_time.context import OutletEventAccessor

    from airflow_dataops.ledger.base import Ledger


def alias_name(spec: PipelineSpec) -> str:
    """The name of the source's AssetAlias: what a downstream DAG is scheduled on."""
    return f"dataops:{spec.id}"


def asset_of(spec: PipelineSpec, target: str) -> Asset:
    """The asset of a lake table `database.table`. Its name and address never depend on where the files are."""
    database, _, table = target.partition(".")
    return Asset(name=target, uri=f"dataops://{spec.target.catalog}/{database}/{table}", group="dataops")


def announce(spec: PipelineSpec, ledger: Ledger, period: Period, tables: Collection[str], events: OutletEventAccessor) -> None:
    """Adds what is untold of these source tables to the task's outlet events; Airflow records them if it succeeds."""
    for _, event in _pending(spec, ledger, period, tables):
        events.add(asset_of(spec, str(event["target"])), extra=dict(event))


def told(spec: PipelineSpec, ledger: Ledger, period: Period, tables: Collection[str]) -> None:
    """Strikes off what `announce` gave, once the tasks that told it have succeeded."""
    ids = [number for number, _ in _pending(spec, ledger, period, tables)]
    if ids:
        ledger.outbox.assets_told(ids)


def _pending(
    spec: PipelineSpec, ledger: Ledger, period: Period, tables: Collection[str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from airflow_dataops.core.table_spec import table_spec  # here: it needs libraries that no DAG file should load

    targets = {table.name: table for table in (table_spec(spec, name) for name in tables)}
    for number, event in ledger.outbox.pending_assets(spec.id):
        table = targets.get(str(event["target"]))
        if table is None:
            continue
        by_period = {p.name for p in table.target.partition_by if p.column is None and p.transform == "identity"}
        values = {v for name in event["partitions"] for c, v in parse_partition_name(name) if c in by_period}
        if values <= {period.key}:
            yield number, event
