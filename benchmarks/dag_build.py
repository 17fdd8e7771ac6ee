"""What one row costs when its DAG file is parsed: plan and build the DAG, serialise it, how large the result is.

    python -m benchmarks.dag_build [--rows 300] [--rounds 5]

Seconds of processor time, the best of the rounds (a busy machine makes wall time mean nothing). The limits are those of
DESIGN §8: 3.5 KB, and 3 ms for both together. `task_start_parse_ms` is a second parse in one process of an inventory of that
many rows in one file, filtered to one DAG as when a task starts: reading the YAML file is nearly all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=300)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home  # before Airflow is imported, which writes there
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        print(json.dumps(measure(given.rows, given.rounds, Path(home))))


def measure(rows: int, rounds: int, home: Path) -> dict[str, float | int]:
    """The best of the rounds, in milliseconds per row, and bytes of the largest serialised DAG."""
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_dataops.core.spec import PipelineSpec
    from dag_factory.inventory import read_inventory
    from dag_factory.render import render

    common = {"domain": "sales", "kind": "sql", "conn_id": "pg", "owner": "sales-data", "schedule": "30 6 * * *"}
    specs = [
        PipelineSpec.model_validate({**common, "name": f"source_{n}", "timezone": "Europe/Berlin", "notify": ["ops"]})
        for n in range(rows)
    ]
    built, stored, size = [], [], 0
    for _ in range(rounds):
        started = time.process_time()
        dags = [render(spec) for spec in specs]
        middle = time.process_time()
        texts = [json.dumps(DagSerialization.to_dict(dag), separators=(",", ":")) for dag in dags]
        built.append(middle - started)
        stored.append(time.process_time() - middle)
        size = max(map(len, texts))
    folder = home / "inventory"
    folder.mkdir()
    lines = [f"  - {{name: source_{n}, kind: sql, conn_id: pg, owner: o, target: {{database: d{n}}}}}" for n in range(rows)]
    (folder / "sales.yaml").write_text("sources:\n" + "\n".join(lines) + "\n", encoding="utf-8")
    parsed = []
    for _ in range(rounds):
        started = time.process_time()
        (row,) = read_inventory(folder, only=f"sales.source_{rows - 1}").rows
        render(row)
        parsed.append(time.process_time() - started)
    return {
        "rows": rows,
        "build_ms": round(min(built) / rows * 1000, 2),
        "serialise_ms": round(min(stored) / rows * 1000, 2),
        "serialised_bytes": size,
        "task_start_parse_ms": round(min(parsed) * 1000, 1),
    }


if __name__ == "__main__":
    main()
