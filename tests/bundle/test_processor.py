"""A real DAG processor with four bundles: what one row, one file or one place does wrong harms nobody else. And what the
bundle makes in Airflow: pools.

One processor for the whole story (it costs ten seconds); its cluster policies stand for everything that Airflow may refuse
after the row was found good.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundle.fleet import domain, row
from tests.fleet_soak.live import LiveProcessor
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.timeout(900)

POLICIES = """
from airflow.exceptions import AirflowClusterPolicyViolation

def dag_policy(dag):
    if "forbidden" in dag.tags:
        raise AirflowClusterPolicyViolation(f"{dag.dag_id} is not welcome")
    if "unserialisable" in dag.tags:
        dag.catchup = "sometimes"

def task_policy(task):
    if "fragile" in task.dag.tags:
        raise ValueError("no such queue")
"""
PLAIN = """
from airflow.sdk import DAG
with DAG("ingest__sales__taken", schedule=None, auto_register=True):
    pass
"""
ONE_SHARD = {"shards": 1}
"""All rows are neighbours in one file."""
NEIGHBOURS = {"ingest__sales__a", "ingest__sales__z", "ingest__web__a"}


class Story:
    """The processor, and where each of its bundles has its inventory."""

    def __init__(self, folder: Path, database: PostgresServer, s3: S3Server) -> None:
        self.s3, self.bucket, self.repository = s3, s3.new_bucket(), folder / "repository"
        (folder / "settings").mkdir()
        (folder / "settings/airflow_local_settings.py").write_text(POLICIES)
        (folder / "plain").mkdir()
        in_store = {
            "inventory": f"s3://{self.bucket}/inventory", "conn_id": "only_in_airflow",
            "snapshots": f"s3://{self.bucket}/snapshots", "snapshots_conn_id": "only_in_airflow",
            "maintenance_dag_id": "maintenance_of_store",
        }  # fmt: skip
        in_git = {
            "inventory": str(self.repository), "git_ref": "main", "git_folder": "rows", "conn_id": "git_login",
            "snapshots": str(folder / "git_snapshots"), "maintenance_dag_id": "maintenance_of_git",
        }  # fmt: skip
        self.plain = folder / "plain"
        self.airflow = LiveProcessor(folder, database.new_database())
        bundles = [
            self.airflow.bundle(**ONE_SHARD),
            {**self.airflow.bundle(**in_store), "name": "store"},
            {**self.airflow.bundle(**in_git), "name": "repo"},
            {
                "name": "plain",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(self.plain), "refresh_interval": 1},
            },
        ]
        environment = self.airflow.environment
        environment["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps(bundles)
        environment["PYTHONPATH"] += f":{folder / 'settings'}"

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            fresh = self.airflow.inventory / f".{name}.new"
            fresh.write_text(text)
            fresh.replace(self.airflow.inventory / f"{name}.yaml")

    def commit(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.repository / "rows" / f"{name}.yaml").write_text(text)
        self.git("add", ".")
        self.git("-c", "user.name=ann", "-c", "user.email=ann@example.org", "commit", "-q", "-m", "rows")

    def git(self, *words: str) -> None:
        subprocess.run(["git", "-C", str(self.repository), *words], check=True, capture_output=True)

    def prepare(self) -> None:
        """The connections are in Airflow's database and nowhere else."""
        (self.repository / "rows").mkdir(parents=True)
        self.git("init", "-q", "-b", "main", ".")
        self.commit(crm=domain(row("people")))
        self.put(shop=domain(row("orders")))
        self.write(sales=domain(row("a"), row("z")), web=domain(row("a", database="web_a")), platform="pools: {pg: 3}\n")
        self.airflow.migrate()
        extra = {"endpoint_url": self.s3.endpoint, "region_name": self.s3.region}
        file = self.repository.parent / "connections.json"
        file.write_text(json.dumps({
            "only_in_airflow": {"conn_type": "aws", "login": self.s3.access_key, "password": self.s3.secret_key, "extra": extra},
            "git_login": {"conn_type": "http", "login": "ann", "password": "secret-of-git"},
        }))  # fmt: skip
        self.airflow.airflow("connections", "import", str(file))

    def put(self, **texts: str) -> None:
        for name, text in texts.items():
            self.s3.client().put_object(Bucket=self.bucket, Key=f"inventory/{name}.yaml", Body=text.encode())

    def active(self) -> set[str]:
        return {dag for dag in self.airflow.active() if dag.startswith("ingest__")}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, s3_server: S3Server) -> Iterator[Story]:
    made = Story(tmp_path_factory.mktemp("processor"), postgres_server, s3_server)
    made.prepare()
    made.airflow.start()
    try:
        yield made
    finally:
        made.airflow.stop()


