"""The options that are numbers: how small or large each may be for so many rows. One table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dag_factory.doctor.facts import Facts
from dag_factory.doctor.finding import Finding, Severity, about

WRITE_SECONDS = 0.01
"""What writing one DAG costs the DAG processor, changed or not, in its one thread (reference A.5)."""
BUILD_SECONDS = 0.006
"""What building and serialising one costs its child process."""
SLACK = 10
"""A machine may be so many times slower than the one these were measured on."""
JITTER_SECONDS = 900
"""Runs of one schedule are spread over at most so long (`jitter_seconds` of a row)."""
LOOP_SECONDS = 5
"""What one loop of the scheduler may take in a big fleet."""
ROW_SECONDS = 20
"""Seconds of worker slots that one run of a small row takes: at least four tasks, each some seconds to start."""
ROUND_SECONDS = 4 * 3600
"""How long one round of all rows may take."""

Limit = Callable[[Facts], float]


@dataclass(frozen=True, slots=True)
class Bound:
    """`option` must be at least, or at most, what `limit` gives for the facts; `error` tells when missing it is an error."""

    option: str
    sense: str  # "least" or "most"
    limit: Limit
    why: str
    where: str = ""
    error: Callable[[Facts, float], bool] = lambda facts, value: False
    when: Callable[[Facts], bool] = lambda facts: True

    def __call__(self, facts: Facts) -> Iterator[Finding]:
        value = facts.number(self.option)
        if value is None or not self.when(facts):
            return
        limit = math.ceil(self.limit(facts)) if self.sense == "least" else math.floor(self.limit(facts))
        if value < limit if self.sense == "least" else value > limit:
            severity: Severity = "error" if self.error(facts, value) else "warning"
            more = "more" if self.sense == "least" else "less"
            words = f"{limit} or {more} for {facts.rows:,} rows" if limit else "0"
            yield about(self.option, severity, f"{value:g}", words, self.why, value=str(limit), where=self.where)


def cycle_seconds(facts: Facts) -> float:
    """What parsing everything once takes the DAG processor's one writing thread."""
    return facts.rows * WRITE_SECONDS


def rows_per_file(facts: Facts) -> int:
    """Rows whose DAGs stand in one file, at most: a shard's, or all of them where a file of the dags folder loads them."""
    return max((math.ceil(facts.rows / bundle.shards) for bundle in facts.ours), default=facts.rows)


def _edits_wait(facts: Facts, _: float) -> bool:
    return (facts.number("dag_processor.min_file_process_interval") or 0) > 300


PROCESSOR, SCHEDULER = "the DAG processor", "the scheduler"

BOUNDS: tuple[Bound, ...] = (
    Bound(
        "dag_processor.min_file_process_interval", "least",
        # With a bundle a change is parsed at once, so nothing is lost by an hour; a folder's rows are seen by this clock alone.
        lambda f: 3600 if f.ours else 10 * cycle_seconds(f),
        "Writing a DAG costs the DAG processor 10 ms in one thread even when nothing changed; it must not do little else.",
        PROCESSOR, error=lambda f, value: cycle_seconds(f) > value / 3,
        when=lambda f: cycle_seconds(f) > (f.number("dag_processor.min_file_process_interval") or 0) / 20,
    ),
    Bound(
        "core.min_serialized_dag_update_interval", "most", lambda f: 0,
        "A second edit of a DAG within this time is dropped; it stays unseen until its file is parsed again.",
        error=_edits_wait,
    ),
    Bound(
        "dag_processor.stale_dag_threshold", "most", lambda f: 5,
        "The DAG of a removed row stays, and goes on running, when its file was parsed less than this before.",
        PROCESSOR, error=_edits_wait,
    ),
    Bound("scheduler.parsing_cleanup_interval", "most", lambda f: 30, "Removed DAGs are looked for only this often.", PROCESSOR),
    Bound(
        "dag_processor.dag_file_processor_timeout", "least", lambda f: SLACK * rows_per_file(f) * BUILD_SECONDS,
        "A file that takes longer is killed, and no import error is shown for its rows.", PROCESSOR,
        error=lambda f, value: value < rows_per_file(f) * BUILD_SECONDS * 2,
    ),
    Bound(
        "core.dagbag_import_timeout", "least", lambda f: SLACK * rows_per_file(f) * BUILD_SECONDS / 2,
        "Building the DAGs of one file is ended after this time, and none of them is shown.",
        error=lambda f, value: value < rows_per_file(f) * BUILD_SECONDS,
    ),
    Bound(
        "dag_processor.parsing_processes", "most", lambda f: max(2, f.cores),
        "More processes than cores only wait for each other; the writing of DAGs is one thread in any case.", PROCESSOR,
    ),
    Bound(
        "dag_processor.bundle_refresh_check_interval", "most", lambda f: 5,
        "The inventory is not looked at more often than this, whatever the bundle's refresh_interval says.", PROCESSOR,
        when=lambda f: bool(f.ours),
    ),
    Bound(
        "scheduler.max_dagruns_to_create_per_loop", "least", lambda f: f.rows * LOOP_SECONDS / JITTER_SECONDS,
        "Rows of one schedule start within 15 minutes of each other; the scheduler would create their runs too slowly.", SCHEDULER,
    ),
    Bound(
        "scheduler.max_dagruns_per_loop_to_schedule", "least", lambda f: 2 * f.rows * LOOP_SECONDS / JITTER_SECONDS,
        "A run is looked at several times before it has ended; the runs of so many rows would wait for their turn.", SCHEDULER,
    ),
    Bound(
        "core.parallelism", "least", lambda f: f.rows * ROW_SECONDS / ROUND_SECONDS,
        "One round of all rows, at 20 seconds of a slot each, would take more than 4 hours.", SCHEDULER,
    ),
    Bound(
        "core.parallelism", "most", lambda f: 8 * f.cores,
        "LocalExecutor runs all of these on this one machine, each with a process of some 200 MB.", SCHEDULER,
        when=lambda f: "LocalExecutor" in f.executor,
    ),
    Bound(
        "scheduler.task_queued_timeout", "most", lambda f: 1200,
        "A task that a worker took and lost before it began is given to another one only after this.", SCHEDULER,
        when=lambda f: f.distributed,
    ),
    Bound(
        "scheduler.orphaned_tasks_check_interval", "most", lambda f: 120,
        "What a dead scheduler left is looked for only this often; runs stand still so long after a restart.", SCHEDULER,
        when=lambda f: f.distributed and f.rows > 1000,
    ),
    Bound(
        "celery_broker_transport_options.visibility_timeout", "least", lambda f: f.longest_timeout_seconds + 3600,
        "The broker gives a task to a second worker after this time, while the first still works on it (longest "
        "limits.timeout_seconds of the inventory, and an hour).",
        error=lambda f, value: value <= f.longest_timeout_seconds, when=lambda f: f.celery and f.broker.kind in ("redis", "rediss"),
    ),
    Bound(
        "celery.worker_prefetch_multiplier", "most", lambda f: 1,
        "A worker takes tasks that it cannot start yet, which an idle one could.", "the workers", when=lambda f: f.celery,
    ),
    Bound(
        "core.max_map_length", "least", lambda f: f.most_packs,
        "A source with so many packs of tables (limits.max_packs) fails when it is discovered.", error=lambda f, value: True,
    ),
    Bound(
        "workers.execution_api_timeout", "least", lambda f: 15,
        "A busy API server takes longer to answer, and the task fails.", "the workers", when=lambda f: f.rows > 1000,
    ),
)  # fmt: skip
