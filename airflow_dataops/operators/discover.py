"""The `discover` task: which tables the source has now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.configuration import conf

from airflow_dataops.operators.step import StepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class DiscoverOperator(StepOperator):
    """Returns the selected tables as packs: lists of table names, one list per mapped `load` task."""

    def run_step(self, context: Context) -> list[list[str]]:
        from airflow_dataops.steps.discover import discover, pack
        from airflow_dataops.steps.gone import notice_tables

        with self.edges(context) as edges:
            result = discover(self.row, edges)
            gone = notice_tables(self.row, edges, result.tables)
        for name in gone.gone:
            self.log.warning("table %s: its source does not list it any more; what was loaded stays", name)
        for name in gone.returned:
            self.log.info("table %s: its source lists it again", name)
        # More elements than this Airflow maps over would fail the run: fewer, larger packs.
        most = conf.getint("core", "max_map_length", fallback=1024)
        packs = result.packs if len(result.packs) <= most else pack(result.tables, most)
        self.log.info("%s: %s tables in %s packs", self.row.id, len(result.tables), len(packs))
        return [list(names) for names in packs]