EVERYWHERE = {*NEIGHBOURS, "ingest__shop__orders", "ingest__crm__people"}


def connections_may_live_in_airflow_only(story: Story) -> None:
    """An inventory in an object store and one in git, each opened by a connection of Airflow's database."""
    story.airflow.until(lambda: story.active() == EVERYWHERE)
    assert story.airflow.import_errors() == {}
    story.put(shop=domain(row("orders"), row("lines")))
    story.commit(crm=domain(row("people"), row("visits")))
    story.airflow.until(lambda: story.active() == {*EVERYWHERE, "ingest__shop__lines", "ingest__crm__visits"})
    story.put(shop=domain(row("orders")))
    story.commit(crm=domain(row("people")))
    story.airflow.until(lambda: story.active() == EVERYWHERE)
    assert "secret-of-git" not in story.airflow.log.read_text() and story.s3.secret_key not in story.airflow.log.read_text()


def every_source_system_has_its_pool(story: Story) -> None:
    """Before a task asks for it: a task in a pool that is not there waits for ever, without a word."""
    slots = dict(story.airflow.rows("SELECT pool, slots FROM slot_pool"))
    assert slots == {"default_pool": 128, "pg": 3}
    story.airflow.rows("UPDATE slot_pool SET slots = 7 WHERE pool = 'pg' RETURNING 1")
    own = row("a", "limits: {pool: nightly, priority: 7, timeout_seconds: 60, max_active_runs: 2}")
    no_pool = row("b").replace("kind: sql, conn_id: pg", "kind: files, options: {path: /data/x.csv}")
    story.write(
        sales=domain(own, no_pool, row("z").replace("conn_id: pg", "conn_id: 'other/db'")), platform="pools: {pg: 4, nightly: 2}\n"
    )
    story.airflow.until(lambda: "ingest__sales__b" in story.active())
    slots = dict(story.airflow.rows("SELECT pool, slots FROM slot_pool"))
    assert slots == {"default_pool": 128, "pg": 4, "nightly": 2, "other/db": 16}

    def tasks(dag: str) -> list[dict[str, object]]:
        ((data,),) = story.airflow.rows("SELECT data FROM serialized_dag WHERE dag_id = %s ORDER BY last_updated DESC LIMIT 1", dag)
        return [task["__var"] for task in data["dag"]["tasks"]]

    def pools(dag: str) -> set[object]:
        return {task.get("pool", task.get("partial_kwargs", {}).get("pool", "default_pool")) for task in tasks(dag)}

    story.airflow.until(lambda: pools("ingest__sales__a") == {"nightly"})
    assert pools("ingest__sales__z") == {"other/db"} and pools("ingest__web__a") == {"pg"}
    assert pools("ingest__sales__b") == {"default_pool"}
    story.write(sales=domain(row("a"), row("z")), platform="pools: {pg: 3}\n")
    story.airflow.until(lambda: story.active() == EVERYWHERE)


REFUSED = {
    "forbidden": "AirflowClusterPolicyViolation: ingest__sales__bad is not welcome",
    "unserialisable": "ValidationError: 'sometimes' is not of type 'boolean'",
    "fragile": "ValueError: no such queue",
}


def a_row_that_only_airflow_refuses_is_alone(story: Story) -> None:
    for tag, why in REFUSED.items():
        story.write(sales=domain(row("a"), row("bad", f"tags: [{tag}]"), row("z")))

        def told(why: str = why) -> bool:
            assert story.active() >= EVERYWHERE
            errors = story.airflow.import_errors()
            return set(errors) == {"errors/sales__bad.py"} and why in errors["errors/sales__bad.py"]

        story.airflow.until(told)
        assert "inventory/sales.yaml:3 sales.bad: Airflow does not" in story.airflow.import_errors()["errors/sales__bad.py"]
        assert story.active() == EVERYWHERE
    story.write(sales=domain(row("a"), row("bad", "tags: [fine]"), row("z")))
    story.airflow.until(lambda: story.active() == {*EVERYWHERE, "ingest__sales__bad"} and not story.airflow.import_errors())
    story.write(sales=domain(row("a"), row("z")))
    story.airflow.until(lambda: story.active() == EVERYWHERE)


