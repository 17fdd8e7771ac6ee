"""What a fleet of thousands of rows costs, and how soon an edit is seen: issue 4's table, measured.

    python -m benchmarks.fleet [PART …] [--rows 10000] [--dag-factory VENV] [--markdown]

    compile     the inventory to the bundle's files: cold, unchanged, one row edited        15 s
    serialise   one DAG built and serialised, ours and (with VENV) dag-factory's            30 s
    parse       what a task parses when it starts, at 100, `rows` and 10 × `rows`           1–2 min
    latency     a row added, edited, removed until a dag-processor has it in the database   8 min at 10,000 rows
    cold-load   all DAGs into PostgreSQL, by one dag-processor and by two                   6 min at 10,000 rows
    scheduler   all DAGs unpaused: do runs start in time, do queues stay short              20 min at 10,000 rows

Without PART the first three, which need no server. The others start a PostgreSQL and Airflow's own processes, stop them, and
read the database again: a fleet that is not exactly the inventory makes the figure void. VENV is an environment with
`dag-factory==1.1.0` and Airflow. Figures are seconds of wall time where the name says nothing else; run it on a machine that
does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._fleet_report import markdown
from benchmarks._fleet_rows import FleetRows, dag_id

ROOT = Path(__file__).resolve().parents[1]
CHEAP = ("compile", "serialise", "parse")
PARTS = (*CHEAP, "latency", "cold-load", "scheduler")
SHARDS = 256


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5, help="of what is quick; the best counts")
    parser.add_argument("--tries", type=int, default=20, help="edits of each kind in `latency`")
    parser.add_argument("--minutes", type=float, default=10, help="of `scheduler`, after the cold load")
    parser.add_argument("--dag-factory", type=Path, metavar="VENV")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/performance.md instead of JSON")
    given = parser.parse_args()
    unknown = sorted({*given.parts} - {*PARTS})
    if unknown:
        parser.error(f"no part is called {unknown[0]!r}; known are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped then, too
    found: dict[str, Any] = {"rows": given.rows}
    with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as scratch:
        os.environ["AIRFLOW_HOME"] = str(Path(scratch, "home"))  # before Airflow is imported, which writes there
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        for part in given.parts or CHEAP:
            folder = Path(scratch, part)
            folder.mkdir()
            found[part] = _measure(part, folder, given)
            print(f"{part}: {json.dumps(found[part])}", file=sys.stderr)
    print(markdown(found) if given.markdown else json.dumps(found))
    return 0


def _measure(part: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    match part:
        case "compile":
            return compile_inventory(folder, given.rows, given.rounds)
        case "serialise":
            return serialise(given.rounds, given.dag_factory)
        case "parse":
            return {str(rows): own_parse(folder / str(rows), rows) for rows in (100, given.rows, 10 * given.rows)}
    from benchmarks import _fleet_live, _fleet_scheduler  # a server's driver is needed for these only

    match part:
        case "latency":
            return _fleet_live.latency(folder / "live", given.rows, given.tries)
        case "cold-load":
            return {
                "one": _fleet_live.cold_load(folder / "one", given.rows, 1),
                "two": _fleet_live.cold_load(folder / "two", given.rows, 2),
            }
        case _:
            return _fleet_scheduler.scheduler(folder / "live", given.rows, given.minutes)


def compile_inventory(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """Seconds from the files of a folder to the files of the bundle, by what `InventoryBundle.refresh` calls for it. `rows` are
    in files of 100; `one_file` has a tenth of them in one, where reading a whole file for one row would show."""
    cold, edited, in_one_file = [], [], []
    for n in range(rounds if rows <= 20_000 else 1):
        fleet = FleetRows(folder / f"many{n}", rows)
        steps = _Compiler(fleet.folder)
        spent, compiled = steps.timed()
        cold.append(spent)
        if set(compiled) != fleet.dag_ids:
            raise RuntimeError(f"Cannot measure: {len(compiled)} rows compiled -> the {rows} of the inventory, all good.")
        unchanged = [steps.timed()[0] for _ in range(5)]
        edited += [_edit(fleet, steps, number) for number in range(3)]
        wide = FleetRows(folder / f"wide{n}", rows // 10, per_file=rows // 10)
        wide_steps = _Compiler(wide.folder)
        wide_steps.timed()
        in_one_file += [_edit(wide, wide_steps, number) for number in range(3)]
    return {
        "rows": rows,
        "cold_seconds": round(min(cold)[0], 2),
        "cold_cpu_seconds": round(min(cpu for _, cpu in cold), 2),
        "unchanged_ms": _median_ms(unchanged)[0],
        "one_row_edited_ms": _median_ms(edited)[0],
        "one_row_edited_cpu_ms": _median_ms(edited)[1],
        f"one_row_edited_in_a_file_of_{rows // 10}_ms": _median_ms(in_one_file)[0],
    }


Spent = tuple[float, float]
"""Seconds of wall time, and of processor time: on a busy machine only the second says something."""


def _median_ms(spent: list[Spent]) -> Spent:
    wall, cpu = (round(statistics.median(seconds) * 1000, 1) for seconds in zip(*spent, strict=True))
    return wall, cpu


def _edit(fleet: FleetRows, steps: _Compiler, number: int) -> Spent:
    domain = sorted(fleet.rows)[len(fleet.rows) // 2]
    changed = fleet.edit(domain, fleet.rows[domain][number + 1])
    spent, compiled = steps.timed()
    if '"edited"' not in compiled[changed]:
        raise RuntimeError("Cannot measure: the edit is not in the compiled row -> there.")
    return spent


class _Compiler:
    """What a dag-processor holds between two refreshes."""

    def __init__(self, folder: Path) -> None:
        from dag_factory.bundle.files import BundleFiles
        from dag_factory.bundle.places import FolderPlace
        from dag_factory.bundle.units import UnitCache, factory_version

        factory_version()  # once in the life of a process
        self.place, self.cache, self.made = (
            FolderPlace(folder),
            UnitCache(folder.with_name(f"{folder.name}-units")),
            BundleFiles(SHARDS),
        )
        self.known: Any = {}
        self.rows: dict[str, str] = {}

    def timed(self) -> tuple[Spent, dict[str, str]]:
        """(seconds, the text of each row by DAG id) of one refresh."""
        from dag_factory.bundle.compiled import compile_fleet
        from dag_factory.bundle.places import unchanged
        from dag_factory.bundle.snapshots import version_of
        from dag_factory.bundle.units import factory_version

        # A file that was just written is looked at until it rests; that waiting is part of `latency`, not of compiling.
        time.sleep(0.1)
        self.place.read(self.known)
        began, busy = time.perf_counter(), time.process_time()
        files = self.place.read(self.known)
        if not unchanged(files, self.known):
            fleet = compile_fleet(files, "inventory", self.cache)
            version_of(self.made.make(fleet), factory_version())
            self.rows = {name: row.text for name, row in fleet.rows.items()}
        spent = time.perf_counter() - began, time.process_time() - busy
        self.known = files
        return spent, self.rows


def serialise(rounds: int, peer: Path | None) -> dict[str, Any]:
    """Milliseconds of processor time per DAG; ours and the peer's in turn, four tasks each, the best round of each."""
    ours = _printed(sys.executable, "-m", "benchmarks.dag_build", "--rows", "300", "--rounds", str(rounds))
    found: dict[str, Any] = {"ours": ours}
    if peer is not None:
        script = str(ROOT / "benchmarks" / "_dag_factory_peer.py")
        found["dag_factory"] = _printed(str(peer / "bin" / "python"), script, "300", str(rounds))
        both = [side["build_ms"] + side["serialise_ms"] for side in (found["dag_factory"], ours)]
        found["times_below_dag_factory"] = round(both[0] / both[1], 1)
    return found


