"""The task `build`, killed with -9 between any two of its effects: its retry ends with one row and the state built."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_dataops.core.schema import TableSchema
from airflow_dataops.ledger import open_ledger
from airflow_dataops.ledger.requests import Request, SqlRequests
from airflow_dataops.sources.base import SourceTable
from dag_factory.bundle.git_place import GitPlace
from dag_factory.onboard.desk import InventoryDesk
from dag_factory.onboard.render import render_onboard
from dag_factory.onboard.writers import LOCK, _S3Edit
from tests.onboard.test_writers import Folder, Git, Store, names

REQUEST = "dataops_onboard/one"
CONTEXT: Any = {"dag_run": SimpleNamespace(dag_id="dataops_onboard", run_id="one"), "ti": SimpleNamespace(bundle_instance=None)}


class Killer:
    """Before effect number `at` (from 1) of this process, kill -9. Effects are what others can see: the file, the branch, the
    object, the ledger."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def watch(self, owner: Any, name: str, when: Callable[..., bool] = lambda *_, **__: True) -> None:
        call = getattr(owner, name)

        def counted(*words: Any, **more: Any) -> Any:
            if when(*words, **more):
                self.seen += 1
                if self.seen == self.at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*words, **more)

        setattr(owner, name, counted)

    def watch_all(self) -> None:
        for name in ("link", "replace", "unlink"):
            self.watch(os, name, lambda path, *_, **__: ".yaml." in os.fspath(path))  # the writer's own, not the checker's
        self.watch(GitPlace, "git", lambda _, *words, **__: words[0] == "push")
        self.watch(_S3Edit, "_put", lambda _, name, *__: name.endswith(".yaml"))
        self.watch(SqlRequests, "built")


def build(desk: Callable[[], InventoryDesk]) -> None:
    render_onboard(lambda _: desk()).get_task("build").run_step(CONTEXT)


def killed_before(at: int, desk: Callable[[], InventoryDesk]) -> bool:
    """Whether a process that builds came to its effect `at`, and was killed there; False: it ended before."""
    child = os.fork()
    if child == 0:
        try:
            Killer(at).watch_all()
            build(desk)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize(
    ("kind", "domain", "effects"),
    [
        pytest.param(Folder, "sales", 3, id="a file in a folder"),  # replace, unlink, the ledger
        pytest.param(Folder, "crm", 3, id="a new file in a folder"),  # link, unlink, the ledger
        pytest.param(Store, "sales", 2, id="an object"),
        pytest.param(Git, "sales", 2, id="a branch"),
    ],
)
def test_killed_before_each_effect(
    kind: Any, domain: str, effects: int, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = request.getfixturevalue("s3_server") if kind is Store else None
    reached = 0
    for at in range(1, effects + 2):
        root = tmp_path / str(at)
        root.mkdir()
        monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{root}/ledger.db")
        kept = kind(root, server, monkeypatch)
        approved(desk_of(kept), domain)
        if killed_before(at, lambda kept=kept: desk_of(kept)):  # type: ignore[misc]
            reached = at
            assert asked().state == "approved", "the ledger is the last to know"
        build(lambda kept=kept: desk_of(kept))  # type: ignore[misc] - the retry
        wanted = ["first", "shop"] if domain == "sales" else ["shop"]
        assert names(kept.read(f"{domain}.yaml")) == wanted
        assert asked().state == "built"
        if kind is Folder:
            files = {"sales.yaml", f"{domain}.yaml", LOCK}
            assert set(os.listdir(kept.folder)) == files, "what the killed one left is gone"
    assert reached == effects


def desk_of(kept: Any) -> InventoryDesk:
    return InventoryDesk(lambda _: kept.place())


def approved(desk: InventoryDesk, domain: str) -> None:
    typed = {"domain": domain, "name": "shop", "owner": "ann", "conn_id": "shop_db", "review": False}
    proposal = desk.propose(typed, [SourceTable("orders", TableSchema())])
    ledger = open_ledger(os.environ["AIRFLOW__DATAOPS__LEDGER"])
    ledger.requests.open(REQUEST, f"{domain}.shop", "ann")
    ledger.requests.propose(REQUEST, proposal)
    ledger.requests.show(REQUEST)
    ledger.requests.decide(REQUEST, approved=True, by="bob")
    ledger.close()


def asked() -> Request:
    ledger = open_ledger(os.environ["AIRFLOW__DATAOPS__LEDGER"])
    try:
        found = ledger.requests.get(REQUEST)
    finally:
        ledger.close()
    assert found is not None
    return found
