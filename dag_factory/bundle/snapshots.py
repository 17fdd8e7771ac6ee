"""The bundle's files by version. The version is a hash of the files and of the factory that made them: it alone, and a store,
give exactly the same files anywhere, at any time.

    versions/<version>      {"factory": …, "files": {path: sha256}}
    blobs/ab/abcdef…        a file's content by its sha256: a new version costs only what is new in it
    latest/<bundle>         {"version": …, "inventory": {name: sha256}}: where a component begins that knows no version yet,
                            and the last good text of every inventory file
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from airflow_dataops.core.errors import InventoryError, StopError
from dag_factory.bundle.compiled import InventoryFile
from dag_factory.bundle.files import Content, Files
from dag_factory.bundle.stores import Store

RENEW_SECONDS = 86_400.0
"""What is older is written again when it is published again; well below the least time that anything is kept."""
VERSION = re.compile(r"[0-9a-f]{40}\Z")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest version of a bundle, and the last good inventory files by name (sha256)."""

    version: str
    inventory: Mapping[str, str] = field(default_factory=dict)


def version_of(files: Files, factory: str) -> tuple[str, bytes]:
    """(version, manifest) of a bundle's files."""
    paths = {path: content.sha256 for path, content in files.items()}
    manifest = json.dumps({"factory": factory, "files": paths}, sort_keys=True).encode()
    return hashlib.sha256(manifest).hexdigest()[:40], manifest


class Snapshots:
    """The snapshots of one bundle in a store. StopError when stored content is not what its name says."""

    def __init__(self, store: Store, bundle: str) -> None:
        self.store, self.bundle = store, bundle
        self._stored: set[str] = set()
        self._stored_until = 0.0

    def publish(self, files: Files, factory: str, inventory: Mapping[str, InventoryFile]) -> str:
        """Keeps the files and says that they are the newest; returns their version. What is pointed at is stored first."""
        version, manifest = version_of(files, factory)
        contents = {content.sha256: content.data for content in files.values()}
        contents |= {file.sha256: file.data for file in inventory.values()}
        if time.monotonic() > self._stored_until:
            self._stored = set()  # another bundle's expiry may have taken what was old
            self._stored_until = time.monotonic() + RENEW_SECONDS / 2
        self._each(self._put_blob, [(sha, data) for sha, data in contents.items() if sha not in self._stored])
        self._stored = set(contents)
        self._renew(f"versions/{version}", manifest)
        self._renew_replaced(version)
        record = {"version": version, "inventory": {name: file.sha256 for name, file in sorted(inventory.items())}}
        self.store.put(f"latest/{self.bundle}", json.dumps(record, sort_keys=True).encode())
        return version

    def latest(self) -> Latest | None:
        """The newest version; None when nothing was ever published."""
        found = self.store.get(f"latest/{self.bundle}")
        return None if found is None else self._record(f"latest/{self.bundle}", found)

    def newest_of_all(self) -> tuple[Latest, ...]:
        """The newest versions of all bundles that share the store."""
        names = sorted(self.store.ages("latest"))
        found = ((name, self.store.get(name)) for name in names)
        return tuple(self._record(name, data) for name, data in found if data is not None)

    def contents_of(self, versions: Iterable[str]) -> set[str]:
        """sha256 of every file of these versions; of those that the store has."""
        manifests = self._each(self.store.get, [f"versions/{version}" for version in versions])
        try:
            return {sha for manifest in manifests if manifest is not None for sha in json.loads(manifest)["files"].values()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged("versions/…", "a list of files that cannot be read") from error

    def _record(self, name: str, data: bytes) -> Latest:
        try:
            record = json.loads(data)
            latest = Latest(str(record["version"]), {str(n): str(s) for n, s in record["inventory"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(name, "no record that can be read") from error
        if not VERSION.match(latest.version):
            raise self._damaged(name, "no version")
        return latest

    def files(self, version: str) -> Files:
        """The files of a version. InventoryError when the store does not have it."""
        if not VERSION.match(version):
            raise InventoryError(
                f"Cannot rebuild version {version!r} of bundle {self.bundle}: no such form -> 40 hexadecimal digits. It was "
                "made by another kind of bundle. Clear the run with the latest version."
            )
        manifest = self.store.get(f"versions/{version}")
        if manifest is None:
            raise InventoryError(
                f"Cannot rebuild version {version} of bundle {self.bundle}: not in the snapshot store -> there. Every component "
                "needs the same `snapshots` place. Versions go after `keep_days` once no DAG has them and no run of them is under "
                "way. Check the bundle's `snapshots`, or clear the run with the latest version."
            )
        if hashlib.sha256(manifest).hexdigest()[:40] != version:
            raise self._damaged(f"versions/{version}", "another content")
        paths = json.loads(manifest)["files"]
        contents = map(Content, self._each(self._blob, paths.values()), paths.values())
        return dict(zip(paths, contents, strict=True))

    def inventory(self, latest: Latest) -> dict[str, InventoryFile]:
        """The last good inventory files of a record."""
        data = self._each(self._blob, latest.inventory.values())
        return {name: InventoryFile.of(name, text) for name, text in zip(latest.inventory, data, strict=True)}

    def _put_blob(self, blob: tuple[str, bytes]) -> None:
        sha, data = blob
        self._renew(blob_name(sha), data)

    def _renew(self, name: str, data: bytes) -> None:
        """Stores it, also when it is there and so old that an expiry could be about to take it."""
        age = self.store.age_seconds(name)
        if age is None or age > RENEW_SECONDS:
            self.store.put(name, data)

    def _renew_replaced(self, version: str) -> None:
        """A version's age counts from when it was the newest for the last time."""
        before = self.store.get(f"latest/{self.bundle}")
        if before is None:
            return
        replaced = self._record(f"latest/{self.bundle}", before).version
        manifest = self.store.get(f"versions/{replaced}") if replaced != version else None
        if manifest is not None:
            self._renew(f"versions/{replaced}", manifest)

    def _blob(self, sha: str) -> bytes:
        name = blob_name(sha)
        data = self.store.get(name)
        if data is None or hashlib.sha256(data).hexdigest() != sha:
            raise self._damaged(name, "nothing" if data is None else "another content")
        return data

    def _each(self, call: Callable[[T], R], items: Iterable[T]) -> list[R]:
        todo = list(items)
        if self.store.parallel == 1 or len(todo) < 2:
            return [call(item) for item in todo]
        with ThreadPoolExecutor(self.store.parallel) as pool:
            return list(pool.map(call, todo))

    def _damaged(self, name: str, found: str) -> StopError:
        return StopError(
            f"Cannot use snapshot {name} of bundle {self.bundle}: {found} -> the bytes that its name stands for. Going on could "
            "run something else than what was planned. Restore it from a backup, or delete it: a newer version is compiled anew."
        )


def blob_name(sha: str) -> str:
    """Where a content is stored. InventoryError for what is no sha256."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha):
        raise InventoryError(f"Cannot use snapshot content {sha!r}: no sha256 -> 64 hexadecimal digits. The record is damaged.")
    return f"blobs/{sha[:2]}/{sha}"
