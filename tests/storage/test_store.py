"""One contract for every store: local disk and a real S3 server."""

from __future__ import annotations

import dataclasses
import os
import threading
from pathlib import Path

import pytest

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import ConflictError, InventoryError, UnavailableError
from airflow_dataops.storage import Storage, open_filesystem, open_storage
from tests.servers.s3 import S3Server


def connection_to(server: S3Server, **extra: object) -> Connection:
    return Connection(
        "lake_s3", "aws", login=server.access_key, password=server.secret_key,
        extra={"endpoint_url": server.endpoint, "region_name": server.region, **extra},
    )  # fmt: skip


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return open_storage((tmp_path / "a root").as_uri())
    server: S3Server = request.getfixturevalue("s3_server")
    bucket: str = request.getfixturevalue("s3_bucket")
    return open_storage(f"s3://{bucket}/a root", connection_to(server))


def put(store: Storage, path: str, data: bytes) -> None:
    whole = store.address(path)
    store.filesystem.create_dir(whole.rpartition("/")[0], recursive=True)
    with store.filesystem.open_output_stream(whole) as out:
        out.write(data)


def read(store: Storage, path: str) -> bytes:
    with store.filesystem.open_input_stream(store.address(path)) as stream:
        return bytes(stream.read())


def test_lists_everything_below_in_order_of_path(store: Storage) -> None:
    assert list(store.walk()) == []
    for path in ("b.csv", "a/2.csv", "a/1.csv", "a-b/x", "a é/{{ x }}%20?.csv"):
        put(store, path, path.encode())
    assert [f.path for f in store.walk()] == sorted(["b.csv", "a/2.csv", "a/1.csv", "a-b/x", "a é/{{ x }}%20?.csv"])
    assert [(f.path, f.size) for f in store.walk("a")] == [("a/1.csv", 7), ("a/2.csv", 7)]
    assert list(store.walk("nowhere")) == []
    assert all(store.stat(f.path) == f for f in store.walk())
    assert store.stat("a") is None
    assert store.stat("nowhere/x") is None


def test_reads_the_listed_file_or_says_that_it_is_another(store: Storage) -> None:
    put(store, "orders.csv", b"one")
    (listed,) = store.walk()
    with store.open_stream(listed) as stream:
        assert stream.read() == b"one"
    with store.open_random(listed) as stream:
        stream.seek(1)
        assert stream.read() == b"ne"
    store.filesystem.delete_file(store.address("orders.csv"))
    put(store, "orders.csv", b"two")
    for open_it in (store.open_stream, store.open_random):
        with pytest.raises(ConflictError, match=r"orders\.csv"):
            open_it(listed)


def test_a_vanished_file_is_an_error_that_names_it(store: Storage) -> None:
    put(store, "orders.csv", b"one")
    (listed,) = store.walk()
    store.filesystem.delete_file(store.address("orders.csv"))
    for open_it in (store.open_stream, store.open_random):
        with pytest.raises((ConflictError, InventoryError), match=r"orders\.csv"):
            open_it(listed)


@pytest.mark.parametrize("size", [0, 5, 9 * 1024 * 1024])
def test_put_if_absent_never_replaces(store: Storage, size: int) -> None:
    first, second = os.urandom(size), b"another"
    put(store, "staged/a", first)
    put(store, "staged/b", second)
    assert store.put_if_absent("staged/a", "live/dt=1/x.parquet") is True
    assert store.put_if_absent("staged/b", "live/dt=1/x.parquet") is False
    assert store.put_if_absent("staged/a", "live/dt=1/x.parquet") is False
    assert read(store, "live/dt=1/x.parquet") == first
    store.filesystem.delete_dir(store.address("staged"))
    assert read(store, "live/dt=1/x.parquet") == first


def test_of_many_who_put_at_once_exactly_one_wins(store: Storage) -> None:
    for n in range(8):
        put(store, f"staged/{n}", str(n).encode())
    won: list[int] = []
    start = threading.Barrier(8)

    def race(n: int) -> None:
        start.wait()
        if store.put_if_absent(f"staged/{n}", "live/x"):
            won.append(n)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read(store, "live/x") == str(won[0]).encode()


def test_deletes_a_directory_and_nothing_beside_it(store: Storage) -> None:
    for path in ("t/a/1", "t/a/b/2", "t/ab/3", "t/a.txt"):
        put(store, path, b"x")
    assert store.delete_directory("t/a") == 2
    assert store.delete_directory("t/a") == 0
    assert store.list() == [("t/a.txt", 1), ("t/ab/3", 1)]
    for root in ("", "/", "."):
        with pytest.raises(InventoryError):
            store.delete_directory(root)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a\0b", ".."])
