"""The bundle as Airflow's processes use it: refresh, snapshots, pinned versions, and what happens when something is down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.bundles.base import BundleVersion

from airflow_dataops.core.errors import DataOpsError, InventoryError, StopError, UnavailableError
from dag_factory.bundle import InventoryBundle
from dag_factory.bundle.airflow_bundle import InventoryBundle as Direct
from dag_factory.bundle.files import Content
from dag_factory.bundle.folder import FIRST_LOOK_SECONDS, sync_folder
from dag_factory.bundle.places import LOOKS_AT_REST, FolderPlace
from dag_factory.bundle.shard import read_bundle
from tests.bundle.fleet import Site, active, domain, loaded, row, tree
from tests.servers.s3 import S3Server

A, B, MAINTENANCE = "ingest__sales__a", "ingest__sales__b", "dataops_maintenance"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "main"))
    monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    made = Site(tmp_path)
    made.write(sales=domain(row("a", "tags: [first]"), row("b")))
    return made


def started(site: Site, **options: object) -> InventoryBundle:
    bundle = site.bundle(**options)
    bundle.initialize()
    return bundle


def version(bundle: InventoryBundle) -> str:
    found = bundle.get_current_version()
    assert isinstance(found, BundleVersion)
    return found.version


def test_the_constructor_touches_nothing_and_takes_what_later_releases_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "main"))
    bundle = InventoryBundle(name="inv", inventory="s3://no-such-bucket/x", conn_id="none", version_data={"a": 1}, dag_id="x")
    assert (bundle.path, bundle.get_current_version(), list(tmp_path.iterdir())) == (tmp_path / "main/inv/current", None, [])
    assert bundle.supports_versioning and Direct is InventoryBundle


def test_the_rows_become_dags_and_the_factory_has_its_own(site: Site) -> None:
    bundle = started(site)
    dags = loaded(bundle.path)
    assert set(dags) == {A, B, MAINTENANCE}
    assert "first" in dags[A].tags and "row at `inventory/sales.yaml`," in (dags[A].doc_md or "")
    assert [spec.id for spec in dags[MAINTENANCE].get_task("sweep").fleet().rows] == ["sales.a", "sales.b"]
    assert dags[MAINTENANCE].disable_bundle_versioning and not dags[A].disable_bundle_versioning
    for file in bundle.path.rglob("*.py"):
        text = file.read_text().lower()
        assert "airflow" in text and "dag" in text  # Airflow's safe mode


def test_a_task_builds_its_own_dag_only(site: Site) -> None:
    site.write(sales=domain(*(row(f"r{n}") for n in range(20))))
    bundle = started(site, shards=2)
    assert set(loaded(bundle.path, "ingest__sales__r7")) == {"ingest__sales__r7"}
    assert set(loaded(bundle.path, MAINTENANCE)) == {MAINTENANCE}
    assert loaded(bundle.path, "somebody_elses") == {}


def test_only_what_differs_is_written(site: Site) -> None:
    site.write(sales=domain(*(row(f"r{n}") for n in range(40))))
    bundle = started(site, shards=8)
    before, times = tree(bundle.path), {f: f.stat().st_mtime_ns for f in bundle.path.glob("*.py")}
    site.write(sales=domain(*(row(f"r{n}", "tags: [new]" if n == 3 else "") for n in range(40))))
    bundle.refresh()
    changed = {path for path, data in tree(bundle.path).items() if before[path] != data}
    assert len(changed) == 2 and {Path(path).suffix for path in changed} == {".py", ".json"}
    moved = {file.name for file, then in times.items() if file.stat().st_mtime_ns != then}
    assert moved == {path for path in changed if path.endswith(".py")}


def test_unchanged_costs_nothing_and_keeps_the_version(site: Site) -> None:
    bundle = started(site)
    before = version(bundle)
    (site.inventory / "sales.yaml").touch()
    bundle.refresh()
    os.utime(site.inventory / "sales.yaml", (1, 1))  # a clock that jumps
    bundle.refresh()
    assert version(bundle) == before
    site.write(sales=domain(row("a", "tags: [other]"), row("b")))
    os.utime(site.inventory / "sales.yaml", (1, 1))
    bundle.refresh()
    assert version(bundle) != before and "other" in loaded(bundle.path)[A].tags


def test_a_damaged_folder_is_mended_with_the_next_change(site: Site) -> None:
    bundle = started(site)
    good = tree(bundle.path)
    (bundle.path / "dataops_maintenance.py").unlink()
    (bundle.path / "mine.py").write_text("airflow dag")
    restarted = started(site)
    restarted.refresh()
    assert tree(bundle.path) == good


def test_a_version_is_rebuilt_exactly_where_nobody_has_seen_it(site: Site) -> None:
    bundle = started(site)
    old, old_tree = version(bundle), tree(bundle.path)
    site.write(sales=domain(row("b"), row("c", "schedule: oops")))
    bundle.refresh()
    new, new_tree = version(bundle), tree(bundle.path)
    shutil.rmtree(site.inventory)
    for machine in ("two", "two", "three"):
        with site.machine(machine):
            for name, content in ((old, old_tree), (new, new_tree)):
                worker = started(site, version=name)
                assert tree(worker.path) == content
                assert version(worker) == name and worker.path == site.root / machine / "inv/versions" / name
    with site.machine("two"):
        assert set(loaded(started(site, version=old).path)) == {A, B, MAINTENANCE}


def test_the_meaning_of_a_row_does_not_depend_on_what_the_inventory_says_now(site: Site) -> None:
    bundle = started(site)
    pinned = version(bundle)
    site.write(sales=domain(row("a", "tags: [second]", database="elsewhere")), defaults="timezone: Europe/Vienna\n")
    bundle.refresh()
    with site.machine("worker"):
        worker = started(site, version=pinned)
        spec = loaded(worker.path, A)[A].get_task("discover").spec
    assert (spec.target.database, spec.timezone, spec.tags) == ("d_a", "UTC", ("first",))
    now = loaded(bundle.path, A)[A].get_task("discover").spec
    assert (now.target.database, now.timezone) == ("elsewhere", "Europe/Vienna")


@pytest.mark.parametrize("name", ["../../etc", "x", "0" * 40, "a/b", "F" * 40])
def test_a_version_that_nobody_made_is_refused(name: str, site: Site) -> None:
    started(site)
    (site.snapshots / "versions/x").write_text("{}")
    with pytest.raises(InventoryError, match="Cannot rebuild version"):
        started(site, version=name)


def test_damaged_snapshots_are_noticed(site: Site) -> None:
    bundle = started(site)
    blob = next(file for file in (site.snapshots / "blobs").rglob("*") if file.is_file())
    blob.write_bytes(b"something else")
    with site.machine("two"), pytest.raises(StopError, match="another content"):
        started(site, version=version(bundle))


def test_nobody_waits_for_a_refresh(site: Site) -> None:
    """The lock is held by a refresh; a task of a version that is there starts all the same, and so does one that is not."""
    bundle = started(site)
    with site.bundle().lock():
        done = threading.Event()
        worker = site.bundle(version=version(bundle))
        thread = threading.Thread(target=lambda: (worker.initialize(), done.set()))
        thread.start()
        assert done.wait(20)
        thread.join()


def test_workers_at_once_rebuild_the_same(site: Site) -> None:
    bundle = started(site)
    with site.machine("two"):
        workers = [site.bundle(version=version(bundle)) for _ in range(8)]
        threads = [threading.Thread(target=worker.initialize) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(worker.is_initialized for worker in workers)
        assert tree(workers[0].path) == tree(bundle.path)


def test_two_that_compile_at_once_agree(site: Site) -> None:
    with site.machine("one"):
        first = started(site)
    with site.machine("two"):
        second = started(site)
        second.refresh()
    assert version(first) == version(second) and tree(first.path) == tree(second.path)


def test_a_worker_without_a_version_takes_the_newest_snapshot(site: Site) -> None:
    bundle = started(site)
    moved = site.inventory.rename(site.root / "away")
    with site.machine("two"):
        worker = started(site)
        assert tree(worker.path) == tree(bundle.path)
    moved.rename(site.inventory)
    site.write(sales=domain(row("a")))
    bundle.refresh()
    with site.machine("two"):
        assert tree(started(site).path) == tree(bundle.path)


def test_a_refresh_that_fails_keeps_the_last_good_state_and_says_why(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    bundle = started(site)
    good, before = tree(bundle.path), version(bundle)
    away = site.inventory.rename(site.root / "away")
    restarted = started(site)
    for broken in (bundle, restarted):
        caplog.clear()
        broken.refresh()
        assert (tree(broken.path), version(broken)) == (good, before)
        assert "its last good state stays" in caplog.text and "nothing there" in caplog.text
    site.inventory.mkdir()  # a mount that is missing
    restarted.refresh()
    assert (tree(restarted.path), version(restarted)) == (good, before)
    site.inventory.rmdir()
    away.rename(site.inventory)
    site.write(sales=domain(row("a")))
    bundle.refresh()
    assert active(bundle.path) == {A, MAINTENANCE}


def test_a_store_that_is_down_keeps_the_last_good_state(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody else can reach is not shown: a run would be pinned to it."""
    bundle = started(site)
    good, before = tree(bundle.path), version(bundle)
    away = site.snapshots.rename(site.root / "gone")
    site.snapshots.write_text("no folder")
    site.write(sales=domain(row("a")))
    bundle.refresh()
    assert (tree(bundle.path), version(bundle)) == (good, before) and "last good state stays" in caplog.text
    site.snapshots.unlink()
    away.rename(site.snapshots)
    bundle.refresh()
    assert active(bundle.path) == {A, MAINTENANCE}


