"""Calls to a metastore: counted, with an end, repeated where that is harmless, their failures translated once.

A line that breaks (the metastore was restarted, a proxy hung up) is opened again, a few times, and so is a call repeated whose
transaction the metastore's own database undid (a deadlock of two calls). A call that nobody answers in time is not repeated: it may
still be running there, and asking twice would double the load.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Any, Protocol

from thrift.protocol.TProtocol import TProtocolException
from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport.TTransport import TTransportException

from airflow_dataops.catalog.hive_connection import Line, MetastoreAddress, open_line
from airflow_dataops.catalog.hive_wire import CALLS, ServerError
from airflow_dataops.core.errors import ConflictError, DataOpsError, InventoryError, UnavailableError

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.3
"""Before the first repetition; each later one waits three times as long."""

# Said by a metastore that will say the same next time. Everything else it calls a MetaException may pass.
_LASTING = (
    "unable to create", "permission denied", "no filesystem for scheme", "is not a directory", "incompatible", "invalid ",
    "cannot be null", "not allowed", "partition keys", "does not exist", "doesn't exist", "already exists",
)  # fmt: skip


# Said when the metastore's database has undone the call: Derby, MySQL, PostgreSQL, Oracle.
_UNDONE = ("rolling back to savepoint", "deadlock", "lock could not be obtained", "could not serialize access", "lock wait timeout")


class Calls(Protocol):
    """Who answers the metastore's calls: a metastore, or what stands for one. `options` of the address say how places on S3 are
    written (`s3_scheme`) and in which catalog of a metastore the databases are (`catalog_name`)."""

    @property
    def address(self) -> Any: ...

    counted: Counter[str]

    def call(self, name: str, doing: str, /, *, repeat: bool = True, **arguments: Any) -> Any: ...

    def close(self) -> None: ...


class MetastoreCalls:
    """Thread-safe: each call takes a line of its own, idle ones are used again. `counted` is calls by name."""

    def __init__(self, address: MetastoreAddress) -> None:
        self.address = address
        self.counted: Counter[str] = Counter()
        self._idle: list[Line] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"MetastoreCalls({self.address})"

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    def call(self, name: str, doing: str, /, *, repeat: bool = True, **arguments: Any) -> Any:
        """The answer (None of a call without one). `doing` reads `verb object name`, for messages.

        The metastore's own exceptions come as `ServerError`, for the caller to tell what they mean there (`translated` for
        those it does not know). UnavailableError when no metastore answers, InventoryError when it is none, or refuses us.
        `repeat`: whether doing it twice is the same as once; else a broken line is an UnavailableError at once.
        """
        waits = self.address.options["retries"]
        for number in range(waits + 1):
            found = "line lost"
            try:
                return self._once(name, arguments)
            except ServerError as error:
                if number == waits or not any(part in _short(error).lower() for part in _UNDONE):
                    raise
                found = "its database undid what was asked"
            except (UnavailableError, TTransportException, OSError) as error:
                unsent = isinstance(error, UnavailableError)  # no line: nothing was sent
                self.close()  # its siblings led to the same process
                if number == waits or _timed_out(error) or not (repeat or unsent):
                    raise self._unanswered(doing, error) from None
            except TApplicationException as error:
                raise InventoryError(
                    f"Cannot {doing}: the metastore {self.address} does not take the call {name} -> Hive 2.3 or newer. "
                    f"It says: {_short(error)}. Upgrade it, or use another catalog."
                ) from None
            except TProtocolException:
                raise InventoryError(
                    f"Cannot {doing}: {self.address} answers in another protocol -> Thrift's binary one. It is no metastore, or "
                    f"wants TLS or a login. Check host, port, `use_ssl` and `auth_mechanism` of {self.address.conn_id!r}."
                ) from None
            except UnicodeError:
                raise InventoryError(
                    f"Cannot {doing}: text that is not UTF-8 -> UTF-8. The metastore keeps nothing else. Correct the name or value."
                ) from None
            log.warning("metastore %s: %s while trying to %s; again", self.address, found, doing)
            time.sleep(FIRST_WAIT_SECONDS * 3**number)
        raise UnavailableError(f"Cannot {doing}: no try is left -> `retries` of 0 or more.")

    def _once(self, name: str, arguments: dict[str, Any]) -> Any:
        line = self._take()
        try:
            answer = _ask(line, name, arguments)
        except ServerError:
            self._put_back(line)
            raise
        except BaseException:
            line.close()  # what is left unread on it belongs to this call
            raise
        finally:
            self.counted[name] += 1
        self._put_back(line)
        return answer

    def _take(self) -> Line:
        while True:
            with self._lock:
                line = self._idle.pop() if self._idle else None
            if line is None:
                return self._open()
            if line.is_open():
                return line
            line.close()

    def _open(self) -> Line:
        line = open_line(self.address)
        login = self.address.login
        if login and self.address.options["auth_mechanism"] == "NOSASL":
            try:
                _ask(line, "set_ugi", {"user_name": login, "group_names": []})
            except BaseException:
                line.close()
                raise
            self.counted["set_ugi"] += 1
        return line

    def _put_back(self, line: Line) -> None:
        with self._lock:
            self._idle.append(line)

    def _unanswered(self, doing: str, error: Exception) -> DataOpsError:
        if isinstance(error, UnavailableError):
            return error
        found = "no answer in time" if _timed_out(error) else "the line broke"
        return UnavailableError(
            f"Cannot {doing}: {found} -> an answer of metastore {self.address}. It may be down, or want TLS or a login that the "
            "connection does not name. Whether it was done is not known; the next run looks. Try again."
        )


def translated(doing: str, error: ServerError) -> DataOpsError:
    """What the metastore's exception means to a caller who expects nothing in particular."""
    kind = type(error).__name__
    text = _short(error)
    if kind == "MetaException" and "the table has been modified" in text.lower():
        return ConflictError(f"Cannot {doing}: another writer changed it -> unchanged. Read it again and plan again.")
    if kind == "MetaException" and not any(part in text.lower() for part in _LASTING):
        return UnavailableError(f"Cannot {doing}: the metastore says {text} -> done. Its database or store may be down. Try again.")
    return InventoryError(
        f"Cannot {doing}: the metastore says {text} ({kind}) -> done. Retrying will not help. Check names, places and rights."
    )


