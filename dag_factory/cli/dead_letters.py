"""`dataops dead-letters`: records that could not go on; what they were, and what becomes of them."""

from __future__ import annotations

import base64
import fnmatch
import getpass
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

from dag_factory.cli.report import Code, Context, Report, UsageError, problem
from dag_factory.cli.source import new_writer, open_inventory, open_row

if TYPE_CHECKING:
    from rich.console import Console

    from airflow_dataops.ledger.base import Ledger, LetterRecord
    from airflow_dataops.steps.replay import ReplayResult

MOST_LETTERS = 1_000_000


def list_letters(
    context: Context, source: str | None, state: str | None, reason: str | None, table: str | None, limit: int
) -> Report:
    """From the ledger alone. Newest first; `counts` speak of all letters of the source."""
    from airflow_dataops.ledger.dead_letters_base import LetterState

    if not 1 <= limit <= MOST_LETTERS:
        raise UsageError(f"Cannot use `--limit` {limit} -> 1 to {MOST_LETTERS}.")
    known = get_args(LetterState)
    if state is not None and state not in known:
        raise UsageError(f"Cannot find letters in state {state!r} -> one of {', '.join(known)}.")
    with _ledger(context) as ledger:
        _check_source(context, ledger, source)
        every = limit if table is None else None
        found = ledger.dead_letters.find(source, states=(state,) if state else (), reason=reason, limit=every)
        counts = ledger.dead_letters.counts(source)
    if table is not None:
        found = tuple(e for e in found if fnmatch.fnmatchcase(e.source_table, table))[:limit]
    data = {"source": source, "counts": [asdict(c) for c in counts], "letters": [_json(e) for e in found]}

    def show(console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        if not counts:
            console.print(f"No dead letters{' of ' + source if source else ''}.", markup=False)
            return
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("id", "table", "state", "attempts", "reason", "where", "last seen", "record (masked)"):
            shown.add_column(title, justify="right" if title in ("id", "attempts") else "left", overflow="fold")
        for e in found:
            more = f"{e.letters:,} records" if e.letters > 1 else "withheld" if e.withheld else e.preview
            shown.add_row(
                str(e.id), Text(f"{e.source_id}:{e.source_table}"), e.state, str(e.attempts), e.reason, Text(_where(e)),
                _time(e.last_seen_at), Text(more),
            )  # fmt: skip
        console.print(shown)
        for c in counts:
            console.print(Text(f"{c.source_id}:{c.source_table}: {c.letters:,} {c.state} ({c.rows:,} rows)"))

    return Report(data=data, show=show)


def show_letter(context: Context, id: int, raw: bool) -> Report:
    """One letter: its envelope and masked preview; `raw` reads the record itself, with the access of the dead-letter place."""
    from airflow_dataops.open_edges import open_edges
    from airflow_dataops.steps.letter_file import read_letters

    with _ledger(context) as ledger:
        (letter,) = _by_id(ledger, [id])
    data = _json(letter)
    if raw:
        inventory = open_inventory(context)
        spec = open_row(context, letter.source_id)[0] if letter.source_id in inventory.all_rows else None
        if letter.file is None or letter.state == "expired":
            raise UsageError(f"Cannot read the record of letter {id}: its retention is over -> a record that is kept.")
        with open_edges(spec, context.settings, writer=new_writer(), platform=inventory.platform, with_source=False) as edges:
            record = read_letters(edges, letter.file, [letter.place])[letter.place]
        data |= _raw(record.raw) | {"form": record.form.text if record.form else None}

    def show(console: Console) -> None:
        from rich.text import Text

        for name, value in data.items():
            console.print(Text(f"{name}: {value}"), soft_wrap=True)

    return Report(data={"letter": data}, show=show)


def replay_letters(context: Context, what: Sequence[str], table: str | None, reason: str | None) -> Report:
    """Exit code 1 when a record failed again, was left, or a batch failed; 3 when all that failed was a system that is down."""
    from airflow_dataops.open_edges import open_edges
    from airflow_dataops.schedule import parse_schedule, period_of_key
    from airflow_dataops.steps.replay import LetterChoice, replay

    ids = _ids(what)
    with _ledger(context) as ledger:
        sources = _sources(context, ledger, what, ids)
    results: dict[str, ReplayResult] = {}
    run = f"replay/{_who()}/{secrets.token_hex(4)}"
    for source, some in sources.items():
        spec, inventory = open_row(context, source)
        schedule = parse_schedule(spec.schedule, spec.timezone)
        choice = LetterChoice(some, table, reason)
        with (
            context.progress.status(f"Replaying dead letters of {source} …"),
            open_edges(spec, context.settings, writer=new_writer(), platform=inventory.platform) as edges,
        ):
            results[source] = replay(spec, edges, run, lambda key, of=schedule: period_of_key(of, key), choice)  # type: ignore[misc]
    problems = tuple(p for source, result in results.items() for p in _problems(source, result))

    def show(console: Console) -> None:
        from rich.text import Text

        for source, result in results.items():
            for b in result.batches:
                a = b.accounting
                line = f"{source}:{b.source_table}: {b.outcome}, {a.rows_read:,} records, {a.rows_written:,} written, "
                console.print(Text(line + f"{a.rows_dead_lettered:,} failed again"), soft_wrap=True)
            if not result.batches and not result.left:
                console.print(Text(f"{source}: no open dead letters that were meant."))
        for p in problems:
            console.print(Text(p["message"], style="red"), soft_wrap=True)

    failed = [b for result in results.values() for b in result.failures]
    only_down = failed and len(failed) == len(problems) and all(b.retryable for b in failed)
    return Report(
        data={"run": run, "sources": {source: result.to_json() for source, result in results.items()}},
        problems=problems,
        code=Code.GOOD if not problems else Code.NOT_DONE if only_down else Code.PROBLEMS,
        show=show,
    )


def discard_letters(context: Context, what: Sequence[str], table: str | None, reason: str | None, why: str) -> Report:
    """Exit code 1 when a letter that was named is not open any more."""
    ids = _ids(what)
    if not why.strip():
        raise UsageError("Cannot discard without a reason: `--why` is empty -> why nobody needs these records.")
    with _ledger(context) as ledger:
        wanted: list[int] = []
        for source, some in _sources(context, ledger, what, ids).items():
            found = ledger.dead_letters.find(source, ids=some, states=() if some else ("open",), reason=reason)
            wanted += [e.id for e in found if table is None or fnmatch.fnmatchcase(e.source_table, table)]
        done = ledger.dead_letters.discard(wanted, _who(), why) if wanted else ()
        left = _by_id(ledger, sorted(set(wanted) - set(done)))
    problems = tuple(
        problem(f"Cannot discard letter {e.id}: it is {e.state} -> open. Nothing was done to it.", "state", id=e.id) for e in left
    )

    def show(console: Console) -> None:
        console.print(f"{len(done):,} discarded.")
        for p in problems:
            console.print(p["message"], markup=False, soft_wrap=True)

    code = Code.PROBLEMS if problems else Code.GOOD
    return Report(data={"discarded": sorted(done)}, problems=problems, code=code, show=show)


@contextmanager
def _ledger(context: Context) -> Iterator[Ledger]:
    from airflow_dataops.ledger import open_ledger

    ledger = open_ledger(context.settings.ledger)
    try:
        yield ledger
    finally:
        ledger.close()


def _who() -> str:
    """Whoever has typed this, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _ids(what: Sequence[str]) -> tuple[int, ...]:
    """The numbers of letters; none when a source is meant. UsageError for a mixture."""
    numbers = [int(word) for word in what if word.isascii() and word.isdigit()]
    if (numbers and len(numbers) != len(what)) or (not numbers and len(what) != 1):
        raise UsageError(f"Cannot use {' '.join(what)!r} -> one source, or numbers of letters (`dataops dead-letters list`).")
    return tuple(dict.fromkeys(numbers))


def _sources(context: Context, ledger: Ledger, what: Sequence[str], ids: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Source → the letters of it that were named (none: all)."""
    if not ids:
        _check_source(context, ledger, what[0])
        return {what[0]: ()}
    found: dict[str, tuple[int, ...]] = {}
    for letter in _by_id(ledger, ids):
        found[letter.source_id] = (*found.get(letter.source_id, ()), letter.id)
    return found


def _by_id(ledger: Ledger, ids: Sequence[int]) -> tuple[LetterRecord, ...]:
    found = ledger.dead_letters.find(ids=ids) if ids else ()
    missing = sorted(set(ids) - {e.id for e in found})
    if missing:
        raise UsageError(f"Cannot find dead letter {missing[0]} -> a number that `dataops dead-letters list` shows.")
    return found


def _check_source(context: Context, ledger: Ledger, source: str | None) -> None:
    """UsageError for a source that neither the ledger nor the inventory knows."""
    if source is not None and not ledger.tables.of_source(source):
        open_row(context, source)


def _problems(source: str, result: ReplayResult) -> Iterator[dict[str, Any]]:
    for b in result.batches:
        if b.outcome == "failed":
            yield problem(f"{source}:{b.source_table} failed: {b.error}", b.error_code or "unexpected", table=b.source_table)
        elif b.accounting.rows_dead_lettered:
            text = f"{source}:{b.source_table}: {b.accounting.rows_dead_lettered} records failed again. They stay open."
            yield problem(text, "failed_again", table=b.source_table)
    if result.left:
        why = "no record of them can be read again, or their batch is not published"
        yield problem(f"{source}: {result.left} letters were not tried: {why}.", "left")


def _json(letter: LetterRecord) -> dict[str, Any]:
    told = asdict(letter)
    for name in ("first_seen_at", "last_seen_at", "changed_at"):
        told[name] = None if told[name] is None else _time(told[name])
    return told


def _raw(raw: bytes) -> dict[str, str]:
    """The record: as text where it is some."""
    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"raw_base64": base64.b64encode(raw).decode()}


def _where(letter: LetterRecord) -> str:
    if letter.source_file is None:
        return f"batch {letter.batch_id}-g{letter.generation}"
    return f"{letter.source_file}:{letter.source_offset}" if letter.source_offset is not None else letter.source_file


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
