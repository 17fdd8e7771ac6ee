"""The way to a metastore: what a connection may say, TLS, and a metastore that hangs, dies and comes back."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest

from airflow_dataops.catalog import open_catalog
from airflow_dataops.catalog.base import CatalogTable
from airflow_dataops.catalog.hive_calls import MetastoreCalls, translated
from airflow_dataops.catalog.hive_connection import MetastoreAddress
from airflow_dataops.catalog.hive_wire import WIRE
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import ConflictError, DataOpsError, InventoryError, UnavailableError
from airflow_dataops.core.schema import Column
from tests.catalog.conftest import hive_catalog
from tests.servers.hive import HiveServer
from tests.servers.process import free_port


@pytest.fixture(scope="module")
def server() -> Iterator[HiveServer]:
    """A metastore of this file's own, because it is hurt; it speaks TLS only."""
    with HiveServer.start(tls=True) as running:
        yield running


def said(**given: Any) -> Connection:
    extra = MappingProxyType(given.pop("extra", {}))
    return Connection("hms", "hive_metastore", **{"host": "127.0.0.1", **given, "extra": extra})


def test_hosts_and_ports() -> None:
    address = MetastoreAddress.of_connection(said(host=" a.example.com, thrift://b.example.com:9084 ,[::1]", port=9085))
    assert address.hosts == (("a.example.com", 9085), ("b.example.com", 9084), ("::1", 9085))
    assert MetastoreAddress.of_connection(said(host="a")).hosts == (("a", 9083),)
    assert str(address) == "a.example.com:9085,b.example.com:9084,::1:9085"


def test_extras_are_typed_and_have_defaults() -> None:
    options = MetastoreAddress.of_connection(said(extra={"use_ssl": "true", "retries": "0", "timeout_seconds": 7})).options
    assert (options["use_ssl"], options["retries"], options["timeout_seconds"], options["s3_scheme"]) == (True, 0, 7, "s3a")


WRONG: dict[str, dict[str, Any]] = {
    "no host -> the metastore's host": {"host": None},
    "a host that is none": {"host": "http://x/y"},
    "a host that is none ": {"host": "x:99999"},
    "extra 'tls' -> one of auth_mechanism, ": {"extra": {"tls": True}},
    "extra 'use_ssl' of another kind -> true or false": {"extra": {"use_ssl": "yes please"}},
    "extra 'retries' of another kind -> a whole number": {"extra": {"retries": "many"}},
    "extra 'timeout_seconds' of another kind": {"extra": {"timeout_seconds": 0}},
    "extra 'ssl_ca' of another kind -> text": {"extra": {"ssl_ca": ["x"]}},
    "another `auth_mechanism` -> one of NOSASL, PLAIN, GSSAPI": {"extra": {"auth_mechanism": "KERBEROS"}},
    "another `s3_scheme` -> one of s3a, s3, s3n": {"extra": {"s3_scheme": "gs"}},
    "without login and password": {"extra": {"auth_mechanism": "PLAIN"}, "login": None},
    "certificates without `use_ssl`": {"extra": {"ssl_ca": "/ca.pem"}},
}


@pytest.mark.parametrize("found", WRONG)
def test_a_wrong_connection_is_told_without_its_secrets(found: str) -> None:
    connection = said(**({"password": "s3cr3t"} | WRONG[found]))
    with pytest.raises(InventoryError, match="Cannot use connection 'hms' for a metastore") as raised:
        open_catalog("hive", connection=connection)
    assert found.strip() in str(raised.value) and "s3cr3t" not in str(raised.value)


def test_no_secret_is_shown() -> None:
    catalog = open_catalog("hive", connection=said(login="me", password="s3cr3t", extra={"ssl_key": "/k.pem", "use_ssl": True}))
    address = MetastoreAddress.of_connection(said(login="me", password="s3cr3t"))
    assert "s3cr3t" not in f"{catalog!r} {address!r} {address}" and "k.pem" not in f"{catalog!r}"


def test_an_unreachable_metastore_is_unavailable_and_each_host_named() -> None:
    first, second = free_port(), free_port()
    catalog = open_catalog("hive", connection=said(host=f"127.0.0.1:{first},127.0.0.1:{second}", extra={"retries": 0}))
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{first} Connection refused; 127.0.0.1:{second} Connection refused"):
        catalog.databases()


def test_the_next_host_is_taken_when_the_first_is_down(server: HiveServer) -> None:
    connection = replace(server.connection(), host=f"127.0.0.1:{free_port()},127.0.0.1:{server.port}")
    assert open_catalog("hive", connection=connection).databases() == ("default",)


def test_a_server_that_is_no_metastore_is_told(tmp_path: Path) -> None:
    def answer() -> None:
        peer, _ = listener.accept()
        peer.recv(1000)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 100)
        peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        catalog = open_catalog("hive", connection=said(port=listener.getsockname()[1], extra={"retries": 0, "timeout_seconds": 5}))
        with pytest.raises(InventoryError, match="answers in another protocol -> Thrift's binary one"):
            catalog.databases()
        thread.join()


