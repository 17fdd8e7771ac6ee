"""The accounting of a batch: every row read is in exactly one of the other counts (INVENTORY.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from airflow_dataops.core.errors import ProofError


@dataclass(frozen=True, slots=True)
class Accounting:
    """Row counts of one batch of one table, under their published names. `values_discarded` counts values, not rows."""

    rows_read: int = 0
    rows_written: int = 0
    rows_unchanged: int = 0
    rows_filtered: int = 0
    rows_deduplicated: int = 0
    rows_dead_lettered: int = 0
    rows_held: int = 0
    values_discarded: int = 0

    def __add__(self, other: Accounting) -> Accounting:
        return Accounting(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def rows_accounted(self) -> int:
        """Rows with a known end."""
        return (
            self.rows_written + self.rows_unchanged + self.rows_filtered
            + self.rows_deduplicated + self.rows_dead_lettered + self.rows_held
        )  # fmt: skip

    def prove(self, batch: str) -> None:
        """ProofError unless `rows_read` equals the sum of the other row counts."""
        if self.rows_read != self.rows_accounted:
            raise ProofError(
                f"Cannot prove batch {batch}: {self.rows_read} rows read -> {self.rows_accounted} rows accounted for "
                f"({self.to_json()}). A row was lost or counted twice. Nothing was published; report this as a defect."
            )

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def of_json(cls, data: dict[str, int]) -> Accounting:
        return cls(**{f.name: int(data.get(f.name, 0)) for f in fields(cls)})
