"""The inventory of a fleet of any size, as a company would write it, and single edits of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

ROWS_PER_FILE = 100
TASKS = ("discover", "drift_sync", "load", "verify")
_EDITED = "edited"

_LONG = """\
  - name: {name}
    kind: sql
    conn_id: bench_db
    description: Orders of region {n}, every change since yesterday
    schedule: "{minute} {hour} * * *"
    tables: ["orders_*", {{match: orders, read: {{mode: watermark, cursor: updated_at}}, write: {{mode: merge, keys: [id]}}}}]
    exclude: ["*_tmp"]
    target: {{database: {domain}_{name}}}
    contract: {{columns: evolve, types: evolve}}
    tags: [orders{more}]
"""
_SHORT = (
    "  - {{name: {name}, kind: sql, conn_id: bench_db, schedule: '{minute} {hour} * * *', tables: [orders, 'crm_*'], "
    "target: {{database: {domain}_{name}}}, tags: [crm{more}]}}\n"
)


class FleetRows:
    """`rows` rows in files of `per_file`; a third of them is written long, the rest short. `dag_ids` is what Airflow must show."""

    def __init__(
        self,
        folder: Path,
        rows: int,
        *,
        per_file: int = ROWS_PER_FILE,
        first_domain: int = 0,
        start_of: Callable[[int, int], dt.date] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.start_of = folder, start_of
        self.rows: dict[str, list[str]] = {}
        self.edited: set[str] = set()
        for n in range(rows):
            self.rows.setdefault(f"team{first_domain + n // per_file:04}", []).append(f"source_{n % per_file}")
        (folder / "defaults.yaml").write_text("read: {batch_rows: 50000}\nlimits: {retries: 2}\n")
        for domain in self.rows:
            self.write(domain)

    @property
    def dag_ids(self) -> set[str]:
        return {dag_id(domain, name) for domain, names in self.rows.items() for name in names}

    def write(self, domain: str) -> None:
        """The domain's file, replaced as a whole."""
        texts = [self._row(domain, name) for name in self.rows[domain]]
        draft = self.folder / f".{domain}"
        draft.write_text(f"version: 1\ndomain: {domain}\ndefaults: {{owner: {domain}-data}}\nsources:\n{''.join(texts)}")
        draft.replace(self.folder / f"{domain}.yaml")

    def add(self, domain: str, name: str) -> str:
        self.rows[domain].append(name)
        self.write(domain)
        return dag_id(domain, name)

    def remove(self, domain: str, name: str) -> str:
        self.rows[domain].remove(name)
        self.write(domain)
        return dag_id(domain, name)

    def edit(self, domain: str, name: str) -> str:
        """Gives the row the tag `edited`, or takes it away again."""
        found = dag_id(domain, name)
        self.edited ^= {found}
        self.write(domain)
        return found

    def _row(self, domain: str, name: str) -> str:
        n = int(name.rpartition("_")[2])  # not its place in the file: that moves with every edit above it
        # Ticks are spread over the day, as a fleet of one day's sources is.
        tick = (int(domain.removeprefix("team")) * ROWS_PER_FILE + n) * 7 % 1440
        more = f", {_EDITED}" if dag_id(domain, name) in self.edited else ""
        text = (_LONG if n % 3 == 0 else _SHORT).format(domain=domain, name=name, n=n, minute=tick % 60, hour=tick // 60, more=more)
        if self.start_of is None:
            return text
        start = self.start_of(tick // 60, tick % 60).isoformat()
        if text.startswith("  - {"):
            return text.replace("{name:", f"{{start_date: {start}, jitter_seconds: 0, name:", 1)
        return text + f"    start_date: {start}\n    jitter_seconds: 0\n"


def dag_id(domain: str, name: str) -> str:
    return f"ingest__{domain}__{name}"


def is_edited(tags: set[str]) -> bool:
    return _EDITED in tags
