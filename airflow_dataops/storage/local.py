"""The local file system as a store."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat as stat_module
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from airflow_dataops.core.errors import ConflictError, InventoryError
from airflow_dataops.storage.base import StoredFile
from airflow_dataops.storage.failures import storage_errors
from airflow_dataops.storage.paths import below_root, safe_join

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileSystem


class LocalStorage:
    """A folder. Links inside it are followed only when they stay inside it, and never as folders (a loop would not
    end): a link to a folder is listed as one file, which cannot be opened, so that it is reported, not overlooked."""

    is_local = True

    def __init__(self, root: str) -> None:
        self.root = root

    @property
    def filesystem(self) -> FileSystem:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem()

    def address(self, relative: str) -> str:
        return safe_join(self.root, relative)

    def uri(self, relative: str) -> str:
        from urllib.parse import quote

        return "file://" + quote(safe_join(self.root, relative))

    def walk(self, directory: str = "") -> Iterator[StoredFile]:
        top = safe_join(self.root, directory)
        with storage_errors(f"list folder {top!r}"):
            found = sorted(self._below(top, directory.rstrip("/")))
        yield from found

    def _below(self, folder: str, relative: str) -> Iterator[StoredFile]:
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(entry.path, path)
            else:
                # A file may vanish after the listing: then it is not there. A dangling link stays: it is a fault.
                with contextlib.suppress(FileNotFoundError):
                    yield _stored(path, _stat(entry.path))

    def list(self, directory: str = "") -> Sequence[tuple[str, int]]:
        return [(file.path, file.size) for file in self.walk(directory)]

    def stat(self, relative: str) -> StoredFile | None:
        path = safe_join(self.root, relative)
        with storage_errors(f"look at file {path!r}"):
            try:
                found = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return None if stat_module.S_ISDIR(found.st_mode) else _stored(relative, found)

    def open_stream(self, file: StoredFile) -> BinaryIO:
        path = safe_join(self.root, file.path)
        with storage_errors(f"open file {path!r}"):
            # Never waits: opening a pipe for reading would, for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._check(file, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "rb", buffering=0)

    def open_random(self, file: StoredFile) -> NativeFile:
        import pyarrow as pa

        path = safe_join(self.root, file.path)
        with storage_errors(f"open file {path!r}"):
            self._check(file, os.stat(path))
            return pa.OSFile(path, "rb")

    def _check(self, file: StoredFile, found: os.stat_result) -> None:
        if not stat_module.S_ISREG(found.st_mode):
            raise InventoryError(
                f"Cannot open file {file.path!r}: a folder, link to a folder, pipe or device -> an ordinary file. "
                "Put the file itself there, or exclude the name."
            )
        now = _stored(file.path, found)
        if now.etag != file.etag:
            raise ConflictError(
                f"Cannot read file {file.path!r}: it is {now.etag} now -> {file.etag} (size:mtime:inode) as listed. "
                "It was changed or replaced meanwhile. The retry reads the listing again."
            )

    def put_if_absent(self, source: str, target: str) -> bool:
        path = safe_join(self.root, target)
        folder = os.path.dirname(path)
        with storage_errors(f"put file {path!r}"):
            os.makedirs(folder, exist_ok=True)
            try:
                os.link(safe_join(self.root, source), path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK):
                    raise InventoryError(
                        f"Cannot put file {path!r}: {os.strerror(error.errno)} for a hard link -> "
                        "a file system that has them, within one mount. A plain rename would overwrite. Move the lake."
                    ) from error
                raise
            _sync(folder)
        return True

    def delete_directory(self, directory: str) -> int:
        top = safe_join(self.root, below_root(directory))
        gone = len(self.list(directory))
        with storage_errors(f"delete folder {top!r}"), contextlib.suppress(FileNotFoundError):
            if os.path.islink(top):
                raise InventoryError(f"Cannot delete folder {top!r}: a link -> a folder of our own. Look who made it.")
            shutil.rmtree(top)
        return gone


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return os.lstat(path)


def _stored(path: str, found: os.stat_result) -> StoredFile:
    return StoredFile(path, found.st_size, f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}")


def _sync(folder: str) -> None:
    """The new name must survive a power cut, not only the file's bytes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
