"""A file that others read while it is written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(file: Path, data: bytes) -> None:
    """A file that is never seen half written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(8)}")  # process ids are the same in every container
    try:
        fresh.write_bytes(data)
        os.replace(fresh, file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
