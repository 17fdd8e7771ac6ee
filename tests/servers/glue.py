"""The AWS Glue Data Catalog as moto serves it, in a thread of this process, over HTTP.

moto keeps what it is given without checking most of it, and takes an alter of a stale version. The latter is mended here, as AWS
documents it (`update_table`, VersionId): there is no other Glue to be had without an account.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any

from airflow_dataops.core.connection import Connection


class GlueServer:
    """A running Glue of one account."""

    def __init__(self) -> None:
        from moto.moto_server.threaded_moto_server import ThreadedMotoServer

        _compare_versions()
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"

    def empty(self) -> None:
        """Forgets all databases."""
        from moto.backends import get_backend

        get_backend("glue").reset()

    def connection(self, **extra: Any) -> Connection:
        extra = {"endpoint_url": self.endpoint, "region_name": "eu-west-1", "glue_catalog_id": "123456789012", **extra}
        return Connection(conn_id="glue", conn_type="aws", login="test", password=secrets.token_hex(8), extra=extra)

    def stop(self) -> None:
        self._server.stop()


def _compare_versions() -> None:
    from moto.core.exceptions import JsonRESTError
    from moto.glue.responses import GlueResponse

    update, lock = GlueResponse.update_table, threading.Lock()
    if hasattr(update, "compares"):
        return

    def update_compared(self: GlueResponse) -> Any:
        with lock:
            version = self.parameters.get("VersionId")
            table = self.glue_backend.get_table(self.parameters["DatabaseName"], self.parameters["TableInput"]["Name"])
            if version is not None and version != table.as_dict()["VersionId"]:
                raise JsonRESTError("ConcurrentModificationException", "Update table failed due to concurrent modifications.")
            return update(self)

    update_compared.compares = True  # type: ignore[attr-defined]
    GlueResponse.update_table = update_compared  # type: ignore[method-assign]
