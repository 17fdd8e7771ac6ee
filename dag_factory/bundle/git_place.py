"""An inventory in a git repository at a ref, read by the `git` program: no work tree, no checkout, nothing of it is run."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from airflow_dataops.connections import resolve
from airflow_dataops.core.errors import InventoryError, UnavailableError
from airflow_dataops.storage.paths import check_relative
from dag_factory.bundle.compiled import InventoryFile
from dag_factory.bundle.places import is_inventory_file, label_of
from dag_factory.inventory.yaml_nodes import MAX_BYTES

FETCH_SECONDS = 120
LINK = "link"
"""Stamp of what is never followed."""
_REF = re.compile(r"(?!-)[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}\Z")
_SECRET = re.compile(r"//[^/@\s]*@")


class GitPlace:
    """`folder` of a repository at `ref`: a branch, a tag, or a commit that the server gives out. `url` is what `git fetch` takes:
    https, ssh, or a path. The login of an https address comes from the connection, never from the address."""

    def __init__(self, url: str, ref: str, folder: str, conn_id: str | None, scratch: Path) -> None:
        if _SECRET.search(url) and not url.startswith("ssh://"):
            raise InventoryError(
                "Cannot use a git address: it holds a login -> none. Addresses stand in logs and configurations. Put the login "
                "into an Airflow connection and name it in the bundle's `conn_id`."
            )
        if url.startswith("-") or not url.strip():
            raise InventoryError(f"Cannot use git address {url!r}: an option -> an https or ssh address, or a path. Correct it.")
        if not _REF.match(ref) or ".." in ref:
            raise InventoryError(f"Cannot use git ref {ref!r}: no such form -> a branch, tag or commit. Correct `git_ref`.")
        self.url, self.ref, self.conn_id = url, ref, conn_id
        self.folder = check_relative(folder.strip("/"))
        self.label = label_of(folder or url)
        self.repository = scratch

    def fetch(self) -> str:
        """Brings the ref's newest commit here, to a ref of our own that is returned: FETCH_HEAD would be shared with whoever
        else fetches here."""
        if not (self.repository / "HEAD").is_file():
            shutil.rmtree(self.repository, ignore_errors=True)
            self.repository.mkdir(parents=True)
            self.git("init", "--bare", "--quiet", ".")
        mine = "refs/dataops/inventory"
        self.git("fetch", "--quiet", "--depth=1", "--no-tags", "--force", "--", self.url, f"{self.ref}:{mine}")
        return mine

    def read(self, known: Mapping[str, InventoryFile]) -> dict[str, InventoryFile]:
        mine = self.fetch()
        listed = self.git("ls-tree", "-z", f"{mine}:{self.folder}")
        found = {}
        for entry in listed.split(b"\0"):
            head, _, name = entry.partition(b"\t")
            mode, kind, sha = [*head.decode().split(), "", "", ""][:3]
            text = name.decode("utf-8", "backslashreplace")
            if kind == "blob" and is_inventory_file(text):
                found[text] = LINK if mode == "120000" else sha
        return {
            name: known[name] if name in known and known[name].stamp == sha else self._file(name, sha)
            for name, sha in sorted(found.items())
        }

    def _file(self, name: str, sha: str) -> InventoryFile:
        if sha == LINK:
            return InventoryFile.unreadable(name, "a symbolic link, which may point anywhere on this machine", LINK)
        return InventoryFile.of(name, self.git("cat-file", "blob", sha)[: MAX_BYTES + 1], sha)

    def git(self, *words: str, text: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
        """What one `git` command says, with `text` as its input. UnavailableError, without a secret, when it fails."""
        command = ("git", "--git-dir", str(self.repository), *words)
        try:
            done = subprocess.run(
                command, cwd=self.repository, env=self._environment() | dict(environment or {}), input=text, capture_output=True,
                timeout=FETCH_SECONDS, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise InventoryError(
                "Cannot use an inventory in git: no `git` program -> one on the PATH of this machine. Install it."
            ) from None
        except subprocess.TimeoutExpired:
            raise UnavailableError(
                f"Cannot use an inventory in git: no answer in {FETCH_SECONDS} seconds -> an answer. It is tried again."
            ) from None
        if done.returncode:
            said = _SECRET.sub("//", done.stderr.decode("utf-8", "replace").strip())[-500:]
            raise UnavailableError(
                f"Cannot use inventory in git at {self.ref!r}, folder {self.folder!r}: `git {words[0]}` ended with "
                f"{done.returncode} ({said}) -> 0. Check address, ref, folder and login; it is tried again."
            )
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """Never asks a person, never runs a helper that an address names; the login travels in the environment, which other
        users cannot see, not in the command line, which they can."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        env |= {
            "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:http:https:ssh:git", "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"), "LC_ALL": "C",
        }  # fmt: skip
        if self.conn_id:
            login = resolve(self.conn_id)
            token = base64.b64encode(f"{login.login or ''}:{login.password or ''}".encode()).decode()
            env |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "http.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {token}",
            }
        return env
