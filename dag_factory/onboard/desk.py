"""The onboarding of one inventory: forms against its rules, and rows into its files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.core.table_spec import is_selected
from dag_factory.bundle.compiled import InventoryFile
from dag_factory.bundle.places import Place
from dag_factory.onboard.candidate import Candidate, check_row
from dag_factory.onboard.domain_file import row_in, with_row
from dag_factory.onboard.form import read_form
from dag_factory.onboard.report import report
from dag_factory.onboard.writers import edit_file
from dag_factory.proposal import FoundTable, proposed_row

MOST_NAMED = 10


class InventoryDesk:
    """`airflow_dataops.operators.onboard.Desk` for an inventory. `place` is called when it is first needed, with a private
    folder that is there until `close`."""

    def __init__(self, place: Callable[[Path], Place]) -> None:
        self._open = place
        self._private: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, InventoryFile] = {}

    @cached_property
    def place(self) -> Place:
        self._private = tempfile.TemporaryDirectory(prefix="onboard-")
        return self._open(Path(self._private.name) / "git")

    def close(self) -> None:
        if self._private is not None:
            self._private.cleanup()

    def source_id(self, typed: Mapping[str, Any]) -> str:
        return read_form(typed).source_id

    def check(self, typed: Mapping[str, Any]) -> tuple[PipelineSpec, PlatformSpec]:
        asked = read_form(typed)
        found = self._checked(asked.domain, asked.row)
        return found.spec, found.platform

    def propose(self, typed: Mapping[str, Any], tables: Sequence[FoundTable]) -> Mapping[str, Any]:
        """InventoryError also when the row takes none of the tables."""
        asked = read_form(typed)
        first = self._checked(asked.domain, asked.row)
        if not any(is_selected(first.spec, table.name) for table in tables):
            named = ", ".join(repr(table.name) for table in tables[:MOST_NAMED]) or "none"
            raise InventoryError(
                f"Cannot onboard {asked.source_id}: it takes none of the {len(tables)} tables of its source (first: {named}) -> at "
                "least one. An empty source would never be queryable. Correct `tables` and `exclude`, or the rights of the login."
            )
        row = proposed_row(first.tree, first.spec, tables)
        found = self._checked(asked.domain, row)
        return {
            "source_id": found.spec.id, "dag_id": found.spec.dag_id, "domain": asked.domain, "row": row,
            "fingerprint": found.spec.fingerprint, "review": asked.review, "approvers": list(found.spec.approvers),
            "report": report(found, row, tables),
        }  # fmt: skip

    def build(self, proposal: Mapping[str, Any], who: str) -> str:
        """InventoryError also when the defaults or the other rows have changed so that it would become another source than the
        one that was approved."""
        domain, row = proposal["domain"], proposal["row"]
        name = f"{domain}.yaml"
        file = f"{self.place.label}/{name}"

        def change(data: bytes | None) -> bytes:
            # Ours, from before this task was killed: while the request is open, nobody else is given the name.
            if data is not None and row_in(data, file, row["name"]) == row:
                return data
            found = self._checked(domain, row)
            if found.spec.fingerprint != proposal["fingerprint"]:
                raise InventoryError(
                    f"Cannot build {found.spec.id}: the defaults of its domain have changed since it was shown -> as they were. It "
                    "would become another source than the approved one. Submit the form again."
                )
            return with_row(data, file, row)

        edit_file(self.place, name, change, f"Add source {proposal['source_id']}\n\n{_one_line(who)}\n")
        return file

    def _checked(self, domain: str, row: Mapping[str, Any]) -> Candidate:
        self._files = self.place.read(self._files)  # what has not changed is not fetched again
        return check_row(self._files, self.place.label, domain, row)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
