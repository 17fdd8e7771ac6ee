"""A line of code knows its room (DESIGN §3): who may import whom, read from the source, over the whole tree."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EDGES = ("sources", "transport", "lake", "catalog", "ledger")
FACES = ("hooks", "operators", "triggers", "plugins")
# pyarrow that opens files or sockets; what is left works in memory.
ARROW_IO = ("pyarrow.fs", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.flight", "pyarrow.orc", "pyarrow.feather")
# The standard library's ways to the outside, the clock and chance.
IMPURE = (
    "asyncio", "glob", "http", "io.open", "logging.config", "multiprocessing", "os", "pathlib.Path", "random",
    "secrets", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading",
    "time", "urllib.request", "uuid.uuid1", "uuid.uuid4",
)  # fmt: skip
IMPURE_CALLS = {"now", "today", "utcnow", "uuid1", "uuid4"}  # as attributes: datetime.now(), date.today()
CLIENTS = (
    "adbc_driver_manager", "adbc_driver_postgresql", "adbc_driver_sqlite", "alembic", "boto3", "botocore",
    "confluent_kafka", "duckdb", "fastavro", "psycopg", "psycopg2", "pymysql", "sqlalchemy", "sqlite3",
)  # fmt: skip
UNWANTED = ("pandas", "polars", "s3fs")
STDLIB = frozenset(sys.stdlib_module_names)


@dataclass(frozen=True)
class Room:
    """What one layer may import: our own modules by prefix, other packages by list, and never what `bans` says."""

    ours: tuple[str, ...]
    others: tuple[str, ...] | None = None  # None: any package that is not banned
    bans: tuple[str, ...] = ()
    airflow: bool = False
    server: bool = False  # a server component of Airflow: its settings, models and sessions too
    exceptions: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _mine(*names: str) -> tuple[str, ...]:
    return tuple(f"airflow_dataops.{name}" for name in names)


_BASES = _mine(*(f"{edge}.base" for edge in EDGES))
_ALL_EDGES = _mine(*EDGES)
_GROUND = _mine("core", "formats", "storage")
_IN_MEMORY = ("pyarrow", "numpy", "pydantic", "xxhash")

ROOMS: dict[str, Room] = {
    "airflow_dataops/core": Room(_mine("core"), _IN_MEMORY, ARROW_IO + IMPURE),
    "airflow_dataops/formats": Room(_GROUND),
    "airflow_dataops/storage": Room(_GROUND),
    **{f"airflow_dataops/{edge}": Room((*_GROUND, f"airflow_dataops.{edge}")) for edge in EDGES},
    "airflow_dataops/steps": Room(
        (*_mine("core", "steps", "telemetry"), *_BASES), (*_IN_MEMORY, "orjson", "tenacity"), ARROW_IO + CLIENTS
    ),
    **{f"airflow_dataops/{face}": Room(("airflow_dataops",), bans=CLIENTS, airflow=True) for face in FACES},
    # Modules of the package itself (settings, telemetry, provider info) belong to no room that decides or runs.
    "airflow_dataops": Room((*_GROUND, *_ALL_EDGES, "airflow_dataops")),
    "dag_factory": Room(
        ("airflow_dataops", "dag_factory"),
        bans=_mine(*FACES, "steps", *EDGES, "formats", "storage"),
    ),
    "dag_factory/render.py": Room(("airflow_dataops", "dag_factory"), bans=CLIENTS, airflow=True),
    # The bundle reads inventories and keeps snapshots where `storage` reaches; one of its files is Airflow's.
    "dag_factory/bundle": Room(("airflow_dataops", "dag_factory"), bans=_mine(*FACES, "steps", *EDGES, "formats")),
    "dag_factory/bundle/airflow_bundle.py": Room(
        ("airflow_dataops", "dag_factory"), bans=_mine(*FACES, "steps", *EDGES, "formats", "storage"), airflow=True
    ),
    # What is retired and renamed is the ledger's to know (ADR 12).
    **{
        f"dag_factory/bundle/{file}": Room(
            ("airflow_dataops", "dag_factory"),
            bans=_mine(*FACES, "steps", *(e for e in EDGES if e != "ledger"), "formats", "storage"),
        )
        for file in ("desired.py", "retirement.py")
    },
    "dag_factory/bundle/airflow_dags.py": Room(("dag_factory",), airflow=True, server=True),
    # In the DAG processor only, and only these: never a task, never a DAG file.
    "dag_factory/bundle/airflow_database.py": Room(("airflow_dataops",), bans=_mine(*FACES), airflow=True, server=True),
    "dag_factory/acceptance.py": Room((), others=(), airflow=True, server=True),
    # Onboarding writes where the bundle reads; one of its files is Airflow's.
    "dag_factory/onboard": Room(("airflow_dataops", "dag_factory"), bans=_mine(*FACES, "steps", *EDGES, "formats")),
    "dag_factory/onboard/render.py": Room(("airflow_dataops", "dag_factory"), bans=CLIENTS, airflow=True),
    # The doctor asks every system whether it answers; one of its files reads Airflow's configuration.
    "dag_factory/doctor": Room(("airflow_dataops", "dag_factory"), bans=_mine(*FACES, "steps", "sources")),
    "dag_factory/doctor/airflow_facts.py": Room(("dag_factory.doctor",), bans=CLIENTS, airflow=True),
    "dag_factory/local.py": Room(("airflow_dataops", "dag_factory"), bans=_mine(*FACES)),
    "dag_factory/local": Room(("airflow_dataops", "dag_factory"), bans=_mine(*FACES)),
    "dag_factory/cli": Room(("airflow_dataops", "dag_factory"), bans=_mine(*FACES)),
    # `airflow dataops …` is made from the same table of commands (DESIGN §2).
    "dag_factory/cli/under_airflow.py": Room(("dag_factory",), others=(), airflow=True),
    "dag_factory/sample.py": Room(("airflow_dataops", "dag_factory"), bans=_mine(*FACES)),
    # The sample's Airflow itself: forked into its components.
    "dag_factory/sample_components.py": Room(("dag_factory.sample_database",), others=(), airflow=True),
    "dag_factory/deployment/component.py": Room(("dag_factory.sample_components",), others=(), airflow=True),
    "dags": Room(("dag_factory",), others=()),
}
WORDS_TO_AVOID = ("common", "helper", "helpers", "impl", "manager", "managers", "misc", "util", "utils")
MOST_LINES = 500


def room_of(path: str) -> str:
    """The most precise entry of ROOMS that holds this file, '' when none does."""
    parts = path.split("/")
    return next((name for n in range(len(parts), 0, -1) if (name := "/".join(parts[:n])) in ROOMS), "")


def imports(tree: ast.Module, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import anywhere in the file, late ones included; relative ones resolved."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def under(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def refusal(room: Room, name: str) -> str | None:
    """Why this room may not import this name; None when it may."""
    top = name.partition(".")[0]
    if under(name, UNWANTED):
        return "is not a dependency of this project"
    if top == "airflow":
        if not room.airflow:
            return "is Airflow, outside its rooms"
        if not room.server and under(name, ("airflow.models", "airflow.utils", "airflow.settings")):
            return "is deprecated in Airflow 3 or reaches its database"
        return None
    if under(name, room.bans):
        return "is banned here"
    if top in ("airflow_dataops", "dag_factory", "dags", "tests", "benchmarks"):
        return None if under(name, room.ours) else "is a room that this one may not know"
    if top in STDLIB or room.others is None or under(name, room.others):
        return None
    return "is not in this room's list of packages"


def violations(root: Path) -> list[str]:
    """Every broken rule under a tree, as `file:line: what`."""
    found: list[str] = []
    for top in ("airflow_dataops", "dag_factory", "dags"):
        for file in sorted((root / top).rglob("*.py")):
            path = file.relative_to(root).as_posix()
            room = ROOMS.get(room_of(path))
            text = file.read_text(encoding="utf-8")
            tree = ast.parse(text, path)
            module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            if room is None or (path.count("/") > 1 and room_of(path) == "airflow_dataops"):
                found.append(f"{path}:1: belongs to no room of DESIGN §3")
                continue
            for line, name in imports(tree, module, path.endswith("__init__.py")):
                if why := refusal(room, name):
                    found.append(f"{path}:{line}: {name} {why}")
            found += habits(path, tree)
    for file in sorted(root.rglob("*")):
        path = file.relative_to(root).as_posix()
        if file.is_file() and file.suffix in (".py", ".sh", ".toml", ".yaml", ".yml") and not hidden(path):
            lines = len(file.read_text(encoding="utf-8").splitlines())
            if lines > MOST_LINES and not path.startswith("tests/cases/"):
                found.append(f"{path}:{lines}: has more than {MOST_LINES} lines")
    for package in ("airflow_dataops", "dag_factory"):
        for folder in sorted((root / package).rglob("*")):
            path = folder.relative_to(root).as_posix()
            if not folder.is_dir() or folder.name == "__pycache__" or path in ROOMS:
                continue  # the rooms themselves are given by the design, however small
            content = [entry for entry in folder.iterdir() if entry.name != "__pycache__"]
            # An empty __init__.py is not a subject.
            if len([entry for entry in content if entry.is_dir() or entry.stat().st_size]) < 2:
                found.append(f"{path}:1: is a folder with fewer than two files")
    return found


def habits(path: str, tree: ast.Module) -> Iterator[str]:
    """Rules about one file of the product that ruff does not know."""
    words = path.removesuffix(".py").replace("/", "_").lower().split("_")
    if bad := [word for word in words if word in WORDS_TO_AVOID]:
        yield f"{path}:1: name says nothing: {bad[0]}"
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.Name) and node.id == "NotImplementedError":
            yield f"{path}:{line}: NotImplementedError in the product"
        if isinstance(node, ast.Assert):
            yield f"{path}:{line}: assert as validation"
        if isinstance(node, ast.ClassDef) and node.name.lower().endswith(WORDS_TO_AVOID):
            yield f"{path}:{line}: class name says nothing: {node.name}"
        if isinstance(node, ast.ExceptHandler) and all(isinstance(step, ast.Pass) for step in node.body):
            yield f"{path}:{line}: exception swallowed"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.endswith("suppress") and {"Exception", "BaseException"} & set(map(ast.unparse, node.args)):
                yield f"{path}:{line}: exception swallowed"
            impure = called == "open" or ("." in called and called.rpartition(".")[2] in IMPURE_CALLS)
            if impure and path.startswith("airflow_dataops/core/"):
                yield f"{path}:{line}: {called}() is I/O, the clock or chance"


def hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.split("/"))


def test_every_file_keeps_to_its_room() -> None:
    assert violations(ROOT) == []


CASES = {
    "core touches a file": ("airflow_dataops/core/a.py", "import pyarrow.parquet as pq", "pyarrow.parquet is banned"),
    "core touches it late": ("airflow_dataops/core/a.py", "def f():\n    from pyarrow import fs", ":2: pyarrow.fs is"),
    "core asks for today": ("airflow_dataops/core/a.py", "import datetime as d\nx = d.date.today()", "the clock"),
    "core opens a file": ("airflow_dataops/core/a.py", "x = open('x')", "open() is I/O"),
    "core reads the clock": ("airflow_dataops/core/a.py", "import time", "time is banned"),
    "core draws lots": ("airflow_dataops/core/a.py", "from random import random", "random.random is banned"),
    "core knows an edge": ("airflow_dataops/core/a.py", "from ..lake import base", "lake.base is a room"),
    "core knows a client": ("airflow_dataops/core/a.py", "import sqlalchemy", "sqlalchemy is not in this room's list"),
    "an edge knows another": ("airflow_dataops/lake/a.py", "import airflow_dataops.ledger.sql", "is a room"),
    "an edge knows Airflow": ("airflow_dataops/lake/a.py", "from airflow.sdk import DAG", "is Airflow, outside"),
    "ground knows an edge": ("airflow_dataops/formats/a.py", "from airflow_dataops.sources.base import X", "is a room"),
    "a step knows more than base": ("airflow_dataops/steps/a.py", "from airflow_dataops.lake.s3 import X", "is a room"),
    "a step knows a client": ("airflow_dataops/steps/a.py", "import boto3", "boto3 is banned"),
    "old Airflow": ("airflow_dataops/hooks/a.py", "from airflow.models import Variable", "is deprecated"),
    "the plan knows Airflow": ("dag_factory/plan.py", "import airflow", "is Airflow, outside"),
    "the plan knows a step": ("dag_factory/plan.py", "from airflow_dataops.steps import load", "is banned"),
    "a DAG file knows a step": ("dags/a.py", "from airflow_dataops.steps import load", "is a room"),
    "pandas": ("airflow_dataops/sources/a.py", "import pandas as pd", "is not a dependency"),
    "a room of its own": ("airflow_dataops/misfits/a.py", "x = 1", "belongs to no room"),
    "a drawer": ("airflow_dataops/core/date_utils.py", "x = 1", "name says nothing: utils"),
    "a manager": ("airflow_dataops/core/a.py", "class LakeManager: ...", "class name says nothing"),
    "a stub": ("airflow_dataops/core/a.py", "def f():\n    raise NotImplementedError", "NotImplementedError"),
    "an assert": ("dag_factory/plan.py", "assert 1", "assert as validation"),
    "swallowed": ("dag_factory/plan.py", "try:\n    f()\nexcept ValueError:\n    pass", ":3: exception swallowed"),
    "suppressed": ("dag_factory/plan.py", "with contextlib.suppress(Exception): f()", "exception swallowed"),
    "too long": ("airflow_dataops/core/a.py", "\n" * 501, "has more than 500 lines"),
    "alone": ("airflow_dataops/core/deep/a.py", "x = 1", "core/deep:1: is a folder with fewer than two files"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_rule_is_seen(name: str, tmp_path: Path) -> None:
    path, text, expected = CASES[name]
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert [found for found in violations(tmp_path) if expected in found]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("airflow_dataops/core/a.py", "import pyarrow as pa, pyarrow.compute, numpy, datetime\nfrom . import b"),
        ("airflow_dataops/lake/a.py", "import boto3\nfrom ..storage import x\nfrom .base import Lake"),
        ("airflow_dataops/steps/a.py", "from ..lake.base import Lake\nfrom ..core import spec"),
        ("airflow_dataops/operators/a.py", "from airflow.sdk import BaseOperator\nfrom ..steps import load"),
        ("dag_factory/render.py", "from airflow.sdk import DAG\nfrom airflow_dataops.operators.load import X"),
        ("dag_factory/local.py", "from airflow_dataops.steps import load"),
        ("dags/a.py", "from dag_factory.loader import load"),
    ],
)
def test_what_is_allowed_is_not_refused(path: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    (file.parent / "second.py").write_text("x = 1")
    assert [found for found in violations(tmp_path) if "second.py" not in found] == []


def test_parsing_a_dag_imports_no_data_plane_library() -> None:
    """`render` is what every DAG file loads; Airflow itself is not charged to us."""
    code = (
        "import sys; from airflow.sdk import DAG, BaseOperator; before = set(sys.modules); import dag_factory.render; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    heavy = {*CLIENTS, "pyarrow", "numpy", "zstandard"} & set(done.stdout.split())
    assert heavy == set()
