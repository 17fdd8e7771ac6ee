"""The plan of an inventory edit as a comment of a pull request: Markdown, collapsed where there is much, of limited length."""

from __future__ import annotations

from collections.abc import Iterator

from dag_factory.cli.plan import summary, value_text
from dag_factory.inventory_plan import InventoryPlan, SourcePlan

MOST_CHARACTERS = 65_000
"""A comment of GitHub takes 65,536."""

OPEN_SOURCES = 5
"""So many sources of one kind stand open; more are folded."""

TITLES = {"change": "Changed", "rename": "Renamed", "retire": "Retired", "add": "Added"}
MOST_ROWS = 200
MOST_LIST = 40
_ROOM = 400
"""Kept free for what is said about what was left out."""


def as_markdown(found: InventoryPlan, against: str) -> str:
    """The comment, at most `MOST_CHARACTERS` long. Dangers and errors come first; what does not fit is counted."""
    text = _Comment()
    text.add(f"### Inventory plan against `{as_code(against)}`\n\n{as_plain(summary(found))}\n")
    if found.dangers:
        text.add("\n**Dangerous:**\n\n")
        text.lines([f"- `{as_code(d.source_id)}` {as_plain(str(d))}\n" for d in found.dangers], "dangers")
    if found.errors:
        text.add("\n**Errors:**\n\n")
        text.lines([f"- {as_plain(str(p))}\n" for p in found.errors], "errors")
    if found.unreadable:
        names = ", ".join(f"`{as_code(name)}`" for name in found.unreadable[:MOST_LIST])
        more = f" and {len(found.unreadable) - MOST_LIST} more" if len(found.unreadable) > MOST_LIST else ""
        text.add(f"\nUnreadable, Airflow keeps what it has: {names}{more}\n")
    for action, title in TITLES.items():
        sources = [s for s in found.sources if s.action == action]
        if sources:
            _section(text, f"{title}: {len(sources)}", sources)
    return str(text)


def _section(text: _Comment, title: str, sources: list[SourcePlan]) -> None:
    folded = len(sources) > OPEN_SOURCES
    head, foot = (f"\n<details><summary>{title}</summary>\n\n", "\n</details>\n") if folded else (f"\n#### {title}\n\n", "")
    if not text.fits(head + foot):
        text.left_out(len(sources), "sources")
        return
    text.add(head)
    text.keep(len(foot))
    text.lines(["".join(_source(source)) for source in sources], "sources")
    text.keep(-len(foot))
    text.add(foot)


def _source(source: SourcePlan) -> Iterator[str]:
    was = f" (was `{as_code(source.was)}`)" if source.was else ""
    moves = [word for word, moved in (("schedule", source.moves_schedule), ("target", source.moves_target)) if moved]
    moved = f", moves its {' and its '.join(moves)}" if moves and source.action != "add" else ""
    yield f"- `{as_code(source.source_id)}`{was}: DAG `{as_code(source.dag_id)}`{moved}\n"
    if source.action == "add":
        told = ", ".join(f"{f.field} `{as_code(value_text(f.after, 60))}`" for f in source.dag)
        if told:
            yield f"  - {told}\n"
    rows = [(f.field, f.before, f.after) for f in source.fields]
    own = {f.field for f in source.fields}
    rows += [(f"DAG {f.field}", f.before, f.after) for f in source.dag if f.field not in own and source.action != "add"]
    for table in source.tables:
        if table.action == "change":
            rows += [(f"{table.source_table}: {f.field}", f.before, f.after) for f in table.fields if f.field not in own]
            if table.before != table.after:
                rows.append((f"{table.source_table}: target", table.before, table.after))
    for field, before, after in rows[:MOST_ROWS]:
        yield f"  - `{as_code(field)}`: `{as_code(value_text(before, 80))}` → `{as_code(value_text(after, 80))}`\n"
    if len(rows) > MOST_ROWS:
        yield f"  - and {len(rows) - MOST_ROWS} more fields\n"
    for action, title in (("add", "tables added"), ("retire", "tables retired"), ("change", "tables changed")):
        tables = [t for t in source.tables if t.action == action]
        names = [f"`{as_code(t.source_table)}` → `{as_code(t.after or t.before or '')}`" for t in tables]
        if names:
            more = f" and {len(names) - MOST_LIST} more" if len(names) > MOST_LIST else ""
            yield f"  - {title}: {', '.join(names[:MOST_LIST])}{more}\n"


class _Comment:
    """Text that never grows over its limit, and says what it had to leave out."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = MOST_CHARACTERS - _ROOM
        self._missing: dict[str, int] = {}

    def __str__(self) -> str:
        missing = ", ".join(f"{count} {what}" for what, count in self._missing.items())
        note = f"\n*Left out, because a comment takes no more: {missing}. `dataops plan` shows all.*\n" if missing else ""
        return "".join(self._parts) + note

    def fits(self, text: str) -> bool:
        return len(text) <= self._left

    def keep(self, characters: int) -> None:
        """Reserves room for what must still come (negative: gives it back)."""
        self._left -= characters

    def add(self, text: str) -> None:
        if self.fits(text):
            self._parts.append(text)
            self._left -= len(text)
        else:
            self.left_out(1, "parts")

    def lines(self, lines: list[str], what: str) -> None:
        for number, line in enumerate(lines):
            if not self.fits(line):
                self.left_out(len(lines) - number, what)
                return
            self.add(line)

    def left_out(self, count: int, what: str) -> None:
        self._missing[what] = self._missing.get(what, 0) + count


def as_code(text: str) -> str:
    """For between backticks: in one line, and without a backtick, which would end it."""
    return " ".join(text.replace("`", "'").split())


def as_plain(text: str) -> str:
    """Text of the inventory is data: no markup, no mention of anybody, no tag."""
    escaped = "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~" else c for c in " ".join(text.split()))
    return escaped.replace("@", "@\u200b")