def test_without_any_state_the_failure_is_raised(site: Site) -> None:
    shutil.rmtree(site.inventory)
    with pytest.raises(DataOpsError, match="Cannot read inventory"):
        started(site)


def test_a_broken_file_keeps_its_rows_also_after_a_restart_on_another_machine(site: Site) -> None:
    site.write(web=domain(row("x")))
    started(site)
    site.write(sales="sources:\n  - {name: [\n", web=domain(row("x"), row("y")))
    with site.machine("two"):
        bundle = started(site)
        bundle.refresh()
        dags = loaded(bundle.path)
        assert set(dags) == {A, B, MAINTENANCE, "ingest__web__x", "ingest__web__y"}
        assert [path.suffix for path in sorted((bundle.path / "errors").iterdir())] == [".json", ".py"]
        site.write(sales=domain(row("b")))
        bundle.refresh()
        assert active(bundle.path) == {B, MAINTENANCE, "ingest__web__x", "ingest__web__y"}
        assert not list((bundle.path / "errors").iterdir())


@pytest.mark.parametrize("wrong", [b'"tags":["' + b"x" * 101 + b'"]', b'"tags":1', b'"unknown":[]', b'"tags":[]]'])
def test_a_row_that_this_release_cannot_make_harms_nobody(wrong: bytes, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A snapshot of another release may hold it."""
    site.write(sales=domain(row("a"), row("b")))
    bundle = started(site, shards=1)
    (shard,) = bundle.path.glob("shard_*.json")
    shard.write_bytes(shard.read_bytes().replace(b'"tags":[]', wrong, 1))
    assert active(bundle.path) == {B, MAINTENANCE}
    assert "Cannot make a DAG of row" in caplog.text and '"name":"a"' in caplog.text
    with pytest.raises((InventoryError, ValueError)):
        loaded(bundle.path, A)
    assert set(loaded(bundle.path, B)) == {B}


def test_a_change_in_the_middle_of_a_parse_is_parsed_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = started(site, shards=1)
    stub = bundle.path / "shard_0000.py"
    loaded(bundle.path)
    site.write(sales=domain(row("a")))
    bundle.refresh()
    os.utime(stub, (1, 1))
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + FIRST_LOOK_SECONDS + 1)
    bundle.refresh()
    assert stub.stat().st_mtime > 1  # nobody has parsed the new content
    os.utime(stub, (1, 1))
    loaded(bundle.path, A)  # a task's parse is not the processor's
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 10 * FIRST_LOOK_SECONDS)
    bundle.refresh()
    assert stub.stat().st_mtime > 1
    loaded(bundle.path)
    os.utime(stub, (1, 1))
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1000)
    bundle.refresh()
    assert stub.stat().st_mtime == 1


def test_a_clock_that_is_set_back_hides_no_edit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow parses a file whose time is later than the end of its last parse; that one lies an hour in the future."""
    bundle = started(site, shards=1)
    stub, note = bundle.path / "shard_0000.py", bundle.base_dir / "seen/shard_0000.py"
    loaded(bundle.path)
    last_parse = time.time() + 3600
    os.utime(note, (last_parse, last_parse))
    site.write(sales=domain(row("a", "tags: [edited]"), row("b")))
    bundle.refresh()
    assert stub.stat().st_mtime < last_parse
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + FIRST_LOOK_SECONDS + 1)
    bundle.refresh()
    assert stub.stat().st_mtime > last_parse  # so it is parsed
    loaded(bundle.path)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1000)
    bundle.refresh()
    assert stub.stat().st_mtime <= time.time()  # and not again and again for an hour


