"""The inventory as DAGs of one Python file, for a `dags` folder:

    from dag_factory.loader import load_dags
    load_dags(globals())  # an Airflow dag per row

and the fleet's own DAGs, each in a file of its own: `load_maintenance(globals())`, `load_approvals(globals())`.

A task builds its own DAG only: reading one row costs the same however large the fleet is. A bad row is left out and its
neighbours live on: Airflow takes an error in a file as an error of all its DAGs, so the problems are reported from a file of
their own (`report_problems`), and in the log of this one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping
from functools import partial
from typing import Any

from airflow_dataops.core.errors import DataOpsError, InventoryError
from airflow_dataops.settings import load_settings
from dag_factory.inventory import Inventory, read_inventory
from dag_factory.plan import APPROVALS_DAG_ID, MAINTENANCE_DAG_ID, plan_maintenance

log = logging.getLogger(__name__)

DAG_PREFIX = "ingest__"


def load_dags(namespace: MutableMapping[str, Any], inventory: str | None = None) -> None:
    """Puts the DAG of each good row into `namespace`, a module's `globals()`. `inventory` is the folder; unset, the setting.

    InventoryError when there is no such folder, or when not one of its rows is good.
    """
    from dag_factory.render import wanted_dag_id

    wanted = wanted_dag_id()
    if wanted is not None and not wanted.startswith(DAG_PREFIX):
        return
    found = read_inventory(_folder(inventory), only=source_id_of(wanted) if wanted else None)
    problems = [str(problem) for problem in found.errors] + _rendered(found, namespace)
    for problem in problems:
        log.error("%s", problem)
    if problems and not any(row.dag_id in namespace for row in found.rows):
        raise _report(problems)


def load_maintenance(
    namespace: MutableMapping[str, Any], inventory: str | None = None, approvals_dag_id: str | None = APPROVALS_DAG_ID
) -> None:
    """Puts the DAG of maintenance into `namespace`, a module's `globals()`. `approvals_dag_id`: the DAG that asks about held drift,
    None where there is none. The inventory is not read here, but by its tasks:
    its good rows. InventoryError when the setting `maintenance_schedule` cannot be used."""
    from dag_factory.render import render_maintenance, wanted_dag_id

    if wanted_dag_id() in (None, MAINTENANCE_DAG_ID):
        folder = _folder(inventory)
        plan = plan_maintenance(load_settings().maintenance_schedule, approvals_dag_id=approvals_dag_id)
        namespace[plan.dag_id] = render_maintenance(plan, lambda: read_inventory(folder))


def load_approvals(namespace: MutableMapping[str, Any], inventory: str | None = None) -> None:
    """Puts the DAG that asks about held drift into `namespace`, a module's `globals()`. The inventory is read by its tasks."""
    from dag_factory.render import render_approvals, wanted_dag_id

    if wanted_dag_id() in (None, APPROVALS_DAG_ID):
        folder = _folder(inventory)
        namespace[APPROVALS_DAG_ID] = render_approvals(lambda: read_inventory(folder))


def report_problems(inventory: str | None = None) -> None:
    """Raises one InventoryError that lists every problem of the inventory; nothing when there is none. In a file of its own
    in the `dags` folder it makes Airflow show the problems as that file's import error, beside all healthy DAGs."""
    found = read_inventory(_folder(inventory))
    problems = [str(problem) for problem in found.errors] + _rendered(found, {})
    if problems:
        raise _report(problems)


def source_id_of(dag_id: str) -> str:
    """`ingest__sales__orders` → `sales.orders`; ids have no double underscore."""
    domain, _, name = re.sub(r"__(?=[a-z])", ".", dag_id.removeprefix(DAG_PREFIX)).partition(".")
    return f"{domain}.{name}"


def _rendered(found: Inventory, namespace: MutableMapping[str, Any]) -> list[str]:
    """Renders the enabled rows into the namespace; returns what could not be rendered, as text. Outside a task also what
    Airflow would refuse afterwards, with all that stands in the same file."""
    from dag_factory.acceptance import accepted
    from dag_factory.render import render, wanted_dag_id

    in_task = wanted_dag_id() is not None
    problems = []
    for row in found.rows:
        if row.enabled:
            make = partial(render, row, found.platform)
            try:
                namespace[row.dag_id] = make() if in_task else accepted(make)
            except DataOpsError as error:
                problems.append(f"{row.file}:{row.line} {row.id}: {error}")
            except Exception as error:  # what a row makes Airflow stumble over must not cost its neighbours their DAGs
                log.exception("the DAG of %s cannot be built", row.id)
                problems.append(
                    f"{row.file}:{row.line} {row.id}: Cannot build its DAG: {type(error).__name__} -> none. See the log."
                )
    return problems


def _folder(inventory: str | None) -> str:
    return load_settings({"inventory": inventory}).inventory


def _report(problems: list[str]) -> InventoryError:
    listed = "\n".join(problems)
    return InventoryError(f"Cannot use the inventory: {len(problems)} problems -> none.\n{listed}\nCorrect them.")
