"""An inventory that people edit all day: seeded random edits, and what Airflow has to show for them."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

BROKEN = "  - {name: [\n"
FILE_TIMES = (0, 4_102_444_800)  # 1970 and 2100: of clocks that jump


@dataclass
class Row:
    """`tag` says which edit made the row what it is."""

    tag: str
    bad: bool = False

    def text(self, domain: str, name: str) -> str:
        schedule = "oops" if self.bad else "'@daily'"
        return (
            f"  - {{name: {name}, kind: sql, conn_id: db_{domain}, owner: o, schedule: {schedule}, tags: [{self.tag}], "
            f"target: {{database: {domain}_{name}}}}}\n"
        )


@dataclass
class Inventory:
    """`rows` by domain and name, in the order of their file. `broken` files do not end as YAML."""

    folder: Path
    rng: random.Random
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    edits: int = 0

    @classmethod
    def of(cls, folder: Path, seed: int, domains: int, rows_each: int) -> Inventory:
        made = cls(folder, random.Random(seed))
        made.rows = {f"d{d:03}": {f"r{r:03}": Row("t0") for r in range(rows_each)} for d in range(domains)}
        for domain in made.rows:
            made.write(domain)
        return made

    def write(self, domain: str) -> None:
        rows = self.rows[domain]
        text = "sources:\n" + "".join(row.text(domain, name) for name, row in rows.items()) if rows else "sources: []\n"
        file = self.folder / f"{domain}.yaml"
        if self.rng.random() < 0.5:  # as `cp` and some editors do: emptied, then written
            file.write_text(text + BROKEN * (domain in self.broken))
        else:
            fresh = file.with_name(f".{domain}.new")
            fresh.write_text(text + BROKEN * (domain in self.broken))
            fresh.replace(file)
        if self.rng.random() < 0.1:
            moment = self.rng.choice(FILE_TIMES)
            os.utime(file, (moment, moment))

    def edit(self) -> set[str]:
        """One random edit, written; returns the DAGs of the rows that it took from the good ones."""
        self.edits += 1
        domain = self.rng.choice(sorted(self.rows))
        rows, kind = self.rows[domain], self.rng.random()
        lost: set[str] = set()
        if kind < 0.25 or not rows:
            rows[f"n{self.edits}"] = Row(f"t{self.edits}")
        elif kind < 0.35:
            self.broken ^= {domain}
        elif kind < 0.45:  # moved within its file: every line below moves too
            name = self.rng.choice(list(rows))
            row = rows.pop(name)
            self.rows[domain] = {name: row, **rows} if self.rng.random() < 0.5 else {**rows, name: row}
        else:
            name = self.rng.choice(list(rows))
            if kind < 0.65:
                del rows[name]
                lost.add(f"ingest__{domain}__{name}")
            else:
                rows[name] = Row(f"t{self.edits}", bad=kind > 0.9)
                lost |= {f"ingest__{domain}__{name}"} if rows[name].bad else set()
        self.write(domain)
        return lost

    def repair(self) -> None:
        """Every file is whole again; bad rows stay bad."""
        for domain in sorted(self.broken):
            self.broken.discard(domain)
            self.write(domain)

    def good(self) -> dict[str, str]:
        """DAG id → its tag, of every good row."""
        return {f"ingest__{d}__{n}": row.tag for d, rows in self.rows.items() for n, row in rows.items() if not row.bad}

    def bad(self) -> set[str]:
        """The error file of every bad row."""
        return {f"errors/{d}__{n}.py" for d, rows in self.rows.items() for n, row in rows.items() if row.bad}
