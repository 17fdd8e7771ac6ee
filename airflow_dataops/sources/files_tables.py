"""Which files a row means, and which table each belongs to.

`options.path` is a file, a glob (`*` and `?` and `[…]` stay inside one folder, `**` does not) or a folder. Files that no
tool means as data are never taken: names, or folders on the way, that begin with `.` or `_` (`.DS_Store`, `_SUCCESS`,
`_temporary/`), and names of unfinished or check files (`.tmp`, `.part`, `.partial`, `.filepart`, `.crdownload`, `.crc`,
`~`). A single file that the row names is always taken.

Tables: a single file or a glob is one table named like the source; in a folder each sub-folder is a table with all files
at any depth, and each file directly inside is a table by its name before the first dot. Two files (or a file and a
sub-folder) that meet in one name belong to the same table: `orders.csv` and `orders.2.csv` are both `orders`.
`table_from` changes that: `source` makes everything one table; `file` names tables by file names at any depth; `folder`
by the first sub-folder (for a glob: the folder a file is in), and files outside any belong to the source's own table.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property

from airflow_dataops.core.connection import Connection
from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.options import FilesOptions
from airflow_dataops.core.spec import is_glob
from airflow_dataops.storage import Storage, StoredFile, open_storage, split_uri

_UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".crc", "~")
_BASE_TYPES = ("fs", "file", "aws", "s3")


@dataclass(frozen=True)
class Place:
    """Where a row's files are: `path` is relative to the storage's root; `""` is the root itself."""

    storage: Storage
    path: str
    source_name: str
    table_from: str

    def tables(self) -> dict[str, tuple[StoredFile, ...]]:
        """Table → its files as listed now, both in order. A file or glob is a table also when nothing is there yet."""
        found: dict[str, list[StoredFile]] = {}
        if self._is_one_table:
            found[self.source_name] = []
        for file in self._listed():
            found.setdefault(self._table_of(file.path), []).append(file)
        return {name: tuple(sorted(files)) for name, files in sorted(found.items())}

    @cached_property
    def _is_one_table(self) -> bool:
        return self.table_from == "source" or (self.table_from == "auto" and not self._is_folder)

    @cached_property
    def _single(self) -> StoredFile | None:
        """The one file, when the path names a file (also one whose name looks like a glob)."""
        return self.storage.stat(self.path) if self.path else None

    @property
    def _is_folder(self) -> bool:
        return self._single is None and not is_glob(self.path)

    def _listed(self) -> list[StoredFile]:
        if self._single is not None:
            now = self.storage.stat(self.path)
            return [now] if now is not None else []
        if is_glob(self.path):
            fixed = self.path[: re.search(r"[*?\[]", self.path).start()].rpartition("/")[0]  # type: ignore[union-attr]
            pattern = glob_pattern(self.path)
            depth = fixed.count("/") + 1 if fixed else 0
            return [f for f in self._walk(fixed) if pattern.fullmatch(f.path) and _is_data(f.path, depth)]
        return [f for f in self._walk(self.path) if _is_data(f.path, self._depth)]

    def _walk(self, folder: str) -> list[StoredFile]:
        """InventoryError for a folder that is not there. It may be a mount that is down: its tables are not empty."""
        files = list(self.storage.walk(folder))
        if not files and self.storage.is_local and not os.path.isdir(self.storage.address(folder)):
            raise InventoryError(
                f"Cannot list {self.storage.uri(folder)}: nothing is there -> a file or a folder. Correct `options.path`, or "
                "bring back what held it."
            )
        return files

    @property
    def _depth(self) -> int:
        return len(self.path.strip("/").split("/")) if self.path.strip("/") else 0

    def _table_of(self, path: str) -> str:
        if self._is_one_table:
            return self.source_name
        parts = path.split("/")
        inner = parts if is_glob(self.path) and self._single is None else parts[self._depth :]
        stem = parts[-1].partition(".")[0] or parts[-1]
        match self.table_from:
            case "file":
                return stem
            case "folder" if is_glob(self.path):
                return parts[-2] if len(parts) > 1 else self.source_name
            case "folder":
                return inner[0] if len(inner) > 1 else self.source_name
        return inner[0] if len(inner) > 1 else stem


def place_of(source_name: str, options: FilesOptions, connection: Connection | None, base_path: str) -> Place:
    """Resolves the row's path.

    A relative path starts at the connection's base path (extra `path`), without a connection at `base_path`, and cannot
    leave it, not by `..` and not by links. An absolute path is its own root, unless there is a connection: then it must
    lie below the connection's base path, because that is what the connection gives access to. InventoryError otherwise.
    """
    path, base = options.path, _base(connection)
    if path.startswith(("/", "file:")) or "://" in path:
        if base is None:
            root, path = _own_root(path)
        else:
            root, path = base, _below(base, path, connection.conn_id if connection else "")
    else:
        root = base or base_path
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    path = "" if path == "." else path.rstrip("/")
    aws = connection is not None and connection.conn_type in ("aws", "s3")
    storage = open_storage(root, connection if aws else None)
    storage.address(path)  # refuses what leaves the root before anything is listed
    return Place(storage, path, source_name, options.table_from)


def _own_root(path: str) -> tuple[str, str]:
    """(the folder that an absolute path itself names or lies in, the rest): links may not lead out of it."""
    scheme, place = split_uri(path)
    prefix = "s3://" if scheme == "s3" else ""
    magic = re.search(r"[*?\[]", place)
    if magic and not (scheme == "file" and os.path.exists(place)):
        root = place[: magic.start()].rpartition("/")[0]
    elif "/" not in place or (scheme == "file" and os.path.isdir(place)):
        root = place
    else:
        root = place.rpartition("/")[0]
    return prefix + (root or "/"), place[len(root) :].strip("/")


def _below(base: str, path: str, conn_id: str) -> str:
    """The path relative to the connection's base path, both as addresses."""
    root, place = split_uri(base), split_uri(path)
    if place != root and (place[0] != root[0] or not place[1].startswith(root[1].rstrip("/") + "/")):
        raise InventoryError(
            f"Cannot read {path!r}: outside {base!r}, the base path of connection {conn_id} -> a path below it. "
            "The connection gives access to no more. Correct `options.path`."
        )
    return place[1][len(root[1].rstrip("/")) :].lstrip("/")


