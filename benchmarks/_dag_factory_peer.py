"""dag-factory, measured in its own environment: a YAML file of DAGs with four tasks, built and serialised as ours are.

Run by `benchmarks.fleet` with the Python of that environment; prints JSON. Nothing of ours is imported.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time

# What our tasks are told too.
HEAD = """\
default:
  default_args:
    owner: sales-data
    start_date: 2024-01-01
    retries: 3
    retry_delay_sec: 30
    retry_exponential_backoff: true
    execution_timeout_secs: 21600
    pool: default_pool
    priority_weight: 1
"""
BASH = "airflow.providers.standard.operators.bash.BashOperator"
DAG = """\
source_{n}:
  schedule: "30 6 * * *"
  catchup: false
  description: Orders of region {n}, every change since yesterday
  tags: [dataops, sales, sql, orders]
  max_active_runs: 1
  tasks:
    - {{task_id: discover, operator: {bash}, bash_command: "true"}}
    - {{task_id: drift_sync, operator: {bash}, bash_command: "true", dependencies: [discover]}}
    - {{task_id: load, operator: {bash}, bash_command: "true", dependencies: [drift_sync]}}
    - {{task_id: verify, operator: {bash}, bash_command: "true", dependencies: [load]}}
"""


def main(rows: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        file = os.path.join(home, "fleet.yaml")
        with open(file, "w", encoding="utf-8") as out:
            out.write(HEAD + "".join(DAG.format(n=n, bash=BASH) for n in range(rows)))
        from airflow.serialization.serialized_objects import DagSerialization
        from dagfactory.dagfactory import _DagFactory

        built, stored, size, tasks = [], [], 0, 0
        for _ in range(rounds):
            started = time.process_time()
            dags = list(_DagFactory(config_filepath=file, defaults_config_path=home).build_dags().values())
            middle = time.process_time()
            texts = [json.dumps(DagSerialization.to_dict(dag), separators=(",", ":")) for dag in dags]
            built.append(middle - started)
            stored.append(time.process_time() - middle)
            size, tasks = max(map(len, texts)), len(dags[0].tasks)
            if len(dags) != rows:
                raise RuntimeError(f"dag-factory built {len(dags)} DAGs -> {rows}")
        print(
            json.dumps(
                {
                    "rows": rows,
                    "tasks": tasks,
                    "build_ms": round(min(built) / rows * 1000, 2),
                    "serialise_ms": round(min(stored) / rows * 1000, 2),
                    "serialised_bytes": size,
                    # A task builds every DAG of its file; so does each look at it.
                    "task_start_parse_ms": round(min(built) * 1000, 1),
                }
            )
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
