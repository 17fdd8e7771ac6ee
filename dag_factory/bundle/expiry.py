"""Which snapshots are deleted: those that nothing can ask for any more.

Kept are the newest version of every bundle in the store, each that Airflow could start or continue a run with (`in_use`), and each
that was the newest within the last `keep_seconds`. A content goes when no kept version has it and nobody has written it for
as long: what is published at this moment by somebody else is never old, because publishing renews what it reuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from dag_factory.bundle.snapshots import Snapshots, blob_name
from dag_factory.bundle.stores import Store

LEFT_SECONDS = 86_400
"""After which half-written files of a process that was killed are deleted."""


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """Names in the store, versions first: a version without all its contents must never be seen."""

    names: tuple[str, ...]


def kept_versions(ages: Mapping[str, float], newest: Set[str], in_use: Set[str], keep_seconds: float) -> set[str]:
    """Of the versions with these ages (seconds), those that stay."""
    return {version for version, age in ages.items() if age < keep_seconds or version in newest or version in in_use}


def plan_expiry(snapshots: Snapshots, in_use: Set[str], keep_seconds: float) -> ExpiryPlan:
    """What can go. `in_use` are the versions that Airflow names. StopError when a snapshot that stays is damaged, and then nothing
    goes; UnavailableError when the store does not answer."""
    store = snapshots.store
    versions = {name.partition("/")[2]: age for name, age in store.ages("versions").items()}
    records = snapshots.newest_of_all()
    kept = kept_versions(versions, {record.version for record in records}, in_use, keep_seconds)
    contents = snapshots.contents_of(kept) | {sha for record in records for sha in record.inventory.values()}
    needed = {blob_name(sha) for sha in contents}
    gone = [f"versions/{version}" for version in sorted(versions.keys() - kept)]
    blobs = store.ages("blobs")
    gone += sorted(name for name, age in blobs.items() if name not in needed and age >= keep_seconds)
    return ExpiryPlan(tuple(gone))


def apply_expiry(plan: ExpiryPlan, store: Store, keep_seconds: float) -> int:
    """Deletes what is still as old as it was planned; returns how many names went."""
    gone = 0
    for name in plan.names:
        age = store.age_seconds(name)
        if age is not None and age >= keep_seconds:
            store.delete(name)
            gone += 1
    store.delete_left(LEFT_SECONDS)
    return gone
