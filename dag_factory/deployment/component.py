"""One process of the fleet on this machine: `python -m dag_factory.deployment.component WORDS` is `airflow WORDS`, sooner.

A start makes millions of objects that stay, and Python looks for cycles among them all the time: a quarter of the start. A
worker imports what its tasks need before it forks for them, else each task spends half a second on it.
"""

from __future__ import annotations

import gc
import importlib
import sys

from dag_factory.sample_components import FOR_TASKS, YOUNG_OBJECTS


def main() -> object:
    """As `airflow` does; what it returns or raises is how the process ends."""
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
    sys.argv[0] = "airflow"
    from airflow.__main__ import main as airflow

    if "worker" in sys.argv:
        for module in FOR_TASKS:
            importlib.import_module(module)
    return airflow()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[arg-type]