def _ask(line: Line, name: str, arguments: dict[str, Any]) -> Any:
    call, protocol = CALLS[name], line.protocol
    protocol.writeMessageBegin(name, TMessageType.CALL, 0)
    call.arguments(**arguments).write(protocol)
    protocol.writeMessageEnd()
    protocol.trans.flush()
    _, kind, _ = protocol.readMessageBegin()
    if kind == TMessageType.EXCEPTION:
        refused = TApplicationException()
        refused.read(protocol)
        protocol.readMessageEnd()
        raise refused
    answer: Any = call.answer()
    answer.read(protocol)
    protocol.readMessageEnd()
    for entry in answer.thrift_spec[1:]:
        if entry is not None and (raised := getattr(answer, entry[2])) is not None:
            raise raised
    success = getattr(answer, "success", None)
    if success is None and answer.thrift_spec and answer.thrift_spec[0] is not None:
        raise TApplicationException(TApplicationException.MISSING_RESULT, f"{name} gave no result")
    return success


def _timed_out(error: Exception) -> bool:
    inner = getattr(error, "inner", None)
    return (
        isinstance(error, TimeoutError)
        or isinstance(inner, TimeoutError)
        or (isinstance(error, TTransportException) and error.type == TTransportException.TIMED_OUT)
    )


def _short(error: Exception) -> str:
    """The first line of a foreign message, capped."""
    text = str(getattr(error, "message", None) or error or type(error).__name__)
    return text.strip().partition("\n")[0][:300].rstrip(".")
