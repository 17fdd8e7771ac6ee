"""Redis (Debian's, 7 or newer) with a password, in memory only."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass

from tests.servers.process import ServerProcess, find_program, free_port, launch, new_folder


@dataclass(frozen=True)
class RedisServer:
    """A running Redis. Use as a context manager, or call `start` and `stop`."""

    process: ServerProcess
    port: int
    password: str

    @classmethod
    def start(cls) -> RedisServer:
        folder, port, password = new_folder("redis"), free_port(), secrets.token_hex(12)
        configuration = folder / "redis.conf"
        configuration.write_text(
            f'bind 127.0.0.1\nport {port}\ndir "{folder}"\nrequirepass {password}\nsave ""\nappendonly no\n'
        )
        configuration.chmod(0o644)  # read by the server's user; the folder itself is private

        def ready() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                    connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
                    return connection.recv(64).startswith(b"+OK")
            except OSError:
                return False

        return cls(launch([find_program("redis-server"), str(configuration)], folder, ready), port, password)

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, database: int = 0) -> str:
        """`redis://:password@host:port/database`."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"
