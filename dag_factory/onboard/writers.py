"""One file of an inventory changed where it is kept, so that no two writers lose an edit of each other.

Each way reads the file, lets `change` make the new content, and puts it there only if the file is still the one that was read;
else it begins again. `change` may be called several times; what it raises ends the edit with nothing written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow_dataops.core.errors import BusyError, ConflictError, InventoryError, UnavailableError
from airflow_dataops.storage import storage_errors
from airflow_dataops.storage.failures import error_code
from dag_factory.bundle.git_place import GitPlace
from dag_factory.bundle.places import FolderPlace, Place, S3Place
from dag_factory.inventory.yaml_nodes import MAX_BYTES
from dag_factory.onboard.git_writer import edit_git

Change = Callable[[bytes | None], bytes]
"""Content now (None: no such file) → content after."""

LOCK = ".dataops.lock"
LOCK_SECONDS = 60.0
TRIES = 30
_PROBE = ".dataops_conditional_write"


def edit_file(place: Place, name: str, change: Change, message: str) -> None:
    """Changes the file `name`, right in the place. `message` tells what for, where the place keeps a history.

    ConflictError after many lost races, UnavailableError and InventoryError as the place's `read`.
    """
    if isinstance(place, FolderPlace):
        edit: Callable[[], bool] = _FolderEdit(place.folder, name, change).attempt
    elif isinstance(place, S3Place):
        edit = _S3Edit(place, name, change).attempt
    elif isinstance(place, GitPlace):
        edit = lambda: edit_git(place, name, change, message)  # noqa: E731
    else:
        raise InventoryError(f"Cannot write into the inventory: a {type(place).__name__} -> a folder, an object store or git.")
    for attempt in range(TRIES):
        if edit():
            return
        time.sleep(min(2.0, 0.02 * 2**attempt) * secrets.randbelow(1000) / 1000)
    raise ConflictError(
        f"Cannot write {place.label}/{name}: somebody else changed it {TRIES} times meanwhile -> at rest for a moment. No edit is "
        "lost. It is tried again."
    )


class _FolderEdit:
    """A folder on this machine or a mount. Our own writers wait for each other; an editor of somebody else is noticed by the
    content, which is looked at once more right before it is replaced."""

    def __init__(self, folder: Path, name: str, change: Change) -> None:
        self.folder, self.file, self.change = folder, folder / name, change

    def attempt(self) -> bool:
        try:
            with self._alone():
                return self._edit()
        except OSError as error:
            text = f"Cannot write {str(self.file)!r}: {error.strerror or error} -> a folder that can be written."
            if isinstance(error, PermissionError) or (error.errno is not None and error.errno in _READ_ONLY):
                raise InventoryError(f"{text} Tasks need the right to. Check owner and mode, or edit the file by hand.") from error
            raise UnavailableError(f"{text} The disk may be full or gone. It is tried again.") from error

    def _edit(self) -> bool:
        for left in self.folder.glob(f".{self.file.name}.*"):  # by one of our writers that was killed: the lock is ours
            if _FRESH.fullmatch(left.name.removeprefix(f".{self.file.name}")):
                left.unlink(missing_ok=True)
        before, mode = self._read()
        after = self.change(before)
        if after == before:
            return True
        fresh = self.file.with_name(f".{self.file.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                file.write(after)
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            if before is None:
                try:
                    os.link(fresh, self.file)
                except FileExistsError:
                    return False
            elif self._read()[0] == before:
                os.replace(fresh, self.file)
            else:
                return False
        finally:
            fresh.unlink(missing_ok=True)
        return True

    def _read(self) -> tuple[bytes | None, int | None]:
        """(content, mode bits). Never follows a link: what it leads to is not the inventory's."""
        try:
            descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None, None
        except OSError as error:
            if self.file.is_symlink():
                raise self._no_plain("a link") from error
            raise
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise self._no_plain("no plain file")
            return file.read(MAX_BYTES + 1), stat.S_IMODE(found.st_mode)

    def _no_plain(self, what: str) -> InventoryError:
        return InventoryError(
            f"Cannot write {str(self.file)!r}: {what} -> a plain file. Replacing it would cut it off from where it leads. "
            "Replace it by a plain file, or edit it by hand."
        )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_SECONDS
        with open(os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666), "rb+") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise BusyError(
                            f"Cannot write {str(self.file)!r}: another writer has held {LOCK} for {LOCK_SECONDS:.0f} seconds -> "
                            "it lets go. It is tried again."
                        ) from None
                    time.sleep(0.02)
            yield


_READ_ONLY = (30,)  # EROFS
_FRESH = re.compile(r"\.[0-9a-f]{16}")


class _S3Edit:
    """An object store, by conditional writes."""

    def __init__(self, place: S3Place, name: str, change: Change) -> None:
        self.storage, self.name, self.change = place.storage, name, change
        self._probed = False

    def attempt(self) -> bool:
        client, where = self.storage.client, self._where(self.name)
        with storage_errors(f"read {self.storage.uri(self.name)}"):
            try:
                answer = client.get_object(**where)
                before, etag = answer["Body"].read(MAX_BYTES + 1), answer["ETag"]
            except client.exceptions.ClientError as error:
                if error_code(error) not in ("404", "NoSuchKey"):
                    raise
                before, etag = None, None
        after = self.change(before)
        if after == before:
            return True
        self._probe()
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        return self._put(self.name, after, condition)

    def _probe(self) -> None:
        """A store that knows no If-Match would overwrite another's edit without a word: asked once, with a tag nothing has."""
        if self._probed:
            return
        if self._put(_PROBE, b"", {"IfMatch": '"00000000000000000000000000000000"'}):
            raise self._unconditional()
        self._probed = True

    def _put(self, name: str, data: bytes, condition: dict[str, str]) -> bool:
        client = self.storage.client
        with storage_errors(f"write {self.storage.uri(name)}"):
            try:
                client.put_object(**self._where(name), Body=data, **condition)
            except client.exceptions.ClientError as error:
                match error_code(error):
                    case "PreconditionFailed" | "412" | "ConditionalRequestConflict" | "409" | "NoSuchKey" | "404":
                        return False
                    case "NotImplemented" | "501":
                        raise self._unconditional() from error
                raise
        return True

    def _where(self, name: str) -> dict[str, Any]:
        bucket, _, key = self.storage.address(name).partition("/")
        return {"Bucket": bucket, "Key": key}

    def _unconditional(self) -> InventoryError:
        return InventoryError(
            f"Cannot write {self.storage.uri(self.name)}: this store has no conditional writes -> If-Match. Without them two "
            "writers would lose an edit. Use a store that has them, or edit the inventory by hand."
        )