@pytest.mark.parametrize("options", [{"shards": 0}, {"shards": "256"}, {"shards": 5000}, {"name": "a/b"}, {"git_folder": "x"}])
def test_wrong_options_are_named(options: dict[str, object], site: Site) -> None:
    with pytest.raises(InventoryError, match=r"Cannot use .*(shards|name|git_ref)"):
        started(site, **options)


def test_an_unknown_option_is_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    started(site, shard=3)
    assert "unknown options shard are ignored" in caplog.text


def test_all_rows_of_a_bundle_are_read_in_order(site: Site) -> None:
    site.write(sales=domain(row("b"), row("a"), row("idle", "enabled: false")))
    bundle = started(site)
    assert [spec.id for spec in read_bundle(bundle.path).rows] == ["sales.a", "sales.b", "sales.idle"]
    assert active(bundle.path) == {A, B, MAINTENANCE}  # one that is not enabled has no DAG


@pytest.mark.parametrize("looks", range(1, LOOKS_AT_REST))
def test_half_a_file_is_never_read(looks: int, site: Site) -> None:
    """An editor that empties a file, waits for some looks, writes half, waits again: no read in between sees rows removed."""
    file, whole = site.inventory / "sales.yaml", domain(*(row(f"r{n}") for n in range(3)))
    edits = [edit for text in (whole, "", whole[:40], whole) for edit in (text, *[None] * (looks - 1))]

    class Edited(FolderPlace):
        """Somebody works on the file while it is looked at."""

        def _stamps(self) -> dict[str, str]:
            if edits and (text := edits.pop(0)) is not None:
                file.write_text(text)
            return super()._stamps()

    assert Edited(site.inventory).read({})["sales.yaml"].data == whole.encode() and not edits


