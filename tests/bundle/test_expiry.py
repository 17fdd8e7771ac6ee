"""Old snapshots: what is deleted, what never is, and that whatever stays can be rebuilt byte for byte."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError, StopError
from dag_factory.bundle.expiry import apply_expiry, kept_versions, plan_expiry
from dag_factory.bundle.files import Content, Files
from dag_factory.bundle.snapshots import Snapshots
from dag_factory.bundle.stores import FolderStore, Store, open_store
from tests.servers.s3 import S3Server

DAY = 86_400.0


class OldStore(FolderStore):
    """A folder in which nothing is younger than its files' times say, by a clock that can be turned."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)

    def wait(self, days: float) -> None:
        for file in self.root.rglob("*"):
            if file.is_file():
                then = file.stat().st_mtime - days * DAY
                os.utime(file, (then, then))


def files(*names: str) -> Files:
    return {f"{name}.json": Content.of(name.encode() * 10) for name in names}


def publish(snapshots: Snapshots, *names: str) -> str:
    return Snapshots(snapshots.store, snapshots.bundle).publish(files(*names), "factory", {})


def expire(snapshots: Snapshots, *in_use: str, keep_days: float = 30) -> int:
    return apply_expiry(plan_expiry(snapshots, {*in_use}, keep_days * DAY), snapshots.store, keep_days * DAY)


@pytest.fixture
def store(tmp_path: Path) -> OldStore:
    return OldStore(tmp_path / "snapshots")


def test_what_nobody_can_ask_for_goes_and_the_rest_is_rebuilt(store: OldStore) -> None:
    snapshots = Snapshots(store, "inv")
    first = publish(snapshots, "a", "b")
    store.wait(1)
    used = publish(snapshots, "a", "c")
    store.wait(40)
    newest = publish(snapshots, "d")
    assert expire(snapshots) == 2  # `first` and its own content; `used` was the newest until now
    store.wait(29)
    assert expire(snapshots) == 0
    with pytest.raises(InventoryError, match="not in the snapshot store"):
        snapshots.files(first)
    store.wait(300)
    assert expire(snapshots, used) == 0
    assert snapshots.files(used) == files("a", "c") and snapshots.files(newest) == files("d")
    assert expire(snapshots) == 3
    assert snapshots.files(newest) == files("d") and len(list((store.root / "blobs").rglob("*/*"))) == 1


def test_a_version_that_is_the_newest_again_is_as_new(store: OldStore) -> None:
    snapshots = Snapshots(store, "inv")
    first = publish(snapshots, "a")
    store.wait(20)
    publish(snapshots, "b")
    store.wait(20)
    assert publish(snapshots, "a") == first
    publish(snapshots, "c")
    store.wait(29)
    expire(snapshots)
    assert snapshots.files(first) == files("a")


def test_bundles_that_share_a_store_keep_each_others_newest(store: OldStore) -> None:
    one, other = Snapshots(store, "one"), Snapshots(store, "other")
    version = publish(other, "x")
    publish(one, "y")
    store.wait(1000)
    assert expire(one) == 0 and other.files(version) == files("x")


def test_what_is_reused_at_this_moment_stays(store: OldStore) -> None:
    """Planned while nobody needed it, published again before it is deleted."""
    snapshots = Snapshots(store, "inv")
    publish(snapshots, "a", "b")
    publish(snapshots, "c")
    store.wait(100)
    plan = plan_expiry(snapshots, set(), 30 * DAY)
    again = publish(snapshots, "a", "e")
    apply_expiry(plan, store, 30 * DAY)
    assert snapshots.files(again) == files("a", "e")


def test_nothing_goes_when_what_stays_cannot_be_read(store: OldStore) -> None:
    snapshots = Snapshots(store, "inv")
    publish(snapshots, "a")
    version = publish(snapshots, "b")
    store.wait(100)
    before = sorted(store.root.rglob("*"))
    (store.root / "versions" / version).write_bytes(b"[1]")
    with pytest.raises(StopError, match="cannot be read"):
        expire(snapshots)
    assert sorted(store.root.rglob("*")) == before


