"""How a metastore is reached: what the Airflow connection says, and one open line to the first host that answers.

Type `hive_metastore`: host (several, by comma, each with its own `:port` if it has one), port, login, password, extra as in
`EXTRAS`. The password and the extra go nowhere but into the line.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TBufferedTransport, TTransportException

from airflow_dataops.core.errors import InventoryError, UnavailableError

if TYPE_CHECKING:
    from airflow_dataops.core.connection import Connection

DEFAULT_PORT = 9083
MECHANISMS = ("NOSASL", "PLAIN", "GSSAPI")
S3_SCHEMES = ("s3a", "s3", "s3n")

EXTRAS: dict[str, Any] = {
    "auth_mechanism": "NOSASL",
    "kerberos_service_name": "hive",
    "use_ssl": False,
    "ssl_ca": "",
    "ssl_cert": "",
    "ssl_key": "",
    "ssl_check_hostname": True,
    "connect_timeout_seconds": 10,
    "timeout_seconds": 120,
    "retries": 3,
    "catalog_name": "",
    "s3_scheme": "s3a",
}
"""Extras and what they are when not given; each is of the type of its default."""


@dataclass(frozen=True, slots=True)
class MetastoreAddress:
    """Where the metastores are and how to talk to them. `repr` shows no secret."""

    conn_id: str
    hosts: tuple[tuple[str, int], ...]
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: dict[str, Any] = field(default_factory=lambda: dict(EXTRAS), repr=False)

    def __str__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.hosts)

    @classmethod
    def of_connection(cls, connection: Connection) -> MetastoreAddress:
        """InventoryError for a missing host, an unknown or ill-typed extra, or settings that contradict each other."""
        hosts = tuple(
            _host(connection.conn_id, text, connection.port) for text in (connection.host or "").split(",") if text.strip()
        )
        if not hosts:
            raise _wrong(connection.conn_id, "no host", "the metastore's host", "Set it, or several by comma")
        options = dict(EXTRAS)
        for name, value in connection.extra.items():
            if name not in EXTRAS:
                raise _wrong(connection.conn_id, f"extra {name!r}", f"one of {', '.join(EXTRAS)}", "Correct it")
            options[name] = _typed(connection.conn_id, name, value)
        if options["auth_mechanism"] not in MECHANISMS:
            raise _wrong(connection.conn_id, "another `auth_mechanism`", f"one of {', '.join(MECHANISMS)}", "Correct it")
        if options["s3_scheme"] not in S3_SCHEMES:
            raise _wrong(connection.conn_id, "another `s3_scheme`", f"one of {', '.join(S3_SCHEMES)}", "Correct it")
        if options["auth_mechanism"] == "PLAIN" and not (connection.login and connection.password):
            raise _wrong(connection.conn_id, "`auth_mechanism: PLAIN` without login and password", "both", "Set them")
        if not options["use_ssl"] and any(options[name] for name in ("ssl_ca", "ssl_cert", "ssl_key")):
            raise _wrong(connection.conn_id, "certificates without `use_ssl`", "`use_ssl: true`", "Set it, or remove them")
        return cls(connection.conn_id, hosts, connection.login, connection.password, options)


class Line:
    """One open connection; not for two threads at once. `protocol` is what calls are written to and read from."""

    def __init__(self, address: MetastoreAddress, host: str, port: int) -> None:
        """OSError, TTransportException or InventoryError when it cannot be opened; nothing is left open then."""
        opened = _dial(address, host, port)
        try:
            handle = TSocket(host, port)
            handle.setHandle(opened)
            self._transport = _secured(address, host, handle)
        except BaseException:
            opened.close()
            raise
        self._handle = handle
        self.protocol = TBinaryProtocolAccelerated(self._transport, strictRead=True)

    def is_open(self) -> bool:
        """False when the other side has hung up, as far as can be known without asking."""
        return bool(self._handle.isOpen())

    def close(self) -> None:
        self._transport.close()


def open_line(address: MetastoreAddress) -> Line:
    """A line to the first host that answers. UnavailableError when none does, InventoryError when the settings are wrong."""
    failed = []
    for host, port in address.hosts:
        try:
            return Line(address, host, port)
        except ssl.SSLError as error:
            raise InventoryError(
                f"Cannot reach metastore {host}:{port}: {_reason(error)} -> TLS that both sides agree on. "
                f"Check `use_ssl`, `ssl_ca`, `ssl_cert` and `ssl_key` of connection {address.conn_id!r}."
            ) from None
        except (OSError, TTransportException) as error:
            failed.append(f"{host}:{port} {_reason(error)}")
    raise UnavailableError(
        f"Cannot reach metastore {address.conn_id!r}: {'; '.join(failed)} -> an answer. It may be starting or down. Try again; "
        "if it stays so, check host and port of the connection."
    )


def _dial(address: MetastoreAddress, host: str, port: int) -> socket.socket:
    options = address.options
    opened = socket.create_connection((host, port), timeout=options["connect_timeout_seconds"])
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if options["use_ssl"]:
            opened = _tls(address).wrap_socket(opened, server_hostname=host)
        opened.settimeout(options["timeout_seconds"])
    except BaseException:
        opened.close()
        raise
    return opened


def _tls(address: MetastoreAddress) -> ssl.SSLContext:
    options = address.options
    try:
        context = ssl.create_default_context(cafile=options["ssl_ca"] or None)
        context.check_hostname = options["ssl_check_hostname"]
        if options["ssl_cert"]:
            context.load_cert_chain(options["ssl_cert"], options["ssl_key"] or None)
    except OSError as error:  # ssl.SSLError is one
        raise _wrong(
            address.conn_id, f"certificates that cannot be read ({type(error).__name__})", "readable PEM files", "Correct the paths"
        ) from None
    return context


def _secured(address: MetastoreAddress, host: str, handle: TSocket) -> Any:
    """The transport over an open socket, logged in when the connection asks for it."""
    mechanism = address.options["auth_mechanism"]
    if mechanism == "NOSASL":
        return TBufferedTransport(handle)
    try:
        from puresasl.client import SASLClient
        from thrift_sasl import TSaslClientTransport
    except ImportError as error:
        raise InventoryError(
            f"Cannot log in to metastore {address.conn_id!r}: package {error.name} is missing -> installed. `auth_mechanism` "
            f"{mechanism} needs it. Install the extra: pip install 'airflow-dataops[hive-sasl]'."
        ) from None
    if mechanism == "PLAIN":
        secrets = {"username": address.login, "password": address.password}
        client = SASLClient(host, None, mechanism="PLAIN", **secrets)
    else:
        client = SASLClient(host, address.options["kerberos_service_name"], mechanism="GSSAPI")
    transport = TSaslClientTransport(lambda: _Sasl(client, address), mechanism, handle)
    transport.open()
    return transport


class _Sasl:
    """The client of `puresasl` in the form that `thrift_sasl` asks for."""

    def __init__(self, client: Any, address: MetastoreAddress) -> None:
        self._client, self._address = client, address

    def getError(self) -> str:
        return "the login was refused"

    def start(self, mechanism: str) -> tuple[bool, str, bytes]:
        first = self._step(None)
        return True, mechanism, first if isinstance(first, bytes) else str(first or "").encode()

    def step(self, challenge: bytes) -> tuple[bool, bytes]:
        answer = self._step(challenge)
        return True, answer if isinstance(answer, bytes) else str(answer or "").encode()

    def encode(self, data: bytes) -> tuple[bool, bytes]:
        return True, self._client.wrap(data)

    def decode(self, data: bytes) -> tuple[bool, bytes]:
        return True, self._client.unwrap(data)

    def _step(self, challenge: bytes | None) -> Any:
        try:
            return self._client.process(challenge)
        except Exception as error:  # noqa: BLE001 - of Kerberos' own library, whose exceptions are not of one kind
            raise InventoryError(
                f"Cannot log in to metastore {self._address.conn_id!r}: {type(error).__name__} -> a login. For GSSAPI a ticket "
                "must be there (kinit) and the package `kerberos` installed; check `kerberos_service_name`."
            ) from None


def _host(conn_id: str, text: str, port: int | None) -> tuple[str, int]:
    name, colon, own = text.strip().removeprefix("thrift://").rpartition(":")
    if not colon or text.strip().endswith("]"):
        name, own = text.strip().removeprefix("thrift://"), str(port or DEFAULT_PORT)
    if not name or not own.isdigit() or not 0 < int(own) < 65536 or any(c in name for c in "/@ "):
        raise _wrong(conn_id, "a host that is none", "name, or name:port, several by comma", "Correct it")
    return name.strip("[]"), int(own)


def _typed(conn_id: str, name: str, value: Any) -> Any:
    default = EXTRAS[name]
    if isinstance(default, bool):
        known = {"true": True, "false": False, "1": True, "0": False}
        if str(value).lower() in known:
            return known[str(value).lower()]
    elif isinstance(default, int):
        if str(value).isdigit() and (int(value) > 0 or name == "retries"):
            return int(value)
    elif isinstance(value, str):
        return value
    wanted = {bool: "true or false", int: "a whole number above 0", str: "text"}[type(default)]
    raise _wrong(conn_id, f"extra {name!r} of another kind", wanted, "Correct it")


def _wrong(conn_id: str, found: str, expected: str, what: str) -> InventoryError:
    return InventoryError(f"Cannot use connection {conn_id!r} for a metastore: {found} -> {expected}. {what}.")


def _reason(error: Exception) -> str:
    """What happened, without what was sent."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or getattr(error, "verify_message", "") or type(error).__name__)
    if isinstance(error, TTransportException):
        return "closed the line" if error.type == TTransportException.END_OF_FILE else "did not take the login"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
