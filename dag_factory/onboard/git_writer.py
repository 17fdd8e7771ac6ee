"""One file of a branch changed by a commit of its own: made without a work tree, pushed only onto the commit it was made from."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from airflow_dataops.core.errors import InventoryError, UnavailableError
from dag_factory.bundle.git_place import GitPlace

COMMITTER = "dataops_onboard"
_RACES = ("stale info", "fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref", "incorrect old value")


def edit_git(place: GitPlace, name: str, change: Callable[[bytes | None], bytes], message: str) -> bool:
    """Whether the edit is on the branch; False when somebody else was first. InventoryError when the ref is no branch, or when
    the server refuses the commit."""
    branch = f"refs/heads/{place.ref.removeprefix('refs/heads/')}"
    mine = place.fetch()
    base = place.git("rev-parse", f"{mine}^{{commit}}").decode().strip()
    if _sha_of(place, branch) is None:
        raise InventoryError(
            f"Cannot write into the inventory in git at {place.ref!r}: no branch of this name -> a branch. Tags and commits do not "
            "move. Name a branch in the bundle's `git_ref`, or edit the inventory by hand."
        )
    path = f"{place.folder}/{name}" if place.folder else name
    before, mode = _blob(place, base, path)
    after = change(before)
    if after == before:
        return True
    commit = _commit(place, base, path, mode, after, message)
    # No hook of this machine's templates is run.
    words = ("push", "--no-verify", f"--force-with-lease={branch}:{base}", "--", place.url, f"{commit}:{branch}")
    try:
        place.git(*words)
    except UnavailableError as error:
        now = _sha_of(place, branch)
        if now == commit:
            return True  # it is there; only the answer was lost
        if now != base or any(race in str(error) for race in _RACES):
            return False
        if "remote rejected" in str(error):
            raise InventoryError(
                f"Cannot push to branch {place.ref!r}: the server refuses it ({str(error)[-300:]}) -> a branch that this login may "
                "push to. It may be protected. Give the login the right, or choose another branch."
            ) from error
        raise
    return True


def _commit(place: GitPlace, base: str, path: str, mode: str, data: bytes, message: str) -> str:
    blob = place.git("hash-object", "-w", "--stdin", text=data).decode().strip()
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", COMMITTER), ("EMAIL", f"{COMMITTER}@localhost"))}  # fmt: skip
    index = place.repository / f"index.{secrets.token_hex(8)}"
    own = who | {"GIT_INDEX_FILE": str(index)}
    try:
        place.git("read-tree", base, environment=own)
        place.git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", environment=own)
        tree = place.git("write-tree", environment=own).decode().strip()
    finally:
        index.unlink(missing_ok=True)
    return place.git("commit-tree", tree, "-p", base, "-F", "-", text=message.encode(), environment=own).decode().strip()


def _blob(place: GitPlace, commit: str, path: str) -> tuple[bytes | None, str]:
    """(content, mode) of a file; (None, mode of a new one) when there is none."""
    listed = place.git("ls-tree", "-z", commit, "--", path).partition(b"\t")[0].decode().split()
    if not listed:
        return None, "100644"
    mode, kind, sha = listed
    if kind != "blob" or mode == "120000":
        raise InventoryError(
            f"Cannot write {path!r} in git: a link or folder -> a plain file. Nothing outside the inventory is written. Replace it."
        )
    return place.git("cat-file", "blob", sha), mode


def _sha_of(place: GitPlace, branch: str) -> str | None:
    listed = place.git("ls-remote", "--", place.url, branch).decode().split()
    return listed[0] if listed else None
