"""The bundle as Airflow knows it: who compiles, who only takes snapshots, and when."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion, get_bundle_version_path

# The DAG processor forks a child per file: imported here once, it is in all of them already.
import dag_factory.render  # noqa: F401
from airflow_dataops.connections import resolve
from airflow_dataops.core.errors import DataOpsError, InventoryError
from airflow_dataops.settings import load_settings
from dag_factory.bundle.compiled import CompiledFleet, InventoryFile, compile_fleet
from dag_factory.bundle.desired import DesiredState
from dag_factory.bundle.expiry import apply_expiry, plan_expiry
from dag_factory.bundle.files import TRACKING, BundleFiles, Files
from dag_factory.bundle.folder import Unseen, build_folder, sync_folder
from dag_factory.bundle.places import Place, open_place, unchanged
from dag_factory.bundle.refusals import FOLDER as REFUSED
from dag_factory.bundle.refusals import Refusal, current_refusals, read_refusals, withhold
from dag_factory.bundle.retirement import TooManyGoneError, with_problem
from dag_factory.bundle.server import SourcePools, is_server
from dag_factory.bundle.shard import SEEN
from dag_factory.bundle.snapshots import Snapshots, version_of
from dag_factory.bundle.stores import open_store
from dag_factory.bundle.units import UnitCache, factory_version
from dag_factory.bundle.whole import write_whole
from dag_factory.loader import DAG_PREFIX
from dag_factory.plan import APPROVALS_DAG_ID, MAINTENANCE_DAG_ID, ONBOARD_DAG_ID

log = logging.getLogger(__name__)

MOST_SHARDS = 4096
MOST_DAYS = 36_525
EXPIRY_SECONDS = 86_400.0
EXPIRY_LOOK_SECONDS = 3_600.0
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
    :param keep_days: how long a version that is not the newest any more is kept, though no DAG and no unfinished run has it.
    :param shards: number of files that the DAGs are spread over. Never change it: every DAG would move.
    :param maintenance_dag_id: the DAG that maintains these rows. Two bundles of one Airflow need two ids.
    :param onboard_dag_id: the DAG that adds rows by a form, likewise; None: there is none.
    :param approvals_dag_id: the DAG that asks about held drift, likewise; None: there is none, and only `dataops drift` asks.
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
        keep_days: int = 30,
        shards: int = 256,
        maintenance_dag_id: str = MAINTENANCE_DAG_ID,
        onboard_dag_id: str | None = ONBOARD_DAG_ID,
        approvals_dag_id: str | None = APPROVALS_DAG_ID,
        **kwargs: Any,
    ) -> None:
        known = ("name", "refresh_interval", "version", "view_url_template")
        super().__init__(**{name: value for name, value in kwargs.items() if name in known})
        self._ignored = sorted(kwargs.keys() - {*known, *_FUTURE_OPTIONS})
        self.inventory, self.conn_id, self.git_ref, self.git_folder = inventory, conn_id, git_ref, git_folder
        self.snapshots_uri, self.snapshots_conn_id, self.shards = snapshots, snapshots_conn_id, shards
        self.keep_days, self._expiry_due = keep_days, 0.0
        self._fleet_dags = {
            "maintenance_dag_id": maintenance_dag_id, "onboard_dag_id": onboard_dag_id, "approvals_dag_id": approvals_dag_id,
        }  # fmt: skip
        self._tracking = self.base_dir / TRACKING
        self._state = self.base_dir / "version"
        self._unseen = Unseen(self._tracking, self.base_dir / SEEN)
        self._cache = UnitCache(self.base_dir / "units")
        self._place: Place | None = None
        self._snapshots: Snapshots | None = None
        self._read: Mapping[str, InventoryFile] = {}  # the place's files as last seen
        self._good: Mapping[str, InventoryFile] | None = None  # the files that the compiled rows come from
        self._files = BundleFiles(shards, maintenance_dag_id, onboard_dag_id, approvals_dag_id)
        self._shown: Files = {}  # what this process last made the watched folder hold
        self._compiled: str | None = None  # the version that `_read` was compiled to
        self._refused: dict[str, Refusal] | None = None  # what that version withholds because Airflow does
        self._foreign: dict[str, str] = {}  # … and because another bundle gives a DAG of that id
        self._dag_ids: Set[str] = frozenset()  # of all good rows, those included
        self._pools = SourcePools()
        self._desired = DesiredState(self.name)

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
            self._desired.settle()
            self._expire()
        except DataOpsError as error:
            if self._local_version() is None:
                raise
            log.error("Cannot refresh bundle %s; its last good state stays. %s", self.name, error)
        self._unseen.look()

    def _refresh(self) -> None:
        files = self._opened_place().read(self._read)
        current = self._local_version()
        refusals, foreign = self._refusals(), self._foreign_dags()
        here = {dag_id: who for dag_id, who in foreign.items() if dag_id in self._dag_ids}
        as_it_was = unchanged(files, self._read) and (refusals, here) == (self._refused, self._foreign)
        if self._compiled is not None and self._compiled == current and as_it_was and self._desired.is_shown():
            self._read = files
            self._pools.keep()
            return
        if self._compiled != current:
            self._shown = {}  # another process has written there since
        good = self._last_good()
        if good and not files:
            raise InventoryError(
                f"Cannot use inventory of bundle {self.name}: not one file -> the {len(good)} files of before. It looks like a "
                "mount that is missing. To remove the last rows, leave a domain file with `sources: []`."
            )
        fleet, settled = self._taken(files, good, foreign.keys())
        self._dag_ids = fleet.rows.keys()
        refused = current_refusals(self.base_dir / REFUSED, refusals, fleet.rows)
        given = {dag_id: who for dag_id, who in foreign.items() if dag_id in fleet.rows and fleet.rows[dag_id].enabled}
        fleet = withhold(fleet, refused | {dag_id: _given_elsewhere(dag_id, who) for dag_id, who in given.items()})
        self._pools.make(fleet)
        made = self._files.make(fleet)
        version, _ = version_of(made, factory_version())
        # First where everybody can reach it, then where Airflow sees it: a run may be pinned to it a moment later.
        self._opened_snapshots().publish(made, factory_version(), fleet.good)
        self._show(made, version)
        if version != current:
            self._tell(fleet, version)
        self._read, self._good, self._compiled = settled, fleet.good, version
        self._refused = {dag_id: refusals[dag_id] for dag_id in refused}
        self._foreign = {dag_id: who for dag_id, who in foreign.items() if dag_id in self._dag_ids}

    def _taken(
        self, files: Mapping[str, InventoryFile], good: Mapping[str, InventoryFile], foreign: Set[str]
    ) -> tuple[CompiledFleet, Mapping[str, InventoryFile]]:
        """(the fleet, the files that need no second look), with what became of rows that are gone or renamed. An edit that takes
        away too much leaves the last good files as they are, with one error beside them."""
        label = self._opened_place().label
        try:
            return self._desired.take(compile_fleet(files, label, self._cache, good), foreign), files
        except TooManyGoneError as error:
            if not good:
                raise
            log.error("%s", error)
            return self._desired.take(with_problem(compile_fleet(good, label, self._cache), label, str(error)), foreign), {}

    def _refusals(self) -> dict[str, Refusal]:
        """What parses have noted. Everything is tried again once in the life of a process: a policy may have changed."""
        folder = self.base_dir / REFUSED
        if self._refused is None:
            shutil.rmtree(folder, ignore_errors=True)
        return read_refusals(folder)

    def _foreign_dags(self) -> dict[str, str]:
        if not is_server():
            return {}
        from dag_factory.bundle.airflow_database import foreign_dags

        return foreign_dags(self.name, DAG_PREFIX)

    def _expire(self) -> None:
        """Once a day, one of all DAG processors deletes the snapshots that nothing can ask for any more."""
        if time.monotonic() < self._expiry_due or not is_server():
            return
        self._expiry_due = time.monotonic() + EXPIRY_LOOK_SECONDS
        snapshots, done = self._opened_snapshots(), f"expired/{self.name}"
        age = snapshots.store.age_seconds(done)
        if age is not None and age < EXPIRY_SECONDS:
            return
        from dag_factory.bundle.airflow_dags import versions_in_use

        keep_seconds = self.keep_days * 86_400.0
        with self.lock():
            gone = apply_expiry(plan_expiry(snapshots, versions_in_use(), keep_seconds), snapshots.store, keep_seconds)
            snapshots.store.put(done, b"looked")
        log.info("Bundle %s: %s old snapshots deleted", self.name, gone)

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
        if not isinstance(self.keep_days, int) or isinstance(self.keep_days, bool) or not 2 <= self.keep_days <= MOST_DAYS:
            raise InventoryError(
                f"Cannot use keep_days {self.keep_days!r} of bundle {self.name}: -> 2 to {MOST_DAYS}. Correct the bundle."
            )
        if not isinstance(self.shards, int) or isinstance(self.shards, bool) or not 1 <= self.shards <= MOST_SHARDS:
            raise InventoryError(
                f"Cannot use shards {self.shards!r} of bundle {self.name}: -> 1 to {MOST_SHARDS}. Correct the bundle."
            )
        for option, dag_id in self._fleet_dags.items():
            if dag_id is None and option != "maintenance_dag_id":
                continue
            if not isinstance(dag_id, str) or not re.fullmatch(r"(?!ingest__)[a-z][a-z0-9_]{0,199}", dag_id):
                raise InventoryError(
                    f"Cannot use {option} {dag_id!r} of bundle {self.name}: -> a small letter, then small letters, digits and `_`; "
                    "`ingest__` begins the DAGs of rows. A file is named after it. Correct the bundle."
                )
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", self.name):
            raise InventoryError(
                f"Cannot use bundle name {self.name!r}: -> letters, digits, `_`, `.` and `-`. Files are named after it. Rename it."
            )
        if self._ignored:
            log.warning("Bundle %s: unknown options %s are ignored; check their spelling", self.name, ", ".join(self._ignored))
            self._ignored = []


def _given_elsewhere(dag_id: str, who: str) -> str:
    return (
        f"gives DAG {dag_id}, which comes from {who} already -> from one place only. Airflow knows one DAG of an id, and two would "
        "change hands at every parse. Remove the row here, or the DAG there"
    )
