"""Addresses and the paths below them: what a text may reach, and what it may not."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from airflow_dataops.core.errors import InventoryError

SCHEMES = ("file", "s3")


def split_uri(uri: str) -> tuple[str, str]:
    """(scheme, place): `file` and an absolute path, or `s3` and `bucket/prefix`.

    A text without a scheme is a local path and is taken as it stands (`%20` is no space there). InventoryError for a
    relative path, an unknown scheme, credentials inside the address, or a `..`.
    """
    if "\0" in uri:
        raise InventoryError(f"Cannot use address {uri!r}: it holds a NUL byte -> plain text. Correct the address.")
    if "://" not in uri and not uri.startswith("file:"):
        return "file", _absolute(uri, uri)
    parts = urlsplit(uri, allow_fragments=False)
    if "@" in parts.netloc:
        # The address may hold a password: it must not be repeated.
        raise InventoryError(
            f"Cannot use an {parts.scheme}: address: it holds credentials -> none. Put them into an Airflow connection."
        )
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InventoryError(f"Cannot use address {uri!r}: host {parts.netloc!r} -> none. Write file:///path.")
        return "file", _absolute(unquote(parts.path), uri)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise InventoryError(f"Cannot use address {uri!r}: no bucket -> s3://bucket/prefix. Name the bucket.")
        # Keys are no URL paths for the tools that people copy them from: `?` and `%` are plain characters.
        bucket, _, key = uri.partition("://")[2].partition("/")
        key = key.strip("/")
        if key:
            check_relative(key)
        return "s3", f"{bucket}/{key}" if key else bucket
    raise InventoryError(
        f"Cannot use address {uri!r}: scheme {parts.scheme!r} -> one of {', '.join(SCHEMES)}. "
        "Other stores are not available yet. Use one of these."
    )


def _absolute(path: str, uri: str) -> str:
    if not path.startswith("/"):
        raise InventoryError(
            f"Cannot use address {uri!r}: a relative path -> an absolute one. "
            "The working folder differs between a terminal and an Airflow worker. Write the whole path."
        )
    if ".." in path.split("/"):
        raise InventoryError(f"Cannot use address {uri!r}: it climbs with `..` -> a direct path. Write the place.")
    return os.path.normpath("/" + path.lstrip("/"))


def check_relative(relative: str) -> str:
    """The same text, if every part of it is a plain name; InventoryError otherwise. `""` is the root itself."""
    if relative == "":
        return relative
    problem = ""
    if "\0" in relative:
        problem = "it holds a NUL byte"
    elif relative.startswith("/"):
        problem = "it is absolute"
    elif any(part in ("", ".", "..") for part in relative.removesuffix("/").split("/")):
        problem = "it has a part that is empty, `.` or `..`"
    if problem:
        raise InventoryError(
            f"Cannot use path {relative!r}: {problem} -> names joined by `/`. "
            "Such a path could lead outside its root. Rename the file or correct the path."
        )
    return relative


def below_root(directory: str) -> str:
    """The same text, if it names a place really below the root: nobody ever means to delete all."""
    directory = check_relative(directory).rstrip("/")
    if not directory:
        raise InventoryError("Cannot delete the root: '' -> a folder below it. Name the folder.")
    return directory


def safe_join(root: str, relative: str, *, local: bool = True) -> str:
    """`root/relative`, proven to lie at or below the root.

    Refuses `..`, absolute paths, NUL and empty parts, and (`local`) links that lead out of the root, also for files
    that do not exist yet. It is for honest mistakes and hostile names, not for a race against one who can swap
    links while we read: such a person already has the rights of the folder's owner.
    """
    check_relative(relative)
    joined = f"{root.rstrip('/')}/{relative}".rstrip("/") or "/"
    if local:
        real_root, real = os.path.realpath(root), os.path.realpath(joined)
        if real != real_root and not real.startswith(real_root.rstrip("/") + "/"):
            raise InventoryError(
                f"Cannot use path {relative!r}: a link leads outside {root!r} -> a file below it. "
                "Put the file itself there, or give its folder a connection of its own."
            )
    return joined
