"""Apache Hive Metastore 4.0.1 over Thrift, its database (Derby) in a temporary folder; with TLS when asked for."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_dataops.catalog.hive_calls import MetastoreCalls
from airflow_dataops.catalog.hive_connection import MetastoreAddress
from airflow_dataops.catalog.hive_wire import WIRE, declare
from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import DataOpsError
from tests.servers.process import (
    ServerProcess,
    find_program,
    free_port,
    jars,
    launch,
    new_folder,
    prepare,
)

VERSION = "4.0.1"
_FILES = Path(__file__).parent / "hive_metastore"
# Large stacks: the server builds one deeply nested query from a long list of partitions.
_JAVA = ("-Xms64m", "-Xmx384m", "-Xss8m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")

declare(
    structs="Catalog: 1 name string, 3 locationUri string\nCreateCatalogRequest: 1 catalog Catalog",
    calls="create_catalog(1 catalog CreateCatalogRequest) void AlreadyExistsException InvalidObjectException MetaException\n"
    "drop_database(1 name string, 2 deleteData bool, 3 cascade bool) void NoSuchObjectException InvalidOperationException "
    "MetaException",
)


@dataclass(frozen=True)
class HiveServer:
    """A running metastore. Use as a context manager, or call `start` and `stop`."""

    process: ServerProcess
    host: str
    port: int
    certificate: str = ""

    @classmethod
    def start(cls, tls: bool = False, folder: Path | None = None, port: int | None = None) -> HiveServer:
        """`folder` and `port` of one that was killed: it goes on with the same tables."""
        java, classes = find_program("java"), f"{jars('hive-metastore', VERSION)}/*"
        new = folder is None
        folder, port = folder or new_folder("hive"), port or free_port()
        certificate = str(folder / "ca.pem") if tls else ""
        if new:
            (folder / "warehouse").mkdir()
            derby = f"jdbc:derby:{folder}/metastore_db;create=true"
            prepare(
                [
                    java, *_JAVA, "-cp", classes, "sqlline.SqlLine", "-u", derby, "-n", "APP", "-p", "mine",
                    "-d", "org.apache.derby.jdbc.EmbeddedDriver", "-f", str(_FILES / "locks.sql"),
                ],
                folder,
                drop_root=False,
            )  # fmt: skip
            if tls:
                _keys(folder)
            (folder / "metastore-site.xml").write_text(_site(folder, port, derby, tls))
        command = [
            java, *_JAVA, f"-Dderby.system.home={folder}", f"-Dlog4j2.configurationFile={_FILES.parent}/log4j2.properties",
            "-cp", f"{folder}:{classes}", "org.apache.hadoop.hive.metastore.HiveMetaStore", "-p", str(port),
        ]  # fmt: skip
        calls = MetastoreCalls(MetastoreAddress.of_connection(_connection(port, certificate, {"retries": 0})))

        def ready() -> bool:
            try:
                return bool(calls.call("getVersion", "wait for the metastore") == VERSION)
            except DataOpsError:
                return False
            finally:
                calls.close()

        # The jars may lie in a home folder that an unprivileged user cannot enter.
        return cls(launch(command, folder, ready, drop_root=False), "127.0.0.1", port, certificate)

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> HiveServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def connection(self, **extra: Any) -> Connection:
        """As Airflow would give it."""
        return _connection(self.port, self.certificate, extra)

    def new_catalog(self) -> str:
        """The name of an empty catalog inside this metastore: its databases are nobody else's."""
        name = f"t_{secrets.token_hex(6)}"
        calls = MetastoreCalls(MetastoreAddress.of_connection(self.connection()))
        place = WIRE["Catalog"](name=name, locationUri=f"file:{self.process.folder}/warehouse/{name}")
        calls.call("create_catalog", "make a catalog", catalog=WIRE["CreateCatalogRequest"](catalog=place))
        calls.call("drop_database", "empty it", name=f"@{name}#default", deleteData=False, cascade=False)
        calls.close()
        return name

    def lake(self) -> str:
        """A folder that the metastore may write to, as `file:` address."""
        folder = Path(self.process.folder) / "lakes" / secrets.token_hex(6)
        folder.mkdir(parents=True)
        return f"file://{folder}"


def _connection(port: int, certificate: str, extra: dict[str, Any]) -> Connection:
    tls = {"use_ssl": True, "ssl_ca": certificate} if certificate else {}
    return Connection("hms", "hive_metastore", host="127.0.0.1", port=port, login="tester", extra={**tls, **extra})


def _site(folder: Path, port: int, derby: str, tls: bool) -> str:
    settings = {
        "javax.jdo.option.ConnectionURL": derby,
        "javax.jdo.option.ConnectionDriverName": "org.apache.derby.jdbc.EmbeddedDriver",
        "javax.jdo.option.ConnectionUserName": "APP",
        "javax.jdo.option.ConnectionPassword": "mine",
        "datanucleus.schema.autoCreateAll": "true",
        "metastore.schema.verification": "false",
        "metastore.warehouse.dir": f"file:{folder}/warehouse",
        "metastore.thrift.uris": f"thrift://127.0.0.1:{port}",
        "metastore.thrift.port": port,
        "metastore.thrift.bind.host": "127.0.0.1",
        "metastore.event.db.notification.api.auth": "false",
        "metastore.expression.proxy": "org.apache.hadoop.hive.metastore.DefaultPartitionExpressionProxy",
        "metastore.task.threads.always": "org.apache.hadoop.hive.metastore.events.EventCleanerTask",
        "metastore.task.threads.remote": "",
    }
    if tls:
        settings |= {
            "metastore.use.SSL": "true",
            "metastore.keystore.path": folder / "server.p12",
            "metastore.keystore.type": "PKCS12",
            "metastore.keystore.password": "changeit",
        }
    rows = "\n".join(f"<property><name>{name}</name><value>{value}</value></property>" for name, value in settings.items())
    return f"<configuration>\n{rows}\n</configuration>\n"


def _keys(folder: Path) -> None:
    """A key of the server for 127.0.0.1, and its certificate for those who are to trust it."""
    keytool = find_program("keytool")
    store = ["-keystore", str(folder / "server.p12"), "-storetype", "PKCS12", "-storepass", "changeit", "-alias", "server"]
    names = ["-dname", "CN=localhost", "-ext", "san=dns:localhost,ip:127.0.0.1"]
    prepare([keytool, "-genkeypair", "-keyalg", "EC", "-validity", "2", *store, *names], folder, drop_root=False)
    prepare([keytool, "-exportcert", "-rfc", "-file", str(folder / "ca.pem"), *store], folder, drop_root=False)