def test_a_stamp_that_a_second_edit_could_share_is_not_trusted(site: Site) -> None:
    place, file = FolderPlace(site.inventory), site.inventory / "sales.yaml"
    file.write_text(domain(row("b")))
    first = place.read({})
    assert first["sales.yaml"].stamp == "" and place.read(first)["sales.yaml"] is not first["sales.yaml"]
    os.utime(file, (1, 1))
    settled = place.read(first)
    assert settled["sales.yaml"].stamp and place.read(settled)["sales.yaml"] is settled["sales.yaml"]


def test_a_file_that_is_never_at_rest_is_not_read(site: Site) -> None:
    class Edited(FolderPlace):
        """Somebody saves the file after each look at it, `left` times."""

        left = 2

        def _settled(self, known: Any) -> dict[str, str]:
            stamps = super()._settled(known)
            if self.left:
                self.left -= 1
                (self.folder / "sales.yaml").write_text(domain(row(f"r{self.left}")))
            return stamps

    place = Edited(site.inventory)
    assert place.read({})["sales.yaml"].data == domain(row("r0")).encode()
    place.left = 1_000
    with pytest.raises(UnavailableError, match="changes whenever it is read"):
        place.read({})


def test_data_is_there_before_its_code_and_goes_after_it(site: Site) -> None:
    files = {path: Content.of(path.encode()) for path in ("b.py", "b.json", "errors/a.py", "errors/a.json")}
    folder = site.root / "folder"
    assert sync_folder(folder, files) == ["b.json", "errors/a.json", "b.py", "errors/a.py"]
    assert sync_folder(folder, {"b.py": files["b.py"]}) == ["errors/a.py", "b.json", "errors/a.json"]
    assert sync_folder(folder, {"b.py": files["b.py"]}) == []


