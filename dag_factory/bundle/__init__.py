"""The inventory as a versioned Airflow DAG bundle. `InventoryBundle` is what `dag_bundle_config_list` names.

place     where the inventory is kept: a folder, an object store, a git repository        places.py, git_place.py
compile   files → rows as JSON and problems, one bad row alone; pure                      compiled.py, units.py
files     compiled fleet → the files of the bundle, a fixed shard per DAG; pure           files.py
snapshot  files by version, where every component reaches them                            snapshots.py, stores.py
folder    files → the bundle's path, only what differs is written                         folder.py
loader    what a file of the bundle calls when Airflow parses it                          shard.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dag_factory.bundle.airflow_bundle import InventoryBundle

__all__ = ["InventoryBundle"]


def __getattr__(name: str) -> Any:
    """Late, because everything else in this package does without Airflow, whose import takes seconds."""
    if name == "InventoryBundle":
        from dag_factory.bundle.airflow_bundle import InventoryBundle

        return InventoryBundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
