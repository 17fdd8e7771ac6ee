"""The project as a project: the lock, the entry points, the wheel, and what may not stand in any file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^\s;\\]+)")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins() -> dict[str, list[tuple[Version, int]]]:
    """Canonical name -> [(version, number of hashes)]; a name has several versions when they depend on the platform."""
    found: dict[str, list[tuple[Version, int]]] = {}
    entries = re.split(r"\n(?=\S)", LOCK.read_text())
    for entry in entries:
        if not entry.startswith("#"):
            match = PIN.match(entry)
            assert match, f"not an exact pin: {entry.splitlines()[0]}"
            hashes = entry.count("--hash=sha256:")
            found.setdefault(canonicalize_name(match["name"]), []).append((Version(match["version"]), hashes))
    return found


def asked(project: dict[str, Any]) -> Iterator[Requirement]:
    """Every dependency the project names, in every extra and group."""
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    for text in (*project["project"]["dependencies"], *(text for part in (*extras, *groups) for text in part)):
        yield Requirement(text)


def test_lock_answers_every_dependency(project: dict[str, Any]) -> None:
    locked = pins()
    stale = []
    for requirement in asked(project):
        versions = [version for version, _ in locked.get(canonicalize_name(requirement.name), [])]
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            stale.append(f"{requirement}: lock has {[*map(str, versions)]}")
    assert stale == [], "run `make lock`"


def test_lock_is_hashed_and_names_no_address() -> None:
    assert [name for name, entries in pins().items() for _, hashes in entries if not hashes] == []
    text = LOCK.read_text()
    assert [line for line in text.splitlines() if re.search(r"://|\s@\s|^-|--(index|find-links|trusted)", line)] == []


def test_lock_leaves_out_what_the_design_refuses() -> None:
    assert {"pandas", "polars", "s3fs"} & set(pins()) == set()


def test_celery_stays_below_the_version_that_breaks_its_provider() -> None:
    assert all(version < Version("5.7") for version, _ in pins()["celery"])


def test_this_environment_is_the_locked_one() -> None:
    """Otherwise every other result speaks of something else than what is released."""
    from importlib.metadata import distributions

    locked = pins()
    other = [
        f"{found.name} {found.version}"
        for found in distributions(path=[path for path in sys.path if path.endswith("site-packages")])
        if (entries := locked.get(canonicalize_name(found.name)))
        and Version(found.version) not in [version for version, _ in entries]
    ]
    assert other == [], "run `make setup`"


def test_entry_points_resolve(project: dict[str, Any]) -> None:
    points = {(point.group, point.name): point for point in distribution("airflow-dataops").entry_points}
    declared = {
        ("console_scripts", "dataops"): project["project"]["scripts"]["dataops"],
        **{
            (group, name): value
            for group, entries in project["project"]["entry-points"].items()
            for name, value in entries.items()
        },
    }
    assert {key: point.value for key, point in points.items()} == declared, "touch pyproject.toml and run `make setup`"
    assert [key for key, point in points.items() if not callable(point.load())] == []
    info = points["apache_airflow_provider", "provider_info"].load()()
    assert info["package-name"] == "airflow-dataops"


def files() -> list[str]:
    """What is in git or would be added to it; every file outside hidden folders when this is no checkout."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return sorted(path for path in listed.split("\0") if path and (ROOT / path).is_file())
    walked = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return sorted(path for path in walked if not path.startswith(".") and "__pycache__" not in path)


# Spelled in pieces, so that this file keeps its own rule.
HOSTS = ["pypi" + ".org", "python" + "hosted", "registry." + "npmjs", "proxy." + "golang", "repo1." + "maven"]
HOSTS += ["repo.maven." + "apache", "crates" + ".io", "conda." + "anaconda"]
FOLDERS = "|".join(["wo" + "rk", "ro" + "ot", "opt/" + "wheels", r"home/[a-z]\w*"])
MACHINE = re.compile(rf"(?<![\w.}}~/>-])/(?:{FOLDERS})(?=[/\s\"'`:,)]|$)", re.MULTILINE)


def faults(text: str) -> list[str]:
    return [host for host in HOSTS if host in text] + [match[0] for match in MACHINE.finditer(text)]


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found = {}
    for path in files():
        text = (ROOT / path).read_bytes().decode("utf-8", errors="ignore")
        if faulty := faults(text):
            found[path] = sorted(set(faulty))
    assert found == {}


@pytest.mark.parametrize("text", ["see https://" + HOSTS[0] + "/simple", "cd /wo" + "rk/main", 'open("/ro' + 'ot/x")'])
def test_a_forbidden_name_is_seen(text: str) -> None:
    assert faults(text)


@pytest.mark.parametrize("text", ["s3://lake/work/x", "a/root/b", "$base/work/", "./work", "/workspace", "<root>/x"])
def test_an_innocent_path_is_not(text: str) -> None:
    assert faults(text) == []


def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    """Migrations, schemas and YAML travel with the code."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {path for path in files() if path.startswith(("airflow_dataops/", "dag_factory/"))}
    assert wheel.name.startswith("airflow_dataops-")


def test_make_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "run", "fleet", "test", "soak", "bench", "lint", "lock", "clean"):
        assert re.search(rf"^\s*make {target}\s+\S", shown, re.MULTILINE), target


def test_what_python_compiles_is_kept() -> None:
    """Images of containers often forbid it, and then each process compiles all of Airflow again."""
    command = ["make", "--no-print-directory", "--eval=shown: ; @env", "shown"]
    forbidden = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    shown = subprocess.run(command, cwd=ROOT, env=forbidden, capture_output=True, text=True, check=True).stdout
    names = {line.partition("=")[0] for line in shown.splitlines()}
    assert "PATH" in names and "PYTHONDONTWRITEBYTECODE" not in names
    assert os.environ.get("PYTHONDONTWRITEBYTECODE") is None, "nor in a run of pytest without make"


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^exec make test </dev/null$", script.read_text(), re.MULTILINE)
    assert "set -euo pipefail" in script.read_text()


def test_compose_opens_nothing_to_the_network() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    published = {port for service in services.values() for port in service.get("ports", [])}
    assert published and all(port.startswith("127.0.0.1:") for port in published)
    assert [name for name, service in services.items() if ":" not in service["image"]] == [], "an image without a tag"


def test_licence_is_complete() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