def test_git(site: Site) -> None:
    """A bare repository, a branch, a folder in it; a link in it is not followed."""
    work, remote = site.root / "work", site.root / "remote.git"

    def git(*words: str, at: Path = work) -> None:
        login = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        subprocess.run(("git", *login, *words), cwd=at, check=True, capture_output=True)

    work.mkdir()
    git("init", "-q", "-b", "main", ".")
    shutil.copytree(site.inventory, work / "data/inventory")
    (work / "data/inventory/link.yaml").symlink_to("/etc/hostname")
    git("add", "-A")
    git("commit", "-qm", "one")
    git("clone", "-q", "--bare", ".", str(remote))
    options = {"inventory": str(remote), "git_ref": "main", "git_folder": "data/inventory"}
    bundle = started(site, **options)
    assert active(bundle.path) == {A, B, MAINTENANCE}
    (told,) = (bundle.path / "errors").glob("*.json")
    assert "inventory/link.yaml:1: cannot be read: a symbolic link" in told.read_text()
    (work / "data/inventory/sales.yaml").write_text(domain(row("a")))
    git("commit", "-qam", "two")
    git("push", "-q", str(remote), "main")
    before = version(bundle)
    bundle.refresh()
    assert active(bundle.path) == {A, MAINTENANCE} and version(bundle) != before
    remote.rename(site.root / "elsewhere.git")
    good = version(bundle)
    bundle.refresh()
    assert version(bundle) == good
    for wrong in ({"git_ref": "--upload-pack=x"}, {"git_folder": "../x"}, {"inventory": "https://me:secret@example.com/x.git"}):
        with pytest.raises(InventoryError) as caught:
            started(site, **{**options, "name": "other", **wrong})
        assert "secret" not in str(caught.value)


def test_s3(site: Site, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inventory and snapshots in an object store; a worker that shares nothing else rebuilds a version."""
    extra = {"endpoint_url": s3_server.endpoint, "region_name": s3_server.region}
    login = {"login": s3_server.access_key, "password": s3_server.secret_key}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps({"conn_type": "aws", "extra": extra, **login}))
    client = s3_server.client()

    def put(name: str, text: str) -> None:
        client.put_object(Bucket=s3_bucket, Key=f"company/inventory/{name}", Body=text.encode())

    options = {
        "inventory": f"s3://{s3_bucket}/company/inventory", "conn_id": "store",
        "snapshots": f"s3://{s3_bucket}/snapshots", "snapshots_conn_id": "store",
    }  # fmt: skip
    with pytest.raises(InventoryError, match="Cannot read inventory"):
        started(site, **options)
    put("sales.yaml", domain(row("a"), row("b")))
    put("old/sales.yaml", domain(row("not_read")))
    put("notes.txt", "not read")
    bundle = started(site, **options)
    old, content = version(bundle), tree(bundle.path)
    assert active(bundle.path) == {A, B, MAINTENANCE}
    put("sales.yaml", domain(row("b")))
    bundle.refresh()
    assert active(bundle.path) == {B, MAINTENANCE} and version(bundle) != old
    with site.machine("two"):
        assert tree(started(site, version=old, **options).path) == content
        assert tree(started(site, **options).path) == tree(bundle.path)
    client.delete_object(Bucket=s3_bucket, Key="company/inventory/sales.yaml")
    client.delete_object(Bucket=s3_bucket, Key="company/inventory/old/sales.yaml")
    bundle.refresh()
    assert active(bundle.path) == {B, MAINTENANCE}
