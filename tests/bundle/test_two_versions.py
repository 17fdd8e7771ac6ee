"""Two components that do not see the same inventory at the same moment: over git and over an object store."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dag_factory.bundle import InventoryBundle
from tests.bundle.fleet import Site, active, domain, loaded, row, tree
from tests.servers.s3 import S3Server

A, B, C, MAINTENANCE = "ingest__sales__a", "ingest__sales__b", "ingest__sales__c", "dataops_maintenance"
EDITS = (
    domain(row("a"), row("b"), row("c")), domain(row("a", "tags: [second]"), row("b"), row("c")),
    domain(row("a", "tags: [second]"), row("c")), domain(row("a", "tags: [third]"), row("c"), row("d")),
)  # fmt: skip


class Checkout:
    """An inventory in a bare repository."""

    def __init__(self, site: Site, *_: Any) -> None:
        self.work, self.remote = site.root / "work", site.root / "remote.git"
        self.work.mkdir()
        self._git("init", "-q", "-b", "main", ".")
        self.options: dict[str, Any] = {"inventory": str(self.remote), "git_ref": "main"}
        self.put(domain(row("a"), row("b")))
        self._git("tag", "v1")
        self._git("clone", "-q", "--bare", ".", str(self.remote))

    def put(self, text: str) -> None:
        (self.work / "sales.yaml").write_text(text)
        self._git("add", "-A")
        self._git("commit", "-qm", "an edit")
        if self.remote.exists():
            self._git("push", "-q", str(self.remote), "main")

    def _git(self, *words: str) -> None:
        login = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        subprocess.run(("git", *login, *words), cwd=self.work, check=True, capture_output=True)


class Bucket:
    """Inventory and snapshots in an object store."""

    def __init__(self, site: Site, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        extra = {"endpoint_url": server.endpoint, "region_name": server.region}
        login = {"login": server.access_key, "password": server.secret_key}
        monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps({"conn_type": "aws", "extra": extra, **login}))
        self.name, self.client = server.new_bucket(), server.client()
        self.folder = Path(server.process.folder) / "data" / self.name
        self.options = {
            "inventory": f"s3://{self.name}/inventory", "conn_id": "store",
            "snapshots": f"s3://{self.name}/snapshots", "snapshots_conn_id": "store",
        }  # fmt: skip
        self.put(domain(row("a"), row("b")))

    def put(self, text: str) -> None:
        self.client.put_object(Bucket=self.name, Key="inventory/sales.yaml", Body=text.encode())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    monkeypatch.setenv("AIRFLOW__DATAOPS__RETIRE_MOST_PERCENT", "100")
    return Site(tmp_path)


@pytest.fixture
def bucket(site: Site, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return Bucket(site, s3_server, monkeypatch)


def started(site: Site, machine: str, **options: Any) -> InventoryBundle:
    """A process on a machine of that name; its folder stays the machine's."""
    with site.machine(machine):
        bundle = site.bundle(**options)
        bundle.initialize()
    return bundle


def version(bundle: InventoryBundle) -> str:
    found = bundle.get_current_version()
    assert found is not None
    return str(found.version)


def forked(work: Callable[[], None]) -> int:
    """A process of its own; its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


@pytest.mark.parametrize("kind", [Checkout, Bucket], ids=["git", "s3"])
def test_two_processes_compile_at_once_while_it_is_edited(
    kind: Any, site: Site, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = kind(site, request.getfixturevalue("s3_server") if kind is Bucket else None, monkeypatch)
    over = site.root / "over"

    def compile_on(machine: str) -> Callable[[], None]:
        def work() -> None:
            bundle = started(site, machine, **kept.options)
            with open(site.root / f"{machine}.versions", "w", encoding="ascii") as seen:
                while True:
                    last = over.exists()
                    bundle.refresh()
                    print(version(bundle), file=seen, flush=True)
                    if last:
                        return

        return work

    def seen() -> list[set[str]]:
        files = [site.root / f"{machine}.versions" for machine in ("one", "two")]
        return [set(file.read_text().split()) if file.exists() else set() for file in files]

    children = [forked(compile_on(machine)) for machine in ("one", "two")]
    try:
        for text in EDITS:
            before = seen()
            kept.put(text)
            deadline = time.monotonic() + 120
            while any(now <= then for now, then in zip(seen(), before, strict=True)) and time.monotonic() < deadline:
                time.sleep(0.05)
    finally:
        over.touch()
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert ends == [0, 0]
    assert all(len(versions) >= len(EDITS) for versions in seen())
    one, two = (started(site, machine, **kept.options) for machine in ("one", "two"))
    for bundle in (one, two, one):
        bundle.refresh()
    assert version(one) == version(two) and tree(one.path) == tree(two.path)
    assert active(one.path) == {A, C, "ingest__sales__d", MAINTENANCE} and loaded(one.path)[A].tags >= {"third"}
    for name in set().union(*seen()):  # a run may be pinned to any of them
        with site.machine(f"worker-{name}"):
            worker = started(site, f"worker-{name}", version=name, **kept.options)
            assert set(loaded(worker.path)) >= {A, MAINTENANCE}


def test_an_older_checkout_beside_a_newer_one(site: Site) -> None:
    """Each keeps to its own; what was pinned before stays what it was, whoever published last."""
    kept = Checkout(site)
    old = started(site, "old", **kept.options | {"git_ref": "v1"})
    kept.put(domain(row("a", "tags: [second]"), row("b"), row("c")))
    new = started(site, "new", **kept.options)
    trees = {}
    for bundle in (new, old, new, old):
        bundle.refresh()
        trees[version(bundle)] = tree(bundle.path)
    assert len(trees) == 2 and active(old.path) == {A, B, MAINTENANCE} and active(new.path) == {A, B, C, MAINTENANCE}
    for name, content in trees.items():
        with site.machine(f"worker-{name}"):
            worker = started(site, f"worker-{name}", version=name, **kept.options)
            assert tree(worker.path) == content
            (only,) = loaded(worker.path, wanted=A).values()
        assert ("second" in only.tags) == (name == version(new)), "a task is built from the version of its run"


def test_an_older_checkout_that_starts_later_takes_nothing_away_for_good(site: Site) -> None:
    """It finds a row in the ledger that it does not have. The newer one puts it back with its next look, and then both rest."""
    kept = Checkout(site)
    kept.put(domain(row("a"), row("b"), row("c")))
    new = started(site, "new", **kept.options)
    before = version(new)
    old = started(site, "old", **kept.options | {"git_ref": "v1"})
    old.refresh()
    assert C not in active(old.path) and "retired" in loaded(old.path)[C].tags
    for _ in range(2):
        new.refresh()
        old.refresh()
        assert (active(new.path), version(new)) == ({A, B, C, MAINTENANCE}, before)


def test_a_store_that_is_down_keeps_the_last_good_state(bucket: Bucket, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write(sales=domain(row("a")))
    bundle = started(site, "main", **bucket.options | {"inventory": str(site.inventory), "conn_id": None})
    assert active(bundle.path) == {A, MAINTENANCE}
    good, before = tree(bundle.path), version(bundle)
    away = bucket.folder.rename(site.root / "away")
    try:
        site.write(sales=domain(row("a"), row("b")))
        for process in (bundle, started(site, "main", **bucket.options | {"inventory": str(site.inventory), "conn_id": None})):
            caplog.clear()
            process.refresh()
            assert (tree(process.path), version(process)) == (good, before) and "last good state stays" in caplog.text
    finally:
        away.rename(bucket.folder)
    bundle.refresh()
    assert active(bundle.path) == {A, B, MAINTENANCE}