def _base(connection: Connection | None) -> str | None:
    if connection is None:
        return None
    if connection.conn_type not in _BASE_TYPES:
        raise InventoryError(
            f"Cannot use connection {connection.conn_id} for files: type {connection.conn_type!r} -> one of "
            f"{', '.join(_BASE_TYPES)}. Name another connection, or none for local files."
        )
    base = connection.extra.get("path") or connection.extra.get("base_path")
    return str(base) if base else None


def glob_pattern(glob: str) -> re.Pattern[str]:
    """`*`, `?` and `[…]` inside one folder; `**` as a whole part for any number of folders."""
    out = ""
    for part in re.split(r"(\*\*/|\*|\?|\[[^\]/]+\])", glob):
        if part == "**/":
            out += "(?:[^/]+/)*"
        elif part == "*":
            out += "[^/]*"
        elif part == "?":
            out += "[^/]"
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            negated = part[1] == "!"
            inner = part[2 if negated else 1 : -1].replace("\\", "\\\\").replace("^", "\\^").replace("[", "\\[")
            out += f"[{'^/' if negated else ''}{inner}]"
        else:
            out += re.escape(part)
    return re.compile(out, re.DOTALL)


def _is_data(path: str, depth: int) -> bool:
    """Whether a listed file is data; the first `depth` folders were named by the row."""
    parts = path.split("/")[depth:]
    return not any(part.startswith((".", "_")) for part in parts) and not parts[-1].lower().endswith(_UNFINISHED)