def test_tls_is_verified(server: HiveServer) -> None:
    assert open_catalog("hive", connection=server.connection()).databases() == ("default",)
    with pytest.raises(InventoryError, match="CERTIFICATE_VERIFY_FAILED -> TLS that both sides agree on"):
        open_catalog("hive", connection=server.connection(ssl_ca="")).databases()
    wrong_name = replace(server.connection(), host="127.1")  # the same place by a name that the certificate does not hold
    with pytest.raises(InventoryError, match="CERTIFICATE_VERIFY_FAILED"):
        open_catalog("hive", connection=wrong_name).databases()
    with pytest.raises(InventoryError, match="certificates that cannot be read"):
        open_catalog("hive", connection=server.connection(ssl_ca="/nowhere/ca.pem")).databases()


def test_plain_text_to_tls_and_tls_to_plain_text(server: HiveServer, hive_server: HiveServer) -> None:
    plain = replace(server.connection(), extra={"retries": 0, "timeout_seconds": 5})
    with pytest.raises(DataOpsError, match="TLS or a login"):
        open_catalog("hive", connection=plain).databases()
    tls = replace(hive_server.connection(), extra={"use_ssl": True, "retries": 0, "connect_timeout_seconds": 2})
    with pytest.raises(DataOpsError, match=r"Cannot reach metastore|TLS"):
        open_catalog("hive", connection=tls).databases()


DERBY = "Exception rolling back to savepoint rollback_54057808095484"
MYSQL = "Deadlock found when trying to get lock; try restarting transaction"


@pytest.mark.parametrize("text", [DERBY, MYSQL])
def test_what_the_metastores_database_undid_is_asked_again(text: str, hive_server: HiveServer) -> None:
    class Deadlocked(MetastoreCalls):
        left = 2

        def _once(self, name: str, arguments: dict[str, Any]) -> Any:
            if name == "create_database" and self.left:
                self.left -= 1
                raise WIRE["MetaException"](text)
            return super()._once(name, arguments)

    with pytest.raises(UnavailableError, match=text):
        hive_catalog(hive_server, Deadlocked, retries=1).ensure_database("sales", hive_server.lake())
    patient = hive_catalog(hive_server, Deadlocked, retries=2)
    patient.ensure_database("sales", hive_server.lake())
    assert patient.databases() == ("sales",)
    patient.close()


def test_a_metastore_that_hangs_dies_and_comes_back(server: HiveServer) -> None:
    """SIGSTOP: an end in time, and nothing repeated. SIGKILL: unavailable. Started again: the same catalog goes on, and what was
    never answered was either done whole or not at all."""
    catalog = open_catalog("hive", connection=server.connection(retries=0))
    impatient = open_catalog("hive", connection=server.connection(timeout_seconds=5, connect_timeout_seconds=5, retries=0))
    catalog.ensure_database("sales", server.lake())
    table = catalog.create_table(CatalogTable("sales", "t", (Column("a", pa.int32()),), (), server.lake(), owner="me"))
    wider = replace(table, columns=(*table.columns, Column("b", pa.string())))
    assert impatient.get_table("sales", "t") == table

    os.kill(server.process.pid, signal.SIGSTOP)
    with pytest.raises(UnavailableError):
        impatient.alter_table(table, wider)
    with pytest.raises(UnavailableError):
        impatient.get_table("sales", "t")
    os.kill(server.process.pid, signal.SIGCONT)
    now = catalog.get_table("sales", "t")
    assert now is not None and now in (table, replace(wider, version=now.version))

    os.kill(server.process.pid, signal.SIGKILL)
    with pytest.raises(UnavailableError, match=r"Connection refused|the line broke"):
        catalog.table_names("sales")
    folder = Path(server.process.folder)
    for lock in folder.glob("metastore_db/*.lck"):
        lock.unlink()
    again = HiveServer.start(tls=True, folder=folder, port=server.port)
    try:
        assert catalog.table_names("sales") == ("t",)
        now = catalog.get_table("sales", "t")
        assert now is not None and catalog.alter_table(now, replace(now, comment="healed")).comment == "healed"
    finally:
        again.stop()


@pytest.mark.parametrize(
    ("kind", "text", "becomes"),
    [
        ("MetaException", "The table has been modified. The parameter value for key 'x' is '1'.", ConflictError),
        ("MetaException", "javax.jdo.JDODataStoreException: connection to postgres lost", UnavailableError),
        ("MetaException", "file:/x is not a directory or unable to create one", InventoryError),
        ("MetaException", 'Got exception: No FileSystem for scheme "s3"', InventoryError),
        ("InvalidOperationException", "The following columns have types incompatible", InventoryError),
        ("InvalidObjectException", "x is not a valid object name", InventoryError),
    ],
)
def test_what_a_metastore_says_is_told_once_what_to_do(kind: str, text: str, becomes: type[DataOpsError]) -> None:
    error = translated("alter table sales.orders", WIRE[kind](f"{text}\n\tat org.apache.Hive(Line.java:1)"))
    assert type(error) is becomes and "Line.java" not in str(error) and str(error).startswith("Cannot alter table sales.orders: ")
