"""The installation that docker-compose.yaml describes, started as processes: CeleryExecutor, real Redis, PostgreSQL and S3."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dag_factory.deployment.processes import WORKERS
from dag_factory.sample_airflow import marked_processes
from tests.deploy.celery_fleet import CeleryFleet
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Server

ORDERS = 3
ONE, OTHER = WORKERS


@pytest.fixture
def fleet(
    tmp_path: Path, postgres_server: PostgresServer, redis_server: RedisServer, s3_server: S3Server
) -> Iterator[CeleryFleet]:
    made = CeleryFleet(tmp_path / "fleet", postgres_server, redis_server, s3_server)
    made.build_shop(ORDERS)
    try:
        made.prepare()
        yield made
    finally:
        made.stop()
        assert list(marked_processes(made.home)) == []


def every_dag_succeeds_and_every_table_can_be_queried(fleet: CeleryFleet, dags: list[str], crash: tuple[str, ...] = ()) -> None:
    """`crash`: components that die once, one after the other, while the runs are under way."""
    fleet.until(lambda: set(dags) <= fleet.shown(), 120 + 2 * len(dags))
    for dag in dags:
        fleet.rest.trigger(dag)
    for share, component in enumerate(crash, 1):
        fleet.until(lambda share=share: len(fleet.ended(dags)) >= share * len(dags) / 8, 15 * len(dags))
        fleet.crash(component)
    fleet.until(lambda: len(fleet.ended(dags)) == len(dags), 120 + 15 * len(dags))
    states = fleet.ended(dags)
    assert {dag for dag, state in states.items() if state != "success"} == set(), fleet.rest.import_errors()
    query = " UNION ALL ".join(f"SELECT '{n}', count(*) FROM d{n}.orders" for n in range(len(dags)))
    code, answer = fleet.dataops("sql", query)
    assert code == 0, answer
    assert sorted(tuple(row.values()) for row in answer["rows"]) == sorted((str(n), ORDERS) for n in range(len(dags)))


def both_workers_did_work(fleet: CeleryFleet, dags: list[str]) -> None:
    tasks = fleet.tasks_of_workers()
    assert sum(tasks.values()) >= 4 * len(dags)
    assert all(tasks[worker] >= 0.2 * 4 * len(dags) for worker in WORKERS), tasks


def the_doctor_finds_nothing_wrong(fleet: CeleryFleet) -> None:
    code, answer = fleet.dataops("doctor", "--rows", "10000")
    assert code == 0, answer["problems"]
    # One machine that plays several: folders, an address and logins that several machines could not have.
    assert {problem["code"] for problem in answer["problems"]} <= {
        "core.auth_manager", "core.execution_api_server_url", "dataops.lake", "dataops.dead_letters",
    }, answer["problems"]  # fmt: skip


def a_run_keeps_its_version_across_a_restart_on_the_other_worker(fleet: CeleryFleet, dag: str, targets: dict[str, str]) -> None:
    """It begins on one worker, whose machine is new. That one is told to end, the row is edited, everything is killed, and only the
    other worker comes back, on a new machine, too."""
    fleet.stop(*WORKERS)
    fleet.forget(ONE)
    fleet.start(ONE)
    pinned = fleet.bundle_version(dag)
    run_id = fleet.rest.trigger(dag)
    fleet.until(lambda: {"running", "success"} & set(fleet.tasks(dag, run_id).values()), 120)
    fleet.stop(ONE)
    assert fleet.versions(ONE) == {pinned}, "made from the version alone"
    assert fleet.tasks(dag, run_id)["verify"] != "success", "the run has more to do"
    fleet.write_rows("many", targets | {dag.rpartition("__")[2]: "moved"})
    fleet.until(lambda: fleet.bundle_version(dag) not in ("", pinned), 60)
    fleet.stop(kill=True)
    fleet.forget(OTHER)
    fleet.start(*(name for name in fleet.components if name not in (ONE, "triggerer")))  # nothing of the story waits for a trigger
    fleet.until(lambda: dag in fleet.ended([dag]), 240)
    run = fleet.rest.run(dag, run_id)
    assert run is not None and (run["state"], run["bundle_version"]) == ("success", pinned), fleet.task_logs(dag)
    assert fleet.versions(OTHER) == {pinned}
    assert "moved.orders" not in fleet.task_logs(dag) and f"{targets[dag.rpartition('__')[2]]}.orders" in fleet.task_logs(dag)


def story(fleet: CeleryFleet, rows: int, crash: tuple[str, ...] = ()) -> None:
    """One after the other, over one installation; what comes later needs what was before."""
    targets = {f"s{n}": f"d{n}" for n in range(rows)}
    dags = fleet.write_rows("many", targets)
    began = time.monotonic()

    def done(step: str) -> None:
        print(f"{step}: {time.monotonic() - began:.1f} s")  # noqa: T201

    fleet.start()
    done("started")
    every_dag_succeeds_and_every_table_can_be_queried(fleet, dags, crash)
    done(f"{rows} DAGs loaded, started again: {dict(fleet.restarts)}")
    both_workers_did_work(fleet, dags)
    the_doctor_finds_nothing_wrong(fleet)
    done("doctor")
    a_run_keeps_its_version_across_a_restart_on_the_other_worker(fleet, dags[0], targets)
    done("restarted")


@pytest.mark.timeout(900)
def test_a_fleet_over_two_workers(fleet: CeleryFleet) -> None:
    story(fleet, 4)
    assert fleet.restarts == {}


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_hundred_dags_over_two_workers(fleet: CeleryFleet) -> None:
    """The API server, which all tasks report to, and the scheduler die on the way; none of the 200 runs may notice."""
    story(fleet, 200, crash=("api-server", "scheduler"))
    assert fleet.restarts["api-server"] >= 1 and fleet.restarts["scheduler"] >= 1
