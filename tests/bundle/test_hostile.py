"""Files and rows that mean harm, or that nobody meant: each is its own error, and the others go on. Bounded in time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dag_factory.bundle import InventoryBundle
from dag_factory.bundle.places import FolderPlace
from tests.bundle.fleet import Site, active, domain, row

A, B, MAINTENANCE = "ingest__sales__a", "ingest__sales__b", "dataops_maintenance"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "main"))
    monkeypatch.setenv("AIRFLOW__DATAOPS__LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    made = Site(tmp_path)
    made.write(sales=domain(row("a"), row("b")))
    return made


def started(site: Site) -> InventoryBundle:
    bundle = site.bundle()
    bundle.initialize()
    return bundle


def told(bundle: InventoryBundle) -> list[str]:
    return [json.loads(file.read_text())["message"] for file in sorted((bundle.path / "errors").glob("*.json"))]


BOMB = "a: &a [1, 1]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(22))
DEEP = "sources: " + "[" * 100_000


def test_every_file_is_its_own_error(site: Site) -> None:
    folder = site.inventory
    os.mkfifo(folder / "pipe.yaml")
    with (folder / "huge.yaml").open("wb") as huge:
        huge.truncate(100_000_000)
    (folder / "bomb.yaml").write_text(BOMB)
    (folder / "deep.yaml").write_text(DEEP)
    (folder / "latin.yaml").write_bytes(domain(row("a", "description: Grüße")).encode("latin-1"))
    (folder / "wide.yaml").write_bytes(domain(row("a")).encode("utf-16"))
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    (folder / "nowhere.yaml").symlink_to("/no/such/place")
    (folder / "old.yml").write_text("sources: []\n")
    (folder / "Sales Data.yaml").write_text(domain(row("a")))
    (folder / "../outside.yaml").resolve().write_text(domain(row("x")))
    (folder / "folder.yaml").mkdir()
    bundle = started(site)
    assert active(bundle.path) == {A, B, MAINTENANCE}
    faults = {
        "pipe.yaml": "a folder, pipe or device", "folder.yaml": "a folder, pipe or device",
        "huge.yaml": "at most 10000000 are read", "bomb.yaml": "expands to more than 1000000",
        "deep.yaml": "nested deeper than 40", "latin.yaml": "not UTF-8", "wide.yaml": "not UTF-8",
        "loop.yaml": "Too many levels of symbolic links", "nowhere.yaml": "a symbolic link to nothing",
        "old.yml": "files end in .yaml", "Sales Data.yaml": "which is no id",
    }  # fmt: skip
    texts = told(bundle)
    for name, fault in faults.items():
        (text,) = (text for text in texts if f"Cannot use file inventory/{name}: 1 problem" in text)
        assert fault in text, text
    assert len(texts) == len(faults)


@pytest.mark.parametrize("how", ["loop", "nowhere", "pipe", "folder"])
def test_a_file_that_cannot_be_read_keeps_its_rows(how: str, site: Site) -> None:
    site.write(web=domain(row("x")), platform="pools: {pg: 3}\n")
    bundle = started(site)
    for name in ("web", "platform"):
        file = site.inventory / f"{name}.yaml"
        file.unlink()
        match how:
            case "loop":
                file.symlink_to(file)
            case "nowhere":
                file.symlink_to("/no/such/place")
            case "pipe":
                os.mkfifo(file)
            case "folder":
                file.mkdir()
    site.write(sales=domain(row("a"), row("b"), row("c")))
    for machine in ("main", "another"):  # and one that was never up while the file was whole
        with site.machine(machine):
            bundle = started(site) if machine == "another" else bundle
            bundle.refresh()
            bundle.refresh()
            assert active(bundle.path) == {A, B, "ingest__sales__c", "ingest__web__x", MAINTENANCE}
            assert {text.partition(": 1 problem")[0] for text in told(bundle)} == {
                "Cannot use file inventory/platform.yaml",
                "Cannot use file inventory/web.yaml",
            }
            assert all(b'"slots":3' in file.read_bytes() for file in bundle.path.glob("shard_*.json"))
    for name in ("web", "platform"):
        (site.inventory / f"{name}.yaml").rename(site.inventory / f"{name}.gone")
    bundle.refresh()
    assert active(bundle.path) == {A, B, "ingest__sales__c", MAINTENANCE} and told(bundle) == []


LIMITED = """
import resource, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from dag_factory.bundle.places import FolderPlace
from tests.bundle.fleet import compiled
from dag_factory.bundle.compiled import compile_fleet
from dag_factory.bundle.units import UnitCache
began = time.process_time()
fleet = compile_fleet(FolderPlace(Path({folder!r})).read({{}}), "inventory", UnitCache(Path({cache!r})))
print(len(fleet.rows), len(fleet.problems), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, time.process_time() - began)
"""


@pytest.mark.parametrize(
    "what", ["bytes", "anchors", pytest.param("one id", marks=pytest.mark.soak), pytest.param("one line", marks=pytest.mark.soak)]
)
def test_memory_is_bounded(what: str, tmp_path: Path) -> None:
    """In a process of its own: 100 MB of text, 60,000 aliases, 10,000 rows with one id, 800,000 rows in one line."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "sales.yaml").write_text(domain(row("a")))
    if what == "bytes":
        (folder / "big.yaml").write_text("sources:\n" + "  - {name: a, description: " + "x" * 100_000_000 + "}\n")
    elif what == "anchors":
        rows = "".join(f"  - *r{n % 9}\n" for n in range(60_000))
        anchors = "".join(
            f"  - &r{n} {{name: r{n}, kind: sql, conn_id: pg, owner: o, tags: [{', '.join('t' * 9)}]}}\n" for n in range(9)
        )
        (folder / "big.yaml").write_text("sources:\n" + anchors + rows)
    elif what == "one id":
        (folder / "big.yaml").write_text(domain(*[row("a")] * 10_000))
    else:
        (folder / "big.yaml").write_text("sources: [" + "{name: a}, " * 800_000 + "]\n")
    script = LIMITED.format(root=str(Path(__file__).parents[2]), folder=str(folder), cache=str(tmp_path / "cache"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows_found, problems, peak, _ = map(float, done.stdout.split())
    assert rows_found == (2 if what == "one id" else 1) and problems >= 1
    assert peak < 700, f"{peak} MB"


def test_ten_thousand_rows_into_one_table_are_one_dag(site: Site) -> None:
    """Each claims the same target: the first has it, and nothing takes the square of their number."""
    same = "tables: [orders]"
    site.write(sales=domain(*(row(f"r{n}", same, database="one") for n in range(600))))
    bundle = started(site)
    assert active(bundle.path) == {"ingest__sales__r0", MAINTENANCE}
    assert len(list((bundle.path / "errors").glob("*.py"))) == 500


def test_thousands_of_files(site: Site) -> None:
    for n in range(3000):
        (site.inventory / f"d{n}.yaml").write_text("sources: []\n" if n % 100 else domain(row("r", database=f"d{n}")))
    bundle = started(site)
    assert len(active(bundle.path)) == 30 + len({A, B, MAINTENANCE})


@pytest.fixture
def vanishing(site: Site) -> Iterator[Path]:
    """A file that comes and goes all the time."""
    file, stop = site.inventory / "web.yaml", threading.Event()

    def flicker() -> None:
        while not stop.wait(0.0005):
            file.write_text(domain(row("x")))
            file.unlink()

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        yield file
    finally:
        stop.set()
        thread.join()


def test_a_file_that_vanishes_while_it_is_read(site: Site, vanishing: Path) -> None:
    place = FolderPlace(site.inventory)
    for _ in range(20):
        files = place.read({})
        assert files["sales.yaml"].data == (site.inventory / "sales.yaml").read_bytes()
        assert "web.yaml" not in files or files["web.yaml"].data == domain(row("x")).encode()
    assert vanishing.parent == site.inventory
