"""An exclusive lock of a metastore on one table, for metastores that cannot compare and swap."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_dataops.catalog.hive_calls import Calls, translated
from airflow_dataops.catalog.hive_wire import WIRE, ServerError
from airflow_dataops.core.errors import BusyError

log = logging.getLogger(__name__)

WAIT_SECONDS = 30.0
_EXCLUSIVE, _TABLE, _NO_TRANSACTION = 3, 2, 6
_ACQUIRED, _WAITING = 1, 2


@contextmanager
def table_lock(calls: Calls, database: str, table: str) -> Iterator[None]:
    """Holds the lock for the length of the block. A holder that stalls loses it after the metastore's own limit (minutes), so it
    narrows the gap and does not close it: whoever alters looks again afterwards. BusyError when others hold it too long.

    A metastore without lock tables (they are made by Hive's schema tool, not by the server) grants none: said once, gone on.
    """
    doing = f"lock table {database}.{table}"
    component = WIRE["LockComponent"](
        type=_EXCLUSIVE, level=_TABLE, dbname=database, tablename=table, operationType=_NO_TRANSACTION
    )
    request = WIRE["LockRequest"](
        component=[component], user=calls.address.login or "airflow-dataops", hostname=socket.gethostname(),
        agentInfo=f"airflow-dataops {os.getpid()}",
    )  # fmt: skip
    try:
        held = calls.call("lock", doing, repeat=False, rqst=request)
    except ServerError as error:
        raise translated(doing, error) from None
    try:
        _wait(calls, doing, held)
        yield
    finally:
        try:
            calls.call("unlock", doing, rqst=WIRE["UnlockRequest"](lockid=held.lockid))
        except ServerError as error:  # gone by itself: it had timed out
            log.warning("table %s.%s: its lock was lost: %s", database, table, type(error).__name__)


def _wait(calls: Calls, doing: str, held: object) -> None:
    deadline, pause = time.monotonic() + WAIT_SECONDS, 0.05
    state, number = getattr(held, "state", None), getattr(held, "lockid", None)
    while state == _WAITING and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 1.0)
        try:
            state = calls.call("check_lock", doing, rqst=WIRE["CheckLockRequest"](lockid=number)).state
        except ServerError as error:
            raise translated(doing, error) from None
    if state != _ACQUIRED:
        raise BusyError(f"Cannot {doing}: others hold it for {WAIT_SECONDS:.0f} s -> free. Try again later.")