def _printed(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Cannot measure with {command[0]}: it ended with {done.returncode} -> 0.\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def own_parse(folder: Path, rows: int, samples: int = 60) -> dict[str, Any]:
    """Milliseconds that a task's process spends on its DAG's file, as Airflow's task runner loads it; the first is left out,
    because it imports."""
    from airflow.dag_processing.dagbag import BundleDagBag

    from dag_factory.bundle.folder import build_folder

    fleet = FleetRows(folder / "inventory", rows)
    steps = _Compiler(fleet.folder)
    steps.timed()
    bundle = folder / "bundle"
    from dag_factory.bundle.compiled import compile_fleet
    from dag_factory.bundle.files import shard_of

    build_folder(bundle, steps.made.make(compile_fleet(steps.known, "inventory", steps.cache)), folder / "scratch")
    names = [(domain, name) for domain, names in fleet.rows.items() for name in names]
    seconds = []
    for domain, name in names[:: max(1, len(names) // (samples + 1))]:
        wanted, file = dag_id(domain, name), bundle / f"shard_{shard_of(f'{domain}.{name}', SHARDS):04}.py"
        os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"], os.environ["_AIRFLOW_PARSING_CONTEXT_TASK_ID"] = wanted, "load"
        began = time.perf_counter()
        bag = BundleDagBag(dag_folder=file, bundle_path=bundle, bundle_name="fleet", safe_mode=False)
        seconds.append(time.perf_counter() - began)
        if list(bag.dags) != [wanted]:
            raise RuntimeError(f"Cannot measure: the file gave {list(bag.dags)[:3]} {bag.import_errors} -> {wanted} alone.")
    for name in ("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "_AIRFLOW_PARSING_CONTEXT_TASK_ID"):
        del os.environ[name]
    later = sorted(seconds[1:])
    return {
        "median_ms": round(statistics.median(later) * 1000, 1),
        "p95_ms": round(later[len(later) * 95 // 100] * 1000, 1),
        "samples": len(later),
    }


if __name__ == "__main__":
    sys.exit(main())
