"""Rows under the table's names, whatever the source calls its columns by now (`core.continued`): as they are read, and as they were
stored before anybody said that two columns are one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from airflow_dataops.core.comparison import ABSENT, MIXED, hiding
from airflow_dataops.core.continued import Folded, Rename, fold, lake_named, moved_hidden, plan_folding, privacy_under
from airflow_dataops.core.privacy import Action, apply_privacy
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.lake.base import FileFooter
from airflow_dataops.sources.base import Batch, Reading
from airflow_dataops.steps.stage import hidden_under


def continued(reading: Reading, renames: Sequence[Rename]) -> Reading:
    """The reading under the table's names. Its rows with two values for one column are dead letters of their batch."""
    return ContinuedReading(reading, renames) if renames else reading


class ContinuedReading:
    def __init__(self, reading: Reading, renames: Sequence[Rename]) -> None:
        self._reading, self._folding = reading, plan_folding(reading.schema, renames)
        self.schema, self.traits = self._folding.schema, reading.traits

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._reading:
            offsets = batch.source_offsets
            folded = fold(batch.records, self._folding, source_file=batch.source_file, source_offsets=offsets)
            if folded.kept is not None and offsets is not None:
                offsets = offsets.take(pa.array(folded.kept))
            yield Batch(folded.records, (*batch.dead_letters, *folded.dead_letters), batch.source_file, offsets)

    def close(self) -> None:
        self._reading.close()


class StoredColumns:
    """One data file's columns under the table's names. `hidden` is how they are hidden then: nothing that was hidden is shown by a
    rename, and what is hidden by the rules of the column that it becomes is hidden now."""

    def __init__(self, footer: FileFooter, renames: Sequence[Rename], table: TableSpec, key: bytes | None) -> None:
        self.is_concerned = any(one.after in footer.schema.names for one in renames)
        self.folding = plan_folding(TableSchema.of_arrow(footer.schema), lake_named(renames))
        names = (name for one in renames for name in (one.before, one.after))
        self.as_stored = moved_hidden(hidden_under(footer, names), renames, ABSENT, MIXED)
        self._key = key
        wanted = privacy_under([], table.privacy, renames)
        moved = {one.before: wanted[one.before_origin] for one in renames if one.after in footer.schema.names}
        self._actions = {name: action for name, action in moved.items() if action != "keep" and name not in self.as_stored}
        self.hidden: Mapping[str, str] = self.as_stored | hiding(self._actions, self._actions, key)

    @property
    def emptied(self) -> frozenset[str]:
        """Columns whose values the row's privacy takes away: dropped, or masked where there is no text to mask them with."""
        return frozenset(name for name, action in self._actions.items() if action in ("drop", "mask"))

    def fold(self, rows: pa.RecordBatch, source_file: str | None = None, source_offsets: pa.Array | None = None) -> Folded:
        """The rows, not hidden yet (`hide`)."""
        return fold(rows, self.folding, source_file=source_file, source_offsets=source_offsets)

    def hide(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """What is to be dropped is NULL: the column is there."""
        if not self._actions:
            return rows
        rules: dict[str, Action] = dict.fromkeys(rows.schema.names, "keep")
        rules |= {name: "keep" if action == "drop" else action for name, action in self._actions.items()}
        hidden = apply_privacy(rows, rules, self._key)
        for name in (name for name, action in self._actions.items() if action == "drop"):
            index = hidden.schema.get_field_index(name)
            field = hidden.schema.field(index)
            hidden = hidden.set_column(index, field, pa.nulls(hidden.num_rows, field.type))
        return hidden