def test_no_path_leaves_the_root(store: Storage, path: str) -> None:
    with pytest.raises(InventoryError, match="Cannot use path"):
        store.address(path)
    with pytest.raises(InventoryError, match="Cannot use path"):
        list(store.walk(path))


def test_links_that_leave_the_root_are_refused_and_links_inside_are_read(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "secret.txt"
    (root / "sub").mkdir(parents=True)
    outside.write_text("secret")
    (root / "sub/real.csv").write_text("a\n1\n")
    (root / "out.csv").symlink_to(outside)
    (root / "in.csv").symlink_to(root / "sub/real.csv")
    (root / "loop").symlink_to(root)
    (root / "dangling").symlink_to(root / "nothing")
    store = open_storage(str(root))
    listed = {f.path: f for f in store.walk()}
    assert sorted(listed) == ["dangling", "in.csv", "loop", "out.csv", "sub/real.csv"]
    with store.open_stream(listed["in.csv"]) as stream:
        assert stream.read() == b"a\n1\n"
    for name, problem in (("out.csv", "leads outside"), ("loop", "ordinary file"), ("dangling", "dangling")):
        with pytest.raises(InventoryError, match=problem):
            store.open_stream(listed[name])


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "orders.csv")
    store = open_storage(str(tmp_path))
    (listed,) = store.walk()
    with pytest.raises(InventoryError, match="ordinary file"):
        store.open_stream(listed)


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("data/orders", "relative path"),
        ("file:orders", "relative path"),
        ("file://server/x", "host 'server'"),
        ("/data/../etc", "climbs"),
        ("s3://", "no bucket"),
        ("s3://b/../c", "empty, `.` or `..`"),
        ("gs://bucket/x", "scheme 'gs' -> one of file, s3"),
    ],
)
def test_an_address_that_cannot_be_meant_is_explained(uri: str, problem: str) -> None:
    with pytest.raises(InventoryError, match=problem):
        open_storage(uri)


def test_credentials_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(InventoryError, match="holds credentials") as caught:
        open_storage("s3://key:verysecret@bucket/x")
    assert "verysecret" not in str(caught.value)


def test_a_plain_path_is_taken_as_it_stands_and_a_uri_is_decoded(tmp_path: Path) -> None:
    assert open_storage("/data/a%20b").root == "/data/a%20b"
    assert open_storage("file:///data/a%20b").root == "/data/a b"
    folder = tmp_path / "a b%c"
    assert open_storage(open_storage(str(folder)).uri("x y.csv")).root == str(folder / "x y.csv")
    filesystem, root = open_filesystem(str(tmp_path))
    assert filesystem.get_file_info(root).is_file is False


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"extra": {"role_arn": "arn:x"}}, "extra role_arn"),
        ({"extra": {"verify": False}}, "verify false"),
        ({"extra": {"endpoint_url": "localhost:9000"}}, "endpoint_url"),
        ({"password": None}, "one of login and password"),
        ({"conn_type": "postgres"}, "type 'postgres' -> aws"),
    ],
)
def test_a_connection_that_would_not_do_what_it_says_is_refused(change: dict[str, object], problem: str) -> None:
    good = Connection("lake_s3", "aws", login="AKIDEXAMPLE", password="verysecret")
    with pytest.raises(InventoryError, match=problem) as caught:
        open_storage("s3://bucket/x", dataclasses.replace(good, **change))  # type: ignore[arg-type]
    assert "verysecret" not in str(caught.value)
    assert "verysecret" not in repr(vars(open_storage("s3://bucket/x", good)))


def test_wrong_keys_and_absent_buckets_are_for_the_inventory_and_a_dead_server_for_a_retry(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    wrong = dataclasses.replace(connection_to(s3_server), password="x" * 40)
    with pytest.raises(InventoryError, match="store says no") as caught:
        list(open_storage(f"s3://{bucket}", wrong).walk())
    assert "x" * 40 not in str(caught.value)
    with pytest.raises(InventoryError, match="no-such-bucket"):
        list(open_storage("s3://no-such-bucket-here", connection_to(s3_server)).walk())
    dead = connection_to(s3_server, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(UnavailableError):
        list(open_storage(f"s3://{bucket}", dead).walk())
