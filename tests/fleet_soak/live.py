"""A real DAG processor of Airflow over an inventory bundle, with PostgreSQL behind it, and nothing else of Airflow."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg

AIRFLOW = (sys.executable, "-P", "-m", "dag_factory.deployment.component")
BUNDLE = "inv"
CLASSPATH = "dag_factory.bundle.InventoryBundle"


class LiveProcessor:
    """`start` brings Airflow's database up and the processor; `stop` in any case. A start after `kill` goes on as it was.

    `database_url` is an empty database (`postgresql://…`), `bundles` are the entries of `dag_bundle_config_list`, unset: one
    over `folder/inventory`. `environment` goes over everything.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        bundles: list[dict[str, Any]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.database_url = folder, database_url
        self.inventory, self.snapshots, self.home = folder / "inventory", folder / "snapshots", folder / "home"
        for made in (self.inventory, self.home):
            made.mkdir(parents=True, exist_ok=True)
        self.log = folder / "dag-processor.log"
        alchemy = database_url.replace("postgresql://", "postgresql+psycopg://")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))},
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": alchemy,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": alchemy,
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles or [self.bundle()]),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # only a change makes a file parsed again
            "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "0",
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "120",
            "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "2",
            "AIRFLOW__DATAOPS__MAINTENANCE_SCHEDULE": "none",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "SPT_NOENV": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._rows: psycopg.Connection | None = None

    def bundle(self, **options: Any) -> dict[str, Any]:
        """The bundle's entry in the configuration."""
        here = {
            "inventory": str(self.inventory), "snapshots": str(self.snapshots), "refresh_interval": 1, "onboard_dag_id": None,
            "approvals_dag_id": None,
        }  # fmt: skip
        return {"name": BUNDLE, "classpath": CLASSPATH, "kwargs": here | options}

    def airflow(self, *words: str) -> str:
        """What one `airflow …` command prints."""
        done = subprocess.run(
            [*AIRFLOW, *words], env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"airflow {words[0]} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def migrate(self) -> None:
        """Airflow's tables, once."""
        if not (self.home / "migrated").exists():
            self.airflow("db", "migrate")
            (self.home / "migrated").touch()

    def start(self) -> None:
        self.migrate()
        with open(self.log, "ab") as output:
            self._process = subprocess.Popen(
                [*AIRFLOW, "dag-processor"], env=self.environment, cwd=self.home,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        self.kill()
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def kill(self) -> None:
        """kill -9 for the processor and the children that parse."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself, and no child lives on
                os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._rows is None:
            self._rows = psycopg.connect(self.database_url, autocommit=True)
        return self._rows.execute(statement.encode(), values or None).fetchall()

    def active(self) -> set[str]:
        """The DAGs that Airflow would run; those of removed rows, which only wait for their deletion, are none of them."""
        retired = "SELECT 1 FROM dag_tag t WHERE t.dag_id = d.dag_id AND t.name = 'retired'"
        return {dag for (dag,) in self.rows(f"SELECT dag_id FROM dag d WHERE NOT is_stale AND NOT EXISTS ({retired})")}

    def tags(self) -> dict[str, set[str]]:
        """All tags by DAG."""
        found: dict[str, set[str]] = {}
        for dag, tag in self.rows("SELECT dag_id, name FROM dag_tag"):
            found.setdefault(dag, set()).add(tag)
        return found

    def import_errors(self) -> dict[str, str]:
        return dict(self.rows("SELECT filename, stacktrace FROM import_error"))

    def until(self, condition: Callable[[], Any], seconds: float = 120, pause: float = 0.2) -> float:
        """Waits for the condition; returns how long it took."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            if self._process is None or self._process.poll() is not None:
                break
            if condition():
                return time.monotonic() - began
            time.sleep(pause)
        end = None if self._process is None else self._process.poll()
        log = [line for line in self.log.read_text(errors="replace").splitlines() if "manager.DagFileProcessorManager" not in line]
        raise AssertionError(
            f"not in {seconds} seconds (the processor: {end}); active {sorted(self.active())[:20]}, errors "
            f"{list(self.import_errors().items())[:5]}\n" + "\n".join(log[-40:])
        )
