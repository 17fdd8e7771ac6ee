"""The tables of retired sources say so in the catalog, and stop saying so when their row is back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from pydantic import ValidationError

from airflow_dataops.core.errors import ConflictError, DataOpsError, told
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.ledger.base import Ledger, SourceRecord
from airflow_dataops.steps.run import Edges

RETIRED = "dataops.retired"
"""Table parameter with the day (UTC) on which the row was gone."""
TRIES = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MarkResult:
    """`tables` were changed; of the sources in `failed` (id → why) some were not, and the next look tries again."""

    tables: tuple[str, ...]
    failed: dict[str, str]


def mark_retired(ledger: Ledger, opened: Callable[[PipelineSpec], AbstractContextManager[Edges]]) -> MarkResult:
    """Every table of a source that was retired, or is back, since the last look. `opened` gives the edges of a row, which need
    no source. One source's failure never stops the others."""
    changed: list[str] = []
    failed: dict[str, str] = {}
    for record in ledger.sources.to_mark():
        try:
            with opened(_row(record)) as edges:
                # What was renamed has none of its own, though a late run of the old name may call them its own for a while.
                tables = ledger.tables.of_source(record.source_id) if record.renamed_to is None else ()
                for known in tables:
                    changed += [known.target] if _mark(known.target, record, edges) else []
            ledger.sources.marked(record)
        except Exception as error:
            if not isinstance(error, DataOpsError):
                log.exception("tables of %s could not be marked", record.source_id)
            failed[record.source_id], _ = told(error)
    return MarkResult(tuple(changed), failed)


def last_rows(ledger: Ledger) -> dict[str, PipelineSpec]:
    """Id → the row that a retired or deleted source had last. One that this version cannot read any more is named in the log."""
    found: dict[str, PipelineSpec] = {}
    for record in ledger.sources.records():
        if record.state in ("retired", "deleted") and record.renamed_to is None:
            try:
                found[record.source_id] = _row(record)
            except ValidationError as error:
                log.warning("the last row of %s cannot be read: %s", record.source_id, error.errors(include_input=False))
    return found


def _row(record: SourceRecord) -> PipelineSpec:
    """Without `renamed_from`: opened by it, a row that is gone would take its old name's state once more."""
    return PipelineSpec.model_validate_json(record.row).model_copy(update={"renamed_from": None})


def _mark(target: str, record: SourceRecord, edges: Edges) -> bool:
    database, _, name = target.partition(".")
    for _ in range(TRIES):
        table = edges.catalog.get_table(database, name)
        if table is None:
            return False
        parameters = {key: value for key, value in table.parameters.items() if key != RETIRED}
        if record.state in ("retired", "deleted"):
            parameters[RETIRED] = table.parameters.get(RETIRED) or time.strftime("%Y-%m-%d", time.gmtime(record.since))
        if parameters == dict(table.parameters):
            return False
        try:
            edges.catalog.alter_table(table, replace(table, parameters=parameters))
            return True
        except ConflictError as error:
            log.info("table %s was changed by somebody else meanwhile: %s", target, error)
    raise ConflictError(
        f"Cannot mark table {target}: it was changed {TRIES} times meanwhile -> a quiet moment. The next look tries."
    )
