"""Names in a row become opened edges, or an error that says which name is wrong."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.open_edges import open_edges
from airflow_dataops.settings import Settings, load_settings
from airflow_dataops.steps.discover import discover


@pytest.fixture
def shop(tmp_path: Path) -> Settings:
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    return load_settings(environ={"AIRFLOW_HOME": str(tmp_path), "HOME": os.environ["HOME"]})


def _spec(**fields: Any) -> PipelineSpec:
    row: dict[str, Any] = {"domain": "shop", "name": "db", "kind": "sql", "conn_id": "shop_db", "owner": "o"}
    return PipelineSpec.model_validate({**row, **fields})


def _resolver(settings: Settings, **more: Connection) -> Any:
    known = {"shop_db": Connection("shop_db", "sqlite", host=f"{settings.home}/shop.db"), **more}
    return known.__getitem__


def test_defaults_below_the_home(shop: Settings) -> None:
    with open_edges(_spec(), shop, writer="w", resolve=_resolver(shop)) as edges:
        assert [t.name for t in discover(_spec(), edges).tables] == ["orders"]
        assert edges.lake.uri("x").startswith(f"file://{shop.home}/dataops/lake")
        assert edges.dead_letters.uri("x").startswith(f"file://{shop.home}/dataops/dead_letters")
        assert (edges.writer, edges.privacy_key, edges.grace_seconds) == ("w", None, 86400)
    assert Path(shop.home, "dataops/ledger.db").is_file()


def test_named_lakes_and_catalogs(shop: Settings, tmp_path: Path) -> None:
    platform = PlatformSpec.model_validate(
        {"lakes": {"cold": {"uri": f"file://{tmp_path}/cold"}}, "catalogs": {"second": {"kind": "embedded"}}}
    )
    spec = _spec(target={"lake": "cold", "catalog": "second"})
    with open_edges(spec, shop, writer="w", resolve=_resolver(shop), platform=platform) as edges:
        assert edges.lake.uri("x").startswith(f"file://{tmp_path}/cold")
        assert edges.catalog.kind == "embedded"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"lake": "atlantis"}, r"lake 'atlantis': not declared -> one of cold, default"),
        ({"catalog": "hidden"}, r"catalog 'hidden': not declared -> one of default"),
    ],
)
def test_undeclared_names(shop: Settings, target: dict[str, str], said: str) -> None:
    platform = PlatformSpec.model_validate({"lakes": {"cold": {"uri": "file:///cold"}}})
    with (
        pytest.raises(InventoryError, match=said),
        open_edges(_spec(target=target), shop, writer="w", resolve=_resolver(shop), platform=platform),
    ):
        pass


def test_one_lake_for_all_tables_of_a_row(shop: Settings) -> None:
    spec = _spec(tables=["a", {"match": "b", "target": {"lake": "cold"}}])
    with pytest.raises(InventoryError, match="more than one lake"), open_edges(spec, shop, writer="w"):
        pass


@pytest.mark.parametrize("kind", ["hive", "filing cabinet"])
def test_catalogs_that_are_not_there(shop: Settings, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings({"catalog": kind}, {"AIRFLOW_HOME": shop.home})
    with pytest.raises(InventoryError, match=f"{kind}"), open_edges(_spec(), settings, writer="w", resolve=_resolver(shop)):
        pass


def test_the_privacy_key_is_the_password(shop: Settings) -> None:
    spec = _spec(privacy={"key_conn_id": "key"})
    resolve = _resolver(shop, key=Connection("key", "dataops_key", password="sixteen bytes ok"))
    with open_edges(spec, shop, writer="w", resolve=resolve) as edges:
        assert edges.privacy_key == b"sixteen bytes ok"
    for password in (None, "geheim", "x" * 65):
        resolve = _resolver(shop, key=Connection("key", "dataops_key", password=password))
        with (
            pytest.raises(InventoryError, match="as privacy key") as caught,
            open_edges(spec, shop, writer="w", resolve=resolve),
        ):
            pass
        assert "geheim" not in str(caught.value)


def test_without_the_source(shop: Settings) -> None:
    """Verifying works while the source is down, and using it is refused."""

    def resolve(conn_id: str) -> Connection:
        raise InventoryError(f"{conn_id} was asked for")

    with open_edges(_spec(), shop, writer="w", resolve=resolve, with_source=False) as edges:
        assert edges.ledger.batches.history() == ()
        with pytest.raises(RuntimeError, match="left closed"):
            edges.source.discover()
    with open_edges(None, shop, writer="w", resolve=resolve) as edges:
        assert edges.catalog.databases() == ()


def test_everything_is_closed_when_the_source_cannot_be_opened(shop: Settings) -> None:
    for _ in range(40):  # would run out of handles, or leave the database locked
        with pytest.raises(InventoryError), open_edges(_spec(kind="nonsense"), shop, writer="w", resolve=_resolver(shop)):
            pass
    with sqlite3.connect(f"{shop.home}/dataops/ledger.db", timeout=1) as db:
        db.execute("BEGIN EXCLUSIVE")
