"""Files → a folder that others read meanwhile: only what differs is written, each file whole at any moment."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from dag_factory.bundle.files import HASH_DIGITS, Content, Files
from dag_factory.bundle.whole import write_whole

FIRST_LOOK_SECONDS = 2.0
LAST_LOOK_SECONDS = 120.0
LEFT_SECONDS = 3600


def sync_folder(folder: Path, files: Files, shown: Mapping[str, Content] | None = None) -> list[str]:
    """Makes the folder hold exactly these files; returns the relative paths that were written or removed, in that order.

    Data goes before code: a stub's time tells Airflow to parse, and by then the rows beside it are there. Of files that were
    already `shown` here before, only the size is looked at.
    """
    shown = shown or {}
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for path in sorted(files, key=lambda path: (path.endswith(".py"), path)):
        content = files[path]
        if _size(folder / path) == len(content.data) and (shown.get(path) == content or _current(folder / path) == content.data):
            continue
        write_whole(folder / path, content.data)
        changed.append(path)
    for path in _surplus(folder, files):
        (folder / path).unlink(missing_ok=True)
        changed.append(path)
    return changed


def build_folder(folder: Path, files: Files, scratch: Path) -> None:
    """The folder with these files, all at once or not at all. `scratch` is on the same file system. Somebody else who made
    it meanwhile has made the same."""
    scratch.mkdir(parents=True, exist_ok=True)
    for left in scratch.iterdir():  # by one that was killed
        with contextlib.suppress(FileNotFoundError):  # its maker has just finished
            if left.stat().st_mtime < time.time() - LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    fresh = scratch / f"{folder.name}.{secrets.token_hex(8)}"
    fresh.mkdir()
    for path, content in files.items():
        target = fresh / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content.data)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(fresh, folder)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not folder.is_dir():
            raise


def _current(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _time(file: Path) -> float:
    """When it was written; 0 when it is not there."""
    try:
        return file.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return 0.0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1


def _surplus(folder: Path, files: Files) -> list[str]:
    """What is in the folder and should not be. Python's compiled files come and go on their own."""
    found = []
    for file in folder.rglob("*"):
        path = file.relative_to(folder)
        if not file.is_dir() and path.as_posix() not in files and "__pycache__" not in path.parts:
            found.append(path.as_posix())
    return sorted(found, key=lambda path: (not path.endswith(".py"), path))  # code first: nobody parses it without its data


class Unseen:
    """Stubs that were changed and that the DAG processor has not parsed since, as far as it has told.

    Airflow parses a file again when its time is later than the *end* of the last parse. A change in the middle of a parse
    has an earlier time and would be overlooked until the whole fleet's turn, an hour later. So each parse notes what it read
    (`shard.SEEN`), and a stub whose new content nobody has noted gets a new time, sooner at first, then seldom. Of a clock that
    was set back the last parse lies in the future: the new time then lies behind it, until the stub was parsed.
    """

    def __init__(self, folder: Path, notes: Path) -> None:
        self.folder, self.notes = folder, notes
        self._waiting: dict[str, tuple[str, float, float]] = {}

    def changed(self, files: Files, paths: list[str]) -> None:
        """`paths` were just written, or removed when they are not in `files`."""
        for path in paths:
            if path.endswith(".json"):
                if path in files:
                    self._waiting[path] = (
                        files[path].sha256[:HASH_DIGITS],
                        time.monotonic() + FIRST_LOOK_SECONDS,
                        FIRST_LOOK_SECONDS,
                    )
                else:
                    self._waiting.pop(path, None)
                    self._note(path).unlink(missing_ok=True)

    def look(self) -> list[str]:
        """Touches the stubs that are due; returns them."""
        touched = []
        now = time.monotonic()
        for path, (content, due, pause) in list(self._waiting.items()):
            if now < due:
                continue
            stub, note = (self.folder / path).with_suffix(".py"), self._note(path)
            if _current(note) == content.encode():
                del self._waiting[path]
                if stub.stat().st_mtime > time.time():
                    os.utime(stub)  # else Airflow would parse it again and again until then
                continue
            pause = min(2 * pause, LAST_LOOK_SECONDS)
            moment, parsed = time.time(), _time(note)
            if parsed > moment:
                moment = parsed + pause  # a parse ends a while after its note
            os.utime(stub, (moment, moment))
            touched.append(path)
            self._waiting[path] = (content, now + pause, pause)
        return touched

    def _note(self, path: str) -> Path:
        return self.notes / (path.removesuffix("json") + "py").replace("/", "__")