def test_killed_half_way_the_next_look_does_the_rest(store: OldStore) -> None:
    snapshots = Snapshots(store, "inv")
    publish(snapshots, "a", "b")
    publish(snapshots, "c")
    store.wait(100)
    names = plan_expiry(snapshots, set(), 30 * DAY).names
    assert names[0].startswith("versions/") and all(name.startswith("blobs/") for name in names[1:])
    store.delete(names[0])  # and here it was killed
    assert expire(snapshots) == 2 and snapshots.latest() is not None


def test_half_written_files_go_after_a_day(store: OldStore) -> None:
    snapshots = Snapshots(store, "inv")
    publish(snapshots, "a")
    (store.root / "versions/.half.0").write_bytes(b"x")
    expire(snapshots)
    assert (store.root / "versions/.half.0").exists()
    store.wait(2)
    expire(snapshots)
    assert not (store.root / "versions/.half.0").exists()


_VERSIONS = st.sampled_from("abcdef")


@given(
    ages=st.dictionaries(_VERSIONS, st.floats(0, 100)), newest=st.sets(_VERSIONS), in_use=st.sets(_VERSIONS), keep=st.floats(2, 90)
)
def test_the_rule(ages: dict[str, float], newest: set[str], in_use: set[str], keep: float) -> None:
    kept = kept_versions(ages, newest, in_use, keep)
    assert kept <= ages.keys()
    assert all((version in kept) == (version in newest | in_use or age < keep) for version, age in ages.items())


@settings(max_examples=20)
@given(
    story=st.lists(
        st.tuples(st.sets(st.sampled_from("abcd"), min_size=1), st.integers(0, 50), st.booleans(), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_is_published_and_deleted_what_may_be_asked_for_is_there(
    story: list[tuple[set[str], int, bool, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Law: the newest, those in use, and each that was replaced within the time can always be rebuilt."""
    store = OldStore(tmp_path_factory.mktemp("store"))
    snapshots, now = Snapshots(store, "inv"), 0
    in_use: dict[str, Files] = {}
    replaced: dict[str, tuple[int, Files]] = {}
    newest: tuple[str, Files] | None = None
    for names, days, used, looked in story:
        version = publish(snapshots, *sorted(names))
        if newest is not None and newest[0] != version:
            replaced[newest[0]] = (now, newest[1])
        newest = (version, files(*sorted(names)))
        if used:
            in_use[version] = newest[1]
        store.wait(days)
        now += days
        if looked:
            expire(snapshots, *in_use)
            in_time = {v: content for v, (then, content) in replaced.items() if now - then < 30}
            for name, content in (dict([newest]) | in_use | in_time).items():
                assert snapshots.files(name) == content


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(str(tmp_path / "snapshots"))
        return
    server: S3Server = request.getfixturevalue("s3_server")
    extra = {"endpoint_url": server.endpoint, "region_name": server.region}
    login = Connection("store", "aws", login=server.access_key, password=server.secret_key, extra=extra)
    yield open_store(f"s3://{server.new_bucket()}/company/snapshots", login)


def test_both_stores_tell_ages_and_delete(any_store: Store) -> None:
    look: Callable[[str], float | None] = any_store.age_seconds
    assert (look("versions/x"), any_store.ages("versions")) == (None, {})
    any_store.put("versions/x", b"1")
    any_store.put("versions/y", b"2")
    any_store.put("blobs/ab/abc", b"3")
    age = look("versions/x")
    assert age is not None and -60 < age < 600
    assert set(any_store.ages("versions")) == {"versions/x", "versions/y"} and set(any_store.ages("blobs")) == {"blobs/ab/abc"}
    any_store.delete("versions/x")
    any_store.delete("versions/x")
    any_store.delete_left(0)
    assert set(any_store.ages("versions")) == {"versions/y"} and any_store.get("versions/y") == b"2"
    snapshots = Snapshots(any_store, "inv")
    old = publish(snapshots, "a")
    publish(snapshots, "b")
    time.sleep(1.1)  # S3 tells whole seconds
    assert apply_expiry(plan_expiry(snapshots, set(), 0.05), any_store, 0.05) >= 2
    with pytest.raises(InventoryError):
        snapshots.files(old)
