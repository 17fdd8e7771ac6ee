"""What the files of the bundle call when Airflow parses them.

A task's own parse reads one line of its shard and builds one DAG, however large the fleet is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

from airflow_dataops.core.errors import InventoryError
from airflow_dataops.core.platform import PlatformSpec
from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.settings import load_settings
from dag_factory.bundle.files import HASH_DIGITS, TRACKING
from dag_factory.bundle.refusals import FOLDER as REFUSED
from dag_factory.bundle.refusals import note_refusal
from dag_factory.inventory import Inventory
from dag_factory.plan import plan_maintenance

SEEN = "seen"
"""Folder beside the bundle's path: which content of each file was parsed last (`folder.Unseen`)."""

log = logging.getLogger(__name__)


def load_shard(namespace: MutableMapping[str, Any]) -> None:
    """Puts the DAG of each enabled row of the shard into `namespace`, a module's `globals()`; in a task only its own. A row
    that cannot become a DAG after all is left out and noted for the next refresh (`refusals`): an error of this file would be
    one of all its DAGs."""
    from dag_factory.render import render, wanted_dag_id

    data = _content(namespace)
    wanted = wanted_dag_id()
    platform, texts = read_shard(data, wanted)
    if wanted is not None:
        for mine in map(PipelineSpec.model_validate_json, texts):
            if mine.enabled:
                namespace[mine.dag_id] = render(mine, platform, source_pools=True)
        return
    from dag_factory.acceptance import accepted

    watched = _watched(Path(namespace["__file__"]))
    for text in texts:
        row: PipelineSpec | None = None
        try:
            row = PipelineSpec.model_validate_json(text)
            if row.enabled:
                namespace[row.dag_id] = accepted(partial(render, row, platform, source_pools=True))
        except Exception as error:
            log.exception("Cannot make a DAG of row %s…: %s. Its neighbours are not affected.", text[:80].decode(), error)
            if watched is not None and row is not None:
                note_refusal(watched / REFUSED, row.dag_id, text, error)


def load_maintenance(namespace: MutableMapping[str, Any], approvals_dag_id: str | None = None) -> None:
    """Puts the fleet's DAG of maintenance into `namespace`; its id is the file's name. `approvals_dag_id`: the DAG that asks about
    held drift of these rows, if there is one. Its tasks read the rows of the bundle they
    run in, and that is always the newest: rows that came after this file was parsed want maintenance too."""
    from dag_factory.render import render_maintenance, wanted_dag_id

    file = Path(namespace["__file__"])
    if wanted_dag_id() in (None, file.stem):
        plan = plan_maintenance(load_settings().maintenance_schedule, file.stem, approvals_dag_id)
        dag = render_maintenance(plan, lambda: read_bundle(file.parent))
        dag.disable_bundle_versioning = True
        namespace[dag.dag_id] = dag


def load_approvals(namespace: MutableMapping[str, Any]) -> None:
    """Puts the DAG that asks about held drift into `namespace`; its id is the file's name. It, too, reads the newest rows."""
    from dag_factory.render import render_approvals, wanted_dag_id

    file = Path(namespace["__file__"])
    if wanted_dag_id() in (None, file.stem):
        namespace[file.stem] = render_approvals(lambda: read_bundle(file.parent), file.stem)


def load_onboard(namespace: MutableMapping[str, Any]) -> None:
    """Puts the DAG of onboarding into `namespace`; its id is the file's name."""
    from dag_factory.onboard import loader  # every other file of the bundle, and every task, does without

    loader.load_onboard(namespace)


def raise_error(namespace: MutableMapping[str, Any]) -> None:
    """Raises the InventoryError that stands beside the file: Airflow shows it as this file's import error, and only its."""
    raise InventoryError(json.loads(_content(namespace))["message"])


def read_bundle(folder: Path) -> Inventory:
    """All good rows of a bundle's folder, those not enabled included, in order of their ids."""
    platform = PlatformSpec()
    rows: list[PipelineSpec] = []
    for file in sorted(folder.glob("shard_*.json")):
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            continue  # its last row was removed meanwhile
        platform, found = read_shard(data, None)
        rows += map(PipelineSpec.model_validate_json, found)
    return Inventory(str(folder), tuple(sorted(rows, key=lambda row: row.id)), (), platform)


def read_shard(data: bytes, wanted: str | None) -> tuple[PlatformSpec, Iterator[bytes]]:
    """(platform, rows as JSON) of a shard's content; of a `wanted` DAG only its row, or none."""
    head = data.index(b'\n"rows": {\n')
    platform = PlatformSpec.model_validate_json(data[len(b'{"platform": ') : head].rstrip(b","))
    return platform, _rows(data, head + len(b'\n"rows": {'), wanted)


def _rows(data: bytes, start: int, wanted: str | None) -> Iterator[bytes]:
    # JSON has no line break inside a text, so only the factory can begin a line.
    begin = b"\n" + (f'"{wanted}": '.encode() if wanted is not None else b'"')
    at = data.find(begin, start)
    while at >= 0:
        end = data.index(b"\n", at + 1)
        yield data[data.index(b'": ', at + 1) + 3 : end].removesuffix(b",")
        at = data.find(begin, end) if wanted is None else -1


def _content(namespace: MutableMapping[str, Any]) -> bytes:
    """The file beside the stub. In the folder that the DAG processor watches it also notes which content was parsed."""
    stub = Path(namespace["__file__"])
    data = stub.with_suffix(".json").read_bytes()
    watched = _watched(stub)
    if watched is not None and (seen := watched / SEEN).is_dir():
        note = seen / stub.relative_to(watched / TRACKING).as_posix().replace("/", "__")
        try:
            note.write_text(hashlib.sha256(data).hexdigest()[:HASH_DIGITS])
        except OSError as error:  # only a second look at the file comes of it
            log.warning("Cannot note that %s was parsed: %s", stub, error)
    return data


def _watched(stub: Path) -> Path | None:
    """The bundle's own folder, when this is a parse by the DAG processor: not by a task, and not of a pinned version."""
    top = next((folder for folder in stub.parents[:2] if folder.name == TRACKING), None)
    return None if top is None or "_AIRFLOW_PARSING_CONTEXT_DAG_ID" in os.environ else top.parent
