"""PostgreSQL (Debian's, 15 or newer) with a password, data in a temporary folder, durability off."""

from __future__ import annotations

import secrets
import signal
from dataclasses import dataclass

from tests.servers.process import ServerProcess, find_program, free_port, launch, new_folder, prepare

USER = "dataops"


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL. Use as a context manager, or call `start` and `stop`."""

    process: ServerProcess
    host: str
    port: int
    user: str
    password: str

    @classmethod
    def start(cls) -> PostgresServer:
        folder, port, password = new_folder("postgres"), free_port(), secrets.token_hex(12)
        secret = folder / "password"
        secret.write_text(password)
        secret.chmod(0o644)  # read by the server's user; the folder itself is private
        data = str(folder / "data")
        prepare(
            [
                find_program("initdb"), "--pgdata", data, "--username", USER, "--pwfile", str(secret),
                "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync",
            ],
            folder,
        )  # fmt: skip
        settings = {
            "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "max_connections": 200,
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "logical",
            "shared_buffers": "64MB", "timezone": "UTC",
        }  # fmt: skip
        command = [find_program("postgres"), "-D", data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]

        def ready() -> bool:
            import psycopg

            try:
                psycopg.connect(
                    host="127.0.0.1", port=port, user=USER, password=password, dbname="postgres", connect_timeout=2
                ).close()
            except psycopg.OperationalError:
                return False
            return True

        # SIGQUIT stops at once and takes the backends along; the data is thrown away anyway.
        process = launch(command, folder, ready, stop_signal=signal.SIGQUIT)
        return cls(process, "127.0.0.1", port, USER, password)

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, database: str = "postgres") -> str:
        """`postgresql://user:password@host:port/database`, as libpq and ADBC read it."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database with a name of its own and return its URL."""
        import psycopg
        from psycopg import sql

        name = f"t_{secrets.token_hex(6)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)
