"""Where an inventory is kept: a folder, an object store, a git repository. Each gives the same: its YAML files by name."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol

from airflow_dataops.connections import resolve
from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.storage import split_uri
from airflow_dataops.storage.s3 import S3Options, S3Storage
from dag_factory.bundle.compiled import InventoryFile
from dag_factory.bundle.stores import read_stored
from dag_factory.inventory.yaml_nodes import MAX_BYTES

SETTLED_SECONDS = 2.0
"""A file changed so shortly before it was read may change again within one tick of the file system's clock."""
PAUSE_SECONDS = 0.02
LOOKS_AT_REST = 5
"""So many looks in a row must see the same: an editor that has emptied a file may be slow in writing it."""
PAUSES = 50
TRIES = 5
TORN = "torn"
"""Stamp of a file that changed while it was read."""
FAULT = "fault:"
"""Begins the stamp of a file that is there and cannot be read; the reason follows."""
NO_FILE = "a folder, pipe or device"


class Place(Protocol):
    """`label` is the folder's name in texts: `inventory/sales.yaml:12`."""

    label: str

    def read(self, known: Mapping[str, InventoryFile]) -> dict[str, InventoryFile]:
        """The files as they are now, by name; those that have not changed are the `known` objects themselves.
        UnavailableError (try again) or InventoryError (wrong place, no right) when the place cannot be read."""
        ...


def open_place(inventory: str, *, conn_id: str | None, ref: str | None, folder: str, scratch: Path) -> Place:
    """The place at a folder, `s3://bucket/prefix`, or (with `ref`) a git repository's `folder`. Nothing is asked of it yet."""
    if ref is not None:
        from dag_factory.bundle.git_place import GitPlace

        return GitPlace(inventory, ref, folder, conn_id, scratch)
    if folder:
        raise InventoryError(f"Cannot use bundle option folder {folder!r}: no git_ref -> one. It is a folder of a git repository.")
    scheme, place = split_uri(inventory if "://" in inventory else os.path.abspath(inventory))
    if scheme == "file":
        return FolderPlace(Path(place))
    return S3Place(place, conn_id)


def label_of(path: str) -> str:
    """The last part of an address as a plain folder name."""
    name = path.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return name if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) else "inventory"


def is_inventory_file(name: str) -> bool:
    """Whether this name is read, by the same rules as a folder on disk."""
    return name.endswith((".yaml", ".yml")) and not name.startswith(".") and "/" not in name and "\0" not in name


class FolderPlace:
    """A folder on this machine or a mount."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.label = folder, label_of(str(folder.resolve()))

    def read(self, known: Mapping[str, InventoryFile]) -> dict[str, InventoryFile]:
        files = dict(known)
        for _ in range(TRIES):
            stamps = self._settled(files)
            files = {
                name: files[name] if name in files and files[name].stamp == stamp else self._file(name, stamp)
                for name, stamp in stamps.items()
            }
            if all(file.stamp != TORN for file in files.values()):
                return files
        raise UnavailableError(
            f"Cannot read inventory {str(self.folder)!r}: a file changes whenever it is read -> at rest for a moment. Half a file "
            "would remove DAGs. It is tried again."
        )

    def _settled(self, known: Mapping[str, InventoryFile]) -> dict[str, str]:
        """Name → stamp. Editors write a file in several steps (empty it, move it away): what has changed is looked at until it
        stays as it is, or an edit in the middle would remove DAGs for a moment."""
        stamps, same = self._stamps(), 1
        if {name: file.stamp for name, file in known.items()} == stamps:
            return stamps
        for _ in range(PAUSES):
            time.sleep(PAUSE_SECONDS)
            before, stamps = stamps, self._stamps()
            same = same + 1 if before == stamps else 1
            if same == LOOKS_AT_REST:
                break
        return stamps

    def _stamps(self) -> dict[str, str]:
        try:
            with os.scandir(self.folder) as entries:
                names = sorted(entry.name for entry in entries if is_inventory_file(entry.name))
        except FileNotFoundError:
            raise InventoryError(
                f"Cannot read inventory {str(self.folder)!r}: nothing there -> a folder with one YAML file per domain. "
                "Create it, mount it, or correct the bundle's `inventory`."
            ) from None
        except OSError as error:
            raise UnavailableError(
                f"Cannot read inventory {str(self.folder)!r}: {error.strerror or error} -> readable. Without it nobody can tell "
                "which rows there are, so the last good state stays. Check its permissions and its disk; it is tried again."
            ) from error
        stamps = {}
        for name in names:
            try:
                found = os.stat(self.folder / name)
            except FileNotFoundError:
                if os.path.islink(self.folder / name):
                    stamps[name] = f"{FAULT}a symbolic link to nothing"
                continue
            except OSError as error:
                stamps[name] = f"{FAULT}{error.strerror}"
                continue
            stamps[name] = _stamp(found) if stat.S_ISREG(found.st_mode) else f"{FAULT}{NO_FILE}"
        return stamps

    def _file(self, name: str, stamp: str) -> InventoryFile:
        """The file, TORN when it was not at rest. The stamp is kept only when it would tell of any later change."""
        if stamp.startswith(FAULT):
            return InventoryFile.unreadable(name, stamp.removeprefix(FAULT), stamp)
        try:
            # Never waits: opening a pipe for reading would, for ever.
            descriptor = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
                found = os.fstat(descriptor)
        except FileNotFoundError:
            return InventoryFile.of(name, b"", TORN)
        except OSError as error:
            return InventoryFile.unreadable(name, error.strerror or type(error).__name__, "")
        if _stamp(found) != stamp:
            return InventoryFile.of(name, b"", TORN)
        recent = abs(time.time() - found.st_mtime) < SETTLED_SECONDS
        return InventoryFile.of(name, data, "" if recent else stamp)


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


class S3Place:
    """The objects right below `s3://bucket/prefix`."""

    def __init__(self, place: str, conn_id: str | None) -> None:
        self.place, self.conn_id, self.label = place, conn_id, label_of(place)

    @cached_property
    def storage(self) -> S3Storage:
        return S3Storage(self.place, S3Options.of(resolve(self.conn_id) if self.conn_id else None))

    def read(self, known: Mapping[str, InventoryFile]) -> dict[str, InventoryFile]:
        storage = self.storage
        found = {file.path: file for file in storage.walk() if is_inventory_file(file.path)}
        if not found:
            raise InventoryError(
                f"Cannot read inventory s3://{self.place}: no YAML file right below it -> one per domain. "
                "Upload them, or correct the bundle's `inventory`."
            )
        changed = [name for name, file in found.items() if name not in known or known[name].stamp != file.etag]
        with ThreadPoolExecutor(8) as pool:
            data = list(pool.map(lambda name: read_stored(storage, found[name], MAX_BYTES + 1), changed))
        fresh = {name: InventoryFile.of(name, text, found[name].etag) for name, text in zip(changed, data, strict=True)}
        return {name: fresh.get(name) or known[name] for name in found}


def unchanged(files: Mapping[str, InventoryFile], known: Mapping[str, InventoryFile]) -> bool:
    """Whether the content is the same, whatever the stamps say."""
    return _contents(files.values()) == _contents(known.values())


def _contents(files: Iterable[InventoryFile]) -> set[tuple[str, str]]:
    return {(file.name, file.sha256) for file in files}
