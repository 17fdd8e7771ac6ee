"""Dead letters whose retention is over: their records are deleted, from the ledger's index alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from airflow_dataops.core.errors import ForeignChangeError
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.ledger.base import Ledger
from airflow_dataops.steps.alone import Alone
from airflow_dataops.steps.retired import last_rows
from airflow_dataops.steps.run import Edges

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400
_LETTERS = re.compile(r"letters\.parquet|dead-\d+\.parquet")


@dataclass(frozen=True, slots=True)
class LettersExpired:
    """What expired of one source: files deleted, and letters that nobody had replayed or discarded."""

    source_id: str
    files: int = 0
    unheeded: int = 0
    error: str | None = None
    error_code: str | None = None


def expire_letters(
    specs: Iterable[PipelineSpec], ledger: Ledger, opened: Callable[[PipelineSpec], AbstractContextManager[Edges]], now: float
) -> tuple[LettersExpired, ...]:
    """For every row whose source has files of that age: the row's own `dead_letters.retention_days`, counted from the moment a
    file was begun. A retired source goes by the row that it had last. A failing source never stops others."""
    rows = last_rows(ledger) | {spec.id: spec for spec in specs}
    shortest = min((spec.dead_letters.retention_days for spec in rows.values()), default=0)
    found = []
    for source_id in ledger.dead_letters.sources_with_files(now - shortest * DAY_SECONDS):
        spec = rows.get(source_id)
        if spec is None:  # no bundle ever showed a row of it: nobody can say how its letters are reached
            continue
        with Alone(log, f"dead letters of {spec.id} could not be expired") as failed, opened(spec) as edges:
            found.append(expire_source(spec, edges))
            continue
        found.append(LettersExpired(spec.id, **failed.why))
    return tuple(one for one in found if one.files or one.error)


def expire_source(spec: PipelineSpec, edges: Edges) -> LettersExpired:
    """The index first, so that no replay begins with what is about to go; then the files. Died in between: the next run goes on."""
    before = edges.clock() - spec.dead_letters.retention_days * DAY_SECONDS
    expiry = edges.ledger.dead_letters.expire(spec.id, before)
    for file in expiry.files:
        edges.dead_letters.delete_directory(_folder(file, edges))
        edges.ledger.dead_letters.forget([file])
    if expiry.unheeded:
        log.warning("%s dead letters of %s expired that nobody had replayed or discarded", expiry.unheeded, spec.id)
    return LettersExpired(spec.id, len(expiry.files), expiry.unheeded)


def _folder(file: str, edges: Edges) -> str:
    """The folder that a file has for itself. Those of before share theirs with the data where somebody has put lake and dead
    letters into one place: then nothing is deleted. ForeignChangeError."""
    folder = file.rpartition("/")[0]
    strange = [e.path for e in edges.dead_letters.list(folder) if not _LETTERS.fullmatch(e.path.rsplit("/", 1)[-1])]
    if strange:
        raise ForeignChangeError(
            f"Cannot delete dead letters in {edges.dead_letters.uri(folder)}: {len(strange)} other files -> none. The place "
            "belongs to something else as well, perhaps to the lake. Give dead letters a place of their own."
        )
    return folder
