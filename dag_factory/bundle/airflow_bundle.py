"""The bundle as Airflow knows it: who compiles, who only takes snapshots, and when."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion, get_bundle_version_path

# The DAG processor forks a child per file: imported here once, it is in all of them already.
import dag_factory.render  # noqa: F401
from airflow_dataops.connections import resolve
from airflow_dataops.core.errors import DataOpsError, InventoryError
from airflow_dataops.settings import load_settings
from dag_factory.bundle.compiled import CompiledFleet, InventoryFile, compile_fleet
from dag_factory.bundle.files import TRACKING, BundleFiles, Files
from dag_factory.bundle.folder import Unseen, build_folder, sync_folder
from dag_factory.bundle.places import Place, open_place, unchanged
from dag_factory.bundle.shard import SEEN
from dag_factory.bundle.snapshots import Snapshots, version_of
from dag_factory.bundle.stores import open_store
from dag_factory.bundle.units import UnitCache, factory_version
from dag_factory.bundle.whole import write_whole

log = logging.getLogger(__name__)

MOST_SHARDS = 4096
_FUTURE_OPTIONS = ("version_data", "dag_id", "team_name")
"""What later releases of Airflow pass; nothing is needed of it."""


class InventoryBundle(BaseDagBundle):
    """The DAGs of an inventory.

    `refresh`, which only the DAG processor calls, compiles and publishes; everybody else takes a snapshot: of the pinned
    version, or the newest. The constructor does no I/O; Airflow makes bundles in every process, often.

    :param inventory: folder, `s3://bucket/prefix`, or (with `git_ref`) what `git fetch` takes. Unset: the setting `inventory`.
    :param conn_id: Airflow connection for it (S3: type aws; git over https: login and password).
    :param git_ref: branch, tag or commit. :param git_folder: folder of the repository.
    :param snapshots: folder or `s3://…` that all components reach. Unset: below the bundle storage path of this machine.
    :param snapshots_conn_id: Airflow connection for it.
    :param shards: number of files that the DAGs are spread over. Never change it: every DAG would move.
    """

    supports_versioning = True

    def __init__(
        self,
        *,
        inventory: str | None = None,
        conn_id: str | None = None,
        git_ref: str | None = None,
        git_folder: str = "",
        snapshots: str | None = None,
        snapshots_conn_id: str | None = None,
        shards: int = 256,
        **kwargs: Any,
    ) -> None:
        known = ("name", "refresh_interval", "version", "view_url_template")
        super().__init__(**{name: value for name, value in kwargs.items() if name in known})
        self._ignored = sorted(kwargs.keys() - {*known, *_FUTURE_OPTIONS})
        self.inventory, self.conn_id, self.git_ref, self.git_folder = inventory, conn_id, git_ref, git_folder
        self.snapshots_uri, self.snapshots_conn_id, self.shards = snapshots, snapshots_conn_id, shards
        self._tracking = self.base_dir / TRACKING
        self._state = self.base_dir / "version"
        self._unseen = Unseen(self._tracking, self.base_dir / SEEN)
        self._cache = UnitCache(self.base_dir / "units")
        self._place: Place | None = None
        self._snapshots: Snapshots | None = None
        self._read: Mapping[str, InventoryFile] = {}  # the place's files as last seen
        self._good: Mapping[str, InventoryFile] | None = None  # the files that the compiled rows come from
        self._files = BundleFiles(shards)
        self._shown: Files = {}  # what this process last made the watched folder hold
        self._compiled: str | None = None  # the version that `_read` was compiled to

    @property
    def path(self) -> Path:
        """The folder that the DAG processor watches, or that of the pinned version."""
        return get_bundle_version_path(self.name, self.version) if self.version else self._tracking

    def initialize(self) -> None:
        """Makes `path` exist with the right content. Idempotent, and nobody waits for a lock when it is there already."""
        if not self.is_initialized:
            self._check_options()
            if self.version:
                self._take_version(self.version)
            else:
                self._take_latest()
        super().initialize()

    def get_current_version(self) -> BundleVersion | None:
        """The version of what `path` holds."""
        version = self.version or self._local_version()
        return BundleVersion(version=version) if version else None

    def refresh(self) -> None:
        """Reads the inventory and compiles what is new in it. When it cannot be read or published, the last good state stays,
        and the log says why; it is raised only when there is no such state."""
        if self.version:
            raise InventoryError(
                f"Cannot refresh bundle {self.name}: pinned to {self.version} -> no version. A version never changes."
            )
        self._check_options()
        try:
            with self.lock():
                self._refresh()
        except DataOpsError as error:
            if self._local_version() is None:
                raise
            log.error("Cannot refresh bundle %s; its last good state stays. %s", self.name, error)
        self._unseen.look()

    def _refresh(self) -> None:
        files = self._opened_place().read(self._read)
        current = self._local_version()
        if self._compiled is not None and self._compiled == current and unchanged(files, self._read):
            self._read = files
            return
        if self._compiled != current:
            self._shown = {}  # another process has written there since
        good = self._last_good()
        if good and not files:
            raise InventoryError(
                f"Cannot use inventory of bundle {self.name}: not one file -> the {len(good)} files of before. It looks like a "
                "mount that is missing. To remove the last rows, leave a domain file with `sources: []`."
            )
        fleet = compile_fleet(files, self._opened_place().label, self._cache, good)
        made = self._files.make(fleet)
        version, _ = version_of(made, factory_version())
        # First where everybody can reach it, then where Airflow sees it: a run may be pinned to it a moment later.
        self._opened_snapshots().publish(made, factory_version(), fleet.good)
        self._show(made, version)
        if version != current:
            self._tell(fleet, version)
        self._read, self._good, self._compiled = files, fleet.good, version

    def _take_version(self, version: str) -> None:
        if self.path.is_dir():
            return
        files = self._opened_snapshots().files(version)
        # No lock: whoever comes first makes it whole, and all make the same.
        build_folder(self.path, files, self.base_dir / "building")

    def _take_latest(self) -> None:
        snapshots = self._opened_snapshots()
        try:
            latest = snapshots.latest()
            if latest is None:
                self.refresh()
            elif latest.version != self._local_version() or not self._tracking.is_dir():
                with self.lock():
                    latest = snapshots.latest()
                    if latest is not None and latest.version != self._local_version():
                        self._show(snapshots.files(latest.version), latest.version)
        except DataOpsError as error:
            if self._local_version() is None or not self._tracking.is_dir():
                raise
            log.error("Cannot take the newest version of bundle %s; the local state stays. %s", self.name, error)

    def _show(self, files: Files, version: str) -> None:
        (self.base_dir / SEEN).mkdir(parents=True, exist_ok=True)
        shown, self._shown = self._shown, {}  # nothing is known of the folder if this fails
        self._unseen.changed(files, sync_folder(self._tracking, files, shown))
        self._shown = files
        write_whole(self._state, version.encode())

    def _last_good(self) -> Mapping[str, InventoryFile]:
        """The files of the last good state: of this process, or of the newest snapshot after a restart."""
        if self._good is None:
            snapshots = self._opened_snapshots()
            latest = snapshots.latest()
            self._good = snapshots.inventory(latest) if latest is not None else {}
        return self._good

    def _local_version(self) -> str | None:
        try:
            return self._state.read_text(encoding="ascii")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _tell(self, fleet: CompiledFleet, version: str) -> None:
        log.info("Bundle %s has version %s: %s rows, %s problems", self.name, version, len(fleet.rows), len(fleet.problems))
        for problem in fleet.problems[:20]:
            log.warning("%s", problem)

    def _opened_place(self) -> Place:
        if self._place is None:
            self._place = open_place(
                self.inventory or load_settings().inventory, conn_id=self.conn_id, ref=self.git_ref, folder=self.git_folder,
                scratch=self.base_dir / "git",
            )  # fmt: skip
        return self._place

    def _opened_snapshots(self) -> Snapshots:
        if self._snapshots is None:
            uri = self.snapshots_uri or str((self.base_dir / "snapshots").absolute())
            connection = resolve(self.snapshots_conn_id) if self.snapshots_conn_id else None
            self._snapshots = Snapshots(open_store(uri, connection), self.name)
        return self._snapshots

    def _check_options(self) -> None:
        if not isinstance(self.shards, int) or isinstance(self.shards, bool) or not 1 <= self.shards <= MOST_SHARDS:
            raise InventoryError(
                f"Cannot use shards {self.shards!r} of bundle {self.name}: -> 1 to {MOST_SHARDS}. Correct the bundle."
            )
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", self.name):
            raise InventoryError(
                f"Cannot use bundle name {self.name!r}: -> letters, digits, `_`, `.` and `-`. Files are named after it. Rename it."
            )
        if self._ignored:
            log.warning("Bundle %s: unknown options %s are ignored; check their spelling", self.name, ", ".join(self._ignored))
            self._ignored = []
