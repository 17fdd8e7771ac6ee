"""An S3 server (versitygw over a temporary folder): real signatures, conditional writes, multipart, versions."""

from __future__ import annotations

import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.servers.process import ServerProcess, find_program, free_port, launch, new_folder

REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """A running S3 endpoint. Use as a context manager, or call `start` and `stop`."""

    process: ServerProcess
    endpoint: str  # http://127.0.0.1:port
    access_key: str
    secret_key: str
    region: str

    @classmethod
    def start(cls) -> S3Server:
        program = find_program("versitygw")
        folder, port = new_folder("s3"), free_port()
        access_key, secret_key = f"AK{secrets.token_hex(8).upper()}", secrets.token_hex(20)
        for name in ("data", "versions"):
            (folder / name).mkdir()
        endpoint = f"http://127.0.0.1:{port}"
        command = [
            program, "--port", f"127.0.0.1:{port}", "--region", REGION, "--quiet",
            "posix", "--versioning-dir", str(folder / "versions"), str(folder / "data"),
        ]  # fmt: skip

        def ready() -> bool:
            try:
                urllib.request.urlopen(endpoint, timeout=2).close()
            except urllib.error.HTTPError:
                return True  # an answer: it refuses what is not signed
            except OSError:
                return False
            return True

        # The keys go by environment, so that no list of processes shows them. The program may lie in a home folder
        # that the unprivileged user cannot enter, and it has no objection to root.
        keys = {"ROOT_ACCESS_KEY": access_key, "ROOT_SECRET_KEY": secret_key}
        process = launch(command, folder, ready, drop_root=False, environment=keys)
        return cls(process, endpoint, access_key, secret_key, REGION)

    def stop(self) -> None:
        self.process.stop()

    def __enter__(self) -> S3Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def client(self) -> Any:
        """A boto3 client of this server, with the environment's own AWS settings left out."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(
                s3={"addressing_style": "path"}, retries={"max_attempts": 2}, connect_timeout=5, read_timeout=30
            ),
        )

    def new_bucket(self, versioned: bool = False) -> str:
        """Create an empty bucket with a name of its own and return the name."""
        name = f"t-{secrets.token_hex(6)}"
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name
