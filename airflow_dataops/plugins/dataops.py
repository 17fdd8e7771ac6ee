"""What Airflow loads into each of its components. It must stay light: everything here is imported by all of them."""

from __future__ import annotations

from airflow.sdk.plugins_manager import AirflowPlugin

from airflow_dataops.plugins.timetable import PeriodTimetable


class DataOpsPlugin(AirflowPlugin):
    """Registers the timetable: Airflow only reads back serialised timetables that a plugin names."""

    name = "dataops"
    timetables = [PeriodTimetable]  # noqa: RUF012 - the base class declares it so
