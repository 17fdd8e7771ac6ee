"""MariaDB (Debian's, 10.11 or newer) with a password, data in a temporary folder, durability off."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from tests.servers.process import ServerProcess, find_program, free_port, launch, new_folder, prepare

USER = "dataops"


@dataclass(frozen=True)
class MariaDBServer:
    """A running MariaDB. Use as a context manager, or call `start` and `stop`."""

    process: ServerProcess
    host: str
    port: int
    user: str
    password: str

    @classmethod
    def start(cls) -> MariaDBServer:
        folder, port, password = new_folder("mariadb"), free_port(), secrets.token_hex(12)
        data = str(folder / "data")
        prepare(
            [
                find_program("mariadb-install-db"), "--no-defaults", f"--datadir={data}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
            ],
            folder,
        )  # fmt: skip
        accounts = folder / "accounts.sql"
        accounts.write_text(
            f"CREATE OR REPLACE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
            f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n"
        )
        accounts.chmod(0o644)  # read by the server's user; the folder itself is private
        command = [
            find_program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}",
            "--bind-address=127.0.0.1", "--socket=mariadb.sock",
            f"--pid-file={folder / 'mariadb.pid'}", f"--init-file={accounts}",
            "--skip-name-resolve", "--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci",
            "--default-time-zone=+00:00", "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0", "--max-connections=200", "--local-infile=0",
            # Row images and a server id, so that a change stream can be read from it.
            "--log-bin=binlog", "--binlog-format=ROW", "--server-id=1", "--sync-binlog=0",
        ]  # fmt: skip

        def ready() -> bool:
            import pymysql

            try:
                connect("127.0.0.1", port, password).close()
            except pymysql.err.OperationalError:
                return False
            return True

        return cls(launch(command, folder, ready), "127.0.0.1", port, USER, password)

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> MariaDBServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, database: str = "") -> str:
        """`mysql://user:password@host:port/database`."""
        return f"mysql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty utf8mb4 database with a name of its own and return its URL."""
        name = f"t_{secrets.token_hex(6)}"
        with connect(self.host, self.port, self.password) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}`")
        return self.url(name)


def connect(host: str, port: int, password: str) -> Any:
    import pymysql

    return pymysql.connect(host=host, port=port, user=USER, password=password, connect_timeout=2)