def a_dag_of_another_bundle_is_not_taken_away(story: Story) -> None:
    (story.plain / "mine.py").write_text(PLAIN)
    taken = "ingest__sales__taken"
    story.airflow.until(lambda: story.active() == {*EVERYWHERE, taken})
    story.write(sales=domain(row("a"), row("taken"), row("z")))
    story.airflow.until(lambda: set(story.airflow.import_errors()) == {"errors/sales__taken.py"})
    text = story.airflow.import_errors()["errors/sales__taken.py"]
    assert "sales.yaml:3" in text and "file 'mine.py' of bundle 'plain'" in text
    for _ in range(10):
        assert story.active() == {*EVERYWHERE, taken}
        assert story.airflow.rows("SELECT bundle_name FROM dag WHERE dag_id = %s", taken) == [("plain",)]
        time.sleep(0.2)
    (story.plain / "mine.py").unlink()
    story.airflow.until(
        lambda: story.airflow.rows("SELECT bundle_name FROM dag WHERE dag_id = %s AND NOT is_stale", taken) == [("inv",)]
    )
    story.airflow.until(lambda: not story.airflow.import_errors())
    story.write(sales=domain(row("a"), row("z")))
    story.airflow.until(lambda: story.active() == EVERYWHERE)


JINJA = '"{{ 7 * 7 }}{% raw %}"'
HOSTILE = {
    "jinja": row("jinja", f"description: {JINJA}, tags: [{JINJA}], owner: {JINJA}, tables: [{JINJA}], "
                          f"notify: [web]").replace("owner: o, ", ""),
    "long": row("long", f"schedule: '{','.join(['0', '30'] * 700)} * * * *'"),
    "looks": row("looks", f"description: {JINJA}").replace("name: looks", "name: 'оrders'"),
    "path": row("path").replace("name: path", "name: '../../../etc/cron.d/x'"),
    "nul": row("nul", 'description: "a\\0b"'),
    "big": row("big", f"description: '{'x' * 200_000}'"),
    "old": row("old", "start_date: 1900-01-01, catchup: true, schedule: '*/5 * * * *', timezone: Asia/Kathmandu"),
    "late": row("late", "start_date: 2199-12-31, schedule: '0 0 29 2 *', timezone: America/St_Johns"),
    "slow": row("slow", "limits: {timeout_seconds: 3155760000, priority: 1000000, retries: 100}"),
}  # fmt: skip
TAKEN = {"jinja", "long", "big", "old", "late", "slow"}
"""Those that are no fault, however they look."""


def hostile_rows_are_rows_or_errors(story: Story) -> None:
    """All in one file, and in one shard with good ones; none of their text is rendered, or keeps the others from Airflow."""
    story.write(sales=domain(row("a"), *HOSTILE.values(), row("z")), twice=domain(*[row("same")] * 1000))
    wanted = {*EVERYWHERE, "ingest__twice__same", *(f"ingest__sales__{name}" for name in TAKEN)}

    def seen() -> bool:
        assert story.active() >= EVERYWHERE
        return story.active() == wanted and len(story.airflow.import_errors()) == len(HOSTILE) - len(TAKEN) + 1

    story.airflow.until(seen)
    (owner, doc), *_ = story.airflow.rows("SELECT owners, timetable_description FROM dag WHERE dag_id = 'ingest__sales__jinja'")
    assert owner == "{{ 7 * 7 }}{% raw %}" and doc
    ((data,),) = story.airflow.rows("SELECT data::text FROM serialized_dag WHERE dag_id = 'ingest__sales__jinja'")
    assert "{{ 7 * 7 }}" in data and "template_fields" not in data.replace('"template_fields": []', "")


STORY = (
    connections_may_live_in_airflow_only,
    every_source_system_has_its_pool,
    a_row_that_only_airflow_refuses_is_alone,
    a_dag_of_another_bundle_is_not_taken_away,
    hostile_rows_are_rows_or_errors,
)


def test_a_real_dag_processor(story: Story, subtests: pytest.Subtests) -> None:
    """One test, so that parallel workers share neither the processor nor the order of its story."""
    for step in STORY:
        with subtests.test(step.__name__):
            began = time.monotonic()
            step(story)
            print(f"{step.__name__}: {time.monotonic() - began:.1f} s")  # noqa: T201
