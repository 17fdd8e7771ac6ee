"""What a frozen batch says of how it was staged, so that whoever finishes it does so by those rules: the row may have been
edited since, and the process that decided to hold it may have died before it could."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_dataops.core.drift_events import decided
from airflow_dataops.core.drift_plan import DriftPlan
from airflow_dataops.core.renames import RenameSuggestion, likely
from airflow_dataops.core.spec import WriteSpec
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.ledger.base import BatchContent

WRITE, HOLD, DRIFT, TELLS_NOTHING = "staged.write", "staged.hold", "staged.drift", "staged.tells_nothing"
"""Keys among the content's traits; the source's own have no dot."""


BEHIND = {"reason": "queue", "why": "an earlier batch of the table waits for a decision"}
"""Why a batch without a drift of its own waits."""


def staged_traits(
    traits: Mapping[str, str], table: TableSpec, drift: DriftPlan, *, waits: bool, tells_nothing: bool = False
) -> dict[str, str]:
    """The source's traits, the write rules of this moment, what was decided about drift and, when it is to be held, why.
    `tells_nothing`: no row of files that declare nothing was read, so the columns are not what the source shows."""
    marks = {WRITE: table.write.model_dump_json(by_alias=True)}
    plan = decided(drift)
    if any(plan.values()):
        marks[DRIFT] = json.dumps(plan)
    if tells_nothing:
        marks[TELLS_NOTHING] = "yes"
    if waits:
        marks[HOLD] = json.dumps(drift_reason(drift) if drift.hold else BEHIND)
    return {**traits, **marks}


def drift_reason(drift: DriftPlan) -> dict[str, Any]:
    """What a person has to decide about."""
    changes = [change.to_json() for change in drift.hold]
    why = "; ".join(str(change) for change in drift.hold)
    told = {"reason": "drift", "why": why, "changes": changes, "table_schema": drift.assumes}
    renames = [one.to_json() for one in likely(drift.renames)]
    return told | ({"renames": renames} if renames else {})


def suggestions(content: BatchContent) -> tuple[RenameSuggestion, ...]:
    """Columns of the batch of which a person is asked whether they are others by a new name; those of held drift are part of that
    question."""
    plan, reason = content.traits.get(DRIFT), hold_reason(content) or {}
    if plan is None or reason.get("changes"):
        return ()
    return likely(map(RenameSuggestion.of_json, json.loads(plan)["renames"]))


def released_traits(content: BatchContent) -> dict[str, str]:
    """The traits of a batch that waits no more."""
    return {name: text for name, text in content.traits.items() if name != HOLD}


def as_staged(table: TableSpec, content: BatchContent) -> TableSpec:
    """The table with the write rules under which the content was staged: a snapshot that was to replace a partition must
    not be appended to it because the row says `append` by now."""
    text = content.traits.get(WRITE)
    return table if text is None else replace(table, write=WriteSpec.model_validate_json(text))


def hold_reason(content: BatchContent) -> Mapping[str, Any] | None:
    """Why the batch must wait for a person; None when it may be published."""
    text = content.traits.get(HOLD)
    return None if text is None else dict(json.loads(text))
