"""The DAG of onboarding for a file that Airflow parses: of a `dags` folder, or of the bundle."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from airflow_dataops.settings import load_settings
from dag_factory.bundle.places import Place, open_place
from dag_factory.onboard.desk import InventoryDesk


def load_onboard(namespace: MutableMapping[str, Any], inventory: str | None = None) -> None:
    """Puts the DAG into `namespace`, a module's `globals()`. The rows go where the inventory is: into what the bundle of the
    running task reads, else into the folder `inventory` (unset: the setting). The inventory is not read here, but by the tasks."""
    from dag_factory.render import wanted_dag_id

    file = Path(namespace["__file__"])
    if wanted_dag_id() in (None, file.stem):
        from dag_factory.onboard.render import render_onboard

        dag = render_onboard(lambda bundle: InventoryDesk(lambda scratch: place_of(bundle, scratch, inventory)), file.stem)
        namespace[dag.dag_id] = dag


def place_of(bundle: Any, scratch: Path, inventory: str | None = None) -> Place:
    """Where the rows of a bundle are kept; of any other bundle than ours, the folder. A git repository is fetched into
    `scratch`: the DAG processor has its own copy."""
    from dag_factory.bundle import InventoryBundle

    if isinstance(bundle, InventoryBundle):
        return open_place(
            bundle.inventory or load_settings().inventory, conn_id=bundle.conn_id, ref=bundle.git_ref, folder=bundle.git_folder,
            scratch=scratch,
        )  # fmt: skip
    return open_place(load_settings({"inventory": inventory}).inventory, conn_id=None, ref=None, folder="", scratch=scratch)
