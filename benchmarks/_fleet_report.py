"""The figures of `benchmarks.fleet` beside their aims, as docs/performance.md shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Found = Mapping[str, Any]


def markdown(found: Found) -> str:
    """A table of the parts that were measured."""
    lines = ["| what | aim | found |", "|---|---|---|"]
    for part, rows in _ROWS.items():
        if part in found:
            lines += [f"| {what} | {aim} | {text} |" for what, aim, text in rows(found[part], found["rows"])]
    return "\n".join(lines)


Row = tuple[str, str, str]


def _compile(found: Found, rows: int) -> Iterator[Row]:
    yield f"compile {rows:,} rows, cold", "≤ 3 s at 10,000, ≤ 30 s at 100,000", f"{found['cold_seconds']} s"
    yield "… unchanged", "≤ 5 ms", f"{found['unchanged_ms']} ms"
    (wide,) = (value for name, value in found.items() if name.startswith("one_row_edited_in"))
    both = f"{found['one_row_edited_ms']} ms; {wide} ms in a fleet of one file with {rows // 10:,} rows"
    yield "… one row edited, in files of 100 rows", "≤ 100 ms", both


def _serialise(found: Found, _: int) -> Iterator[Row]:
    ours, peer = found["ours"], found.get("dag_factory")
    text = f"{ours['build_ms']} + {ours['serialise_ms']} ms, {ours['serialised_bytes']:,} bytes"
    if peer is not None:
        text += (
            f"; dag-factory {peer['build_ms']} + {peer['serialise_ms']} ms, {peer['serialised_bytes']:,} bytes: "
            f"{found['times_below_dag_factory']} times ours"
        )
    yield "build + serialise a DAG of four tasks", "≤ 3 ms, ≤ 3.5 KB, ≥ 3× below dag-factory", text


def _parse(found: Found, _: int) -> Iterator[Row]:
    texts = [f"{int(rows):,} rows: {one['median_ms']} ms (p95 {one['p95_ms']})" for rows, one in found.items()]
    yield "a task's own parse", "≤ 10 ms, the same at any size", "; ".join(texts)


def _latency(found: Found, rows: int) -> Iterator[Row]:
    for what in ("added", "edited", "removed"):
        one = found[what]
        text = f"{one['p95_seconds']} s (median {one['median_seconds']}, longest {one['max_seconds']}; {found['tries']} tries)"
        yield f"a row {what} → in the database, fleet of {rows:,}", "≤ 5 s p95", text


def _cold_load(found: Found, rows: int) -> Iterator[Row]:
    one, two = found["one"], found["two"]
    text = (
        f"{one['cold_load_seconds']} s ({one['ms_per_dag']} ms a DAG); two processors over two bundles {two['cold_load_seconds']} s"
    )
    yield f"cold load of {rows:,} DAGs into PostgreSQL", "≤ 4 min; two: near half", text


def _scheduler(found: Found, rows: int) -> Iterator[Row]:
    delay, due, waiting = found["start_delay_seconds"], found["due_not_created"], found["tasks_waiting"]
    text = (
        f"{found['runs_started']} runs in {found['minutes']:g} min, started {delay['median']:.1f} s after they were due (p95 "
        f"{delay['p95']:.1f}); runs due and not made, at most: {due['first_half_max']} in the first half, "
        f"{due['second_half_max']} in the second; tasks waiting: {waiting['first_half_max']}, {waiting['second_half_max']}; "
        f"scheduler {found['scheduler_cpu_share']:.0%} of a core"
    )
    yield f"scheduler with {rows:,} unpaused DAGs", "no growing queue", text


_ROWS: dict[str, Callable[[Any, int], Iterator[Row]]] = {
    "compile": _compile,
    "serialise": _serialise,
    "parse": _parse,
    "latency": _latency,
    "cold-load": _cold_load,
    "scheduler": _scheduler,
}
