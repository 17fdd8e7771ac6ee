"""An inventory as it was at a git revision: read out of the repository's objects, the work tree is not touched."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from airflow_dataops.core.errors import InventoryError
from dag_factory.inventory import Inventory, read_inventory


class NoRevisionError(InventoryError):
    """What was named is neither a folder nor a revision of the repository that holds the inventory."""


def inventory_at(folder: str, against: str) -> Inventory:
    """The inventory to compare `folder` with. `against` is another folder, if there is one of this name, else a revision of
    the git repository that `folder` lies in; a revision in which the folder did not exist has an empty inventory.

    NoRevisionError when there is neither; InventoryError when git cannot be asked.
    """
    if os.path.isdir(against):
        return read_inventory(against)
    with _checked_out(Path(folder).resolve(), against) as copy:
        return read_inventory(copy)


@contextlib.contextmanager
def _checked_out(folder: Path, revision: str) -> Iterator[Path]:
    """A private copy of the folder's YAML files at that revision, under the folder's own name."""
    commit = _commit(folder, revision)
    prefix = _git(folder, "rev-parse", "--show-prefix").decode("utf-8", "surrogateescape").rstrip("\n")
    with tempfile.TemporaryDirectory(prefix="dataops-plan-") as place:
        copy = Path(place) / (folder.name or "inventory")
        copy.mkdir()
        # The folder as a tree of its own: names are relative to it, and those below it are told apart by their slash.
        tree = f"{commit}:{prefix.rstrip('/')}"
        if _git_answers(folder, "cat-file", "-e", tree):
            for mode, name, content in _files(folder, tree):
                if mode == "120000":
                    raise InventoryError(
                        f"Cannot read {name} at revision {revision}: a symbolic link -> a plain file. What it points to is not "
                        "part of the revision. Compare with a folder instead: `--against PATH`."
                    )
                (copy / name).write_bytes(content)
        yield copy


def _commit(folder: Path, revision: str) -> str:
    inside = _git_answers(folder, "rev-parse", "--is-inside-work-tree")
    if not inside:
        raise NoRevisionError(
            f"Cannot compare with {revision!r}: {folder} lies in no git repository that can be read, and there is no such folder "
            "-> a revision, or another folder. Name the folder to compare with: `--against PATH`."
        )
    # `--end-of-options`: whatever the revision is called, it is none of git's options.
    found = _run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        raise NoRevisionError(
            f"Cannot compare with {revision!r}: neither a folder nor a commit of the repository -> one of them, such as HEAD, a "
            "branch, or a path. In a shallow clone other commits are not there: fetch them first."
        )
    return found.stdout.decode().strip()


def _files(folder: Path, tree: str) -> Iterator[tuple[str, str, bytes]]:
    """(mode, name, content) of the YAML files directly in the tree."""
    listed = []
    for entry in filter(None, _git(folder, "ls-tree", "-z", "--full-tree", tree).split(b"\0")):
        about, _, raw = entry.partition(b"\t")
        mode, kind, digest = about.decode().split()
        name = os.fsdecode(raw)
        if kind == "blob" and name.endswith((".yaml", ".yml")) and "/" not in name:
            listed.append((mode, name, digest))
    answer = _git(folder, "cat-file", "--batch", given="".join(f"{digest}\n" for _, _, digest in listed).encode())
    at = 0
    for mode, name, _ in listed:
        end = answer.index(b"\n", at)
        size = int(answer[at:end].split()[2])
        yield mode, name, answer[end + 1 : end + 1 + size]
        at = end + 1 + size + 1


def _git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    done = _run(folder, *arguments, given=given)
    if done.returncode:
        said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[-1]
        raise InventoryError(f"Cannot read the inventory from git: `git {arguments[0]}` said: {said} -> its files. Correct it.")
    return done.stdout


def _git_answers(folder: Path, *arguments: str) -> bool:
    return _run(folder, *arguments).returncode == 0


def _run(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    # No locks, no question at the terminal, no object fetched from elsewhere: this only looks.
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
    try:
        command = ["git", "-C", os.fspath(folder), *arguments]
        return subprocess.run(command, input=given, capture_output=True, env=environ, check=False)
    except FileNotFoundError:
        raise InventoryError(
            "Cannot read the inventory from git: no program `git` on the PATH -> git. Revisions are read with it. Install it, or "
            "compare with a folder: `--against PATH`."
        ) from None
