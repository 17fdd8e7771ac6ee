"""A row gets into the inventory wherever it is kept, and no writer loses another's edit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.errors import InventoryError
from dag_factory.bundle.places import FolderPlace, Place, open_place
from dag_factory.inventory.yaml_nodes import plain, read_yaml
from dag_factory.onboard.domain_file import with_row
from dag_factory.onboard.writers import LOCK, edit_file
from tests.servers.s3 import S3Server

FILE = "inventory/sales.yaml"
START = "# ours\nsources:\n  - name: first   # stays\n"


def adding(name: str, meanwhile: Callable[[], object] = lambda: None) -> Callable[[bytes | None], bytes]:
    def change(data: bytes | None) -> bytes:
        meanwhile()
        return with_row(data, FILE, {"name": name})

    return change


def names(data: bytes) -> list[str]:
    return [row["name"] for row in plain(read_yaml(data.decode(), "x"))["sources"]]


class Folder:
    """Where the inventory is in this test, and how somebody else edits it."""

    def __init__(self, root: Path, *_: Any) -> None:
        self.folder = root / "inventory"
        self.folder.mkdir()
        self.write("sales.yaml", START.encode())

    def place(self) -> Place:
        return FolderPlace(self.folder)

    def write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


class Store:
    def __init__(self, root: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        extra = {"endpoint_url": server.endpoint, "region_name": server.region}
        login = {"login": server.access_key, "password": server.secret_key}
        monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps({"conn_type": "aws", "extra": extra, **login}))
        self.bucket, self.client = server.new_bucket(), server.client()
        self.write("sales.yaml", START.encode())

    def place(self) -> Place:
        return open_place(f"s3://{self.bucket}/inventory", conn_id="store", ref=None, folder="", scratch=Path())

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"inventory/{name}", Body=data)

    def read(self, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=f"inventory/{name}")["Body"].read()
        return body


class Git:
    def __init__(self, root: Path, *_: Any) -> None:
        self.root, self.remote, self.work, self.count = root, root / "remote.git", root / "work", 0
        self.work.mkdir()
        self.git("init", "-q", "-b", "main", ".")
        (self.work / "data/inventory").mkdir(parents=True)
        (self.work / "data/inventory/sales.yaml").write_text(START)
        (self.work / "code.py").write_text("pass\n")
        self.git("add", "-A")
        self.git("commit", "-qm", "one")
        self.git("tag", "v1")
        self.git("clone", "-q", "--bare", ".", str(self.remote))

    def git(self, *words: str) -> str:
        login = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        return subprocess.run(("git", *login, *words), cwd=self.work, check=True, capture_output=True, text=True).stdout

    def place(self, ref: str = "main") -> Place:
        self.count += 1
        scratch = self.root / f"scratch{self.count}"
        return open_place(str(self.remote), conn_id=None, ref=ref, folder="data/inventory", scratch=scratch)

    def write(self, name: str, data: bytes) -> None:
        self.git("pull", "-q", "--rebase", str(self.remote), "main")
        (self.work / "data/inventory" / name).write_bytes(data)
        self.git("add", "-A")
        self.git("commit", "-qm", "by hand")
        self.git("push", "-q", str(self.remote), "HEAD:main")

    def read(self, name: str) -> bytes:
        return self.git("--git-dir", str(self.remote), "show", f"main:data/inventory/{name}").encode()


@pytest.fixture(params=[Folder, Store, Git], ids=["folder", "s3", "git"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    server = request.getfixturevalue("s3_server") if request.param is Store else None
    return request.param(tmp_path, server, monkeypatch)


def test_the_row_is_added_and_a_new_file_made(kept: Any) -> None:
    edit_file(kept.place(), "sales.yaml", adding("orders"), "Add source sales.orders")
    assert kept.read("sales.yaml").startswith(START.encode()) and names(kept.read("sales.yaml")) == ["first", "orders"]
    edit_file(kept.place(), "crm.yaml", adding("people"), "Add source crm.people")
    assert names(kept.read("crm.yaml")) == ["people"]
    assert set(kept.place().read({})) == {"sales.yaml", "crm.yaml"}


def test_an_edit_in_the_middle_is_kept(kept: Any) -> None:
    edits = iter([START.replace("ours", "edited by hand").encode()])
    calls = []

    def somebody() -> None:
        calls.append(1)
        for data in edits:
            kept.write("sales.yaml", data)
            break

    edit_file(kept.place(), "sales.yaml", adding("orders", somebody), "x")
    assert len(calls) == 2
    assert kept.read("sales.yaml").startswith(b"# edited by hand") and names(kept.read("sales.yaml")) == ["first", "orders"]


def test_a_file_that_somebody_made_in_the_middle_is_kept(kept: Any) -> None:
    edits = iter([b"sources:\n  - name: theirs\n"])

    def somebody() -> None:
        for data in edits:
            kept.write("crm.yaml", data)
            break

    edit_file(kept.place(), "crm.yaml", adding("people", somebody), "x")
    assert names(kept.read("crm.yaml")) == ["theirs", "people"]


def test_writers_at_once_lose_nothing(kept: Any) -> None:
    places, failed = [kept.place() for _ in range(4)], []

    def write(n: int) -> None:
        try:
            edit_file(places[n], "sales.yaml", adding(f"row{n}"), "x")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at below
            failed.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(len(places))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(names(kept.read("sales.yaml"))) == ["first", *(f"row{n}" for n in range(4))]


def test_what_the_change_refuses_is_not_written(kept: Any) -> None:
    with pytest.raises(InventoryError, match="it stands in line 3"):
        edit_file(kept.place(), "sales.yaml", adding("first"), "x")
    assert kept.read("sales.yaml") == START.encode()


def test_a_folder_keeps_the_mode_and_leaves_nothing_behind(tmp_path: Path) -> None:
    kept = Folder(tmp_path)
    (kept.folder / "sales.yaml").chmod(0o640)
    edit_file(kept.place(), "sales.yaml", adding("orders"), "x")
    assert (kept.folder / "sales.yaml").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(kept.folder)) == [LOCK, "sales.yaml"]


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    kept = Folder(tmp_path)
    outside = tmp_path / "outside.yaml"
    outside.write_text(START)
    (kept.folder / "crm.yaml").symlink_to(outside)
    with pytest.raises(InventoryError, match="a link -> a plain file"):
        edit_file(kept.place(), "crm.yaml", adding("people"), "x")
    assert outside.read_text() == START


def test_a_commit_says_what_for_and_touches_one_file(tmp_path: Path) -> None:
    kept = Git(tmp_path)
    edit_file(kept.place(), "sales.yaml", adding("orders"), "Add source sales.orders\n\nRequested by ann\n")
    shown = kept.git("--git-dir", str(kept.remote), "show", "--stat", "--format=%an|%s|%b", "main")
    assert shown.startswith("dataops_onboard|Add source sales.orders|Requested by ann") and "1 file changed" in shown
    assert kept.git("--git-dir", str(kept.remote), "show", "main:code.py") == "pass\n"


def test_git_writes_to_branches_only_and_says_when_the_server_refuses(tmp_path: Path) -> None:
    kept = Git(tmp_path)
    with pytest.raises(InventoryError, match="no branch of this name -> a branch"):
        edit_file(kept.place("v1"), "sales.yaml", adding("orders"), "x")
    hook = kept.remote / "hooks/pre-receive"
    shutil.rmtree(kept.remote / "hooks", ignore_errors=True)
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(InventoryError, match="the server refuses it"):
        edit_file(kept.place(), "sales.yaml", adding("orders"), "x")


def test_a_store_without_conditional_writes_is_refused(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Store(tmp_path, s3_server, monkeypatch)
    place: Any = kept.place()
    put = place.storage.client.put_object
    # A server that does not know the header: the request as such a server understands it.
    place.storage.client.put_object = lambda **words: put(**{k: v for k, v in words.items() if k not in ("IfMatch", "IfNoneMatch")})
    with pytest.raises(InventoryError, match="no conditional writes"):
        edit_file(place, "sales.yaml", adding("orders"), "x")
    assert kept.read("sales.yaml") == START.encode()
