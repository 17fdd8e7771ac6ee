"""An edited file that is read by its changed rows only gives exactly what reading it whole gives."""

from __future__ import annotations

import random
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dag_factory.bundle import compiled as compiling
from dag_factory.bundle.compiled import compile_fleet
from dag_factory.bundle.known_rows import Cut, KnownRows
from dag_factory.bundle.units import Unit, UnitCache, read_unit
from dag_factory.inventory.reader import read_shared
from tests.bundle.fleet import domain, files, row

HEADS = [
    "sources:\n",
    "version: 1\ndefaults: {tags: [a]}\nsources:  # all of them\n\n",
    "defaults:\n  target: {table: all}\n  tables: [orders]\nsources:\n# first\n",
    "defaults: {schedule: oops}\nsources:\n",
    'defaults: {description: "over\n\nsources:\n  - {name: inside}\n"}\nsources:\n',
]
ROWS = [
    "- {{name: {n}, kind: sql, conn_id: pg, owner: o, target: {{database: d_{n}}}}}\n",
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  target: {{database: d_{n}}}\n  tables: [orders]\n\n# about the next\n",
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  target: {{database: same}}\n  tables: [orders]\n",
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  target: {{database: d_{n}}}\n  description: |+\n    - name: no row\n\n",
    '- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  target: {{database: d_{n}}}\n  description: "two\n    lines"\n',
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  scheduel: x\n",
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  read: {{cursor: unused}}\n  target: {{database: d_{n}}}\n",
    "- {{name: Bad Id, kind: sql, conn_id: pg, owner: o}}\n",
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  target: {{database: d_{n}}}\n  # password: hunter2hunter2\n",
    "-\n  name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  target: {{database: d_{n}}}\n",
    "- &x {{name: {n}, kind: sql, conn_id: pg, owner: o, target: {{database: d_{n}}}}}\n",
    "- *x\n",
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  description: 'open\n  target: {{database: d_{n}}}\n",
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  description: closed'\n  target: {{database: d_{n}}}\n",
    "- name: {n}\n  kind: sql\n  conn_id: pg\n  owner: o\n  tables: [a,\n- b]\n",
    "- name: {n}\n  renamed_from: r1\n  kind: sql\n  conn_id: pg\n  owner: o\n  target: {{database: d_{n}}}\n",
    "- name: {n}\n  name: twice\n  kind: sql\n  conn_id: pg\n  owner: o\n",
    "- just text\n  that goes on\n",
    "- [a, list]\n",
    "---\n",
]
TAILS = ["", "\n# the end\n", "domain: sales\n", "  - name: deeper\n", "sources: []\n", "\t\n"]

Made = tuple[str, int, list[tuple[str, str]], str, str]
"""Head, indentation, rows (form and name), tail, line end."""

names = st.sampled_from(["r1", "r2", "r3", "r4", "r5", "r6"])
line = st.tuples(st.sampled_from(ROWS), names)
text = st.tuples(
    st.sampled_from(HEADS), st.integers(0, 3), st.lists(line, max_size=7), st.sampled_from(TAILS), st.sampled_from(["\n", "\r\n"])
)
good = st.lists(st.tuples(st.sampled_from(ROWS[:7]), names), max_size=7, unique_by=lambda row: row[1])
plain = st.tuples(st.just(HEADS[0]), st.just(2), good, st.just(""), st.just("\n"))


def written(made: Made) -> str:
    head, indent, rows, tail, end = made
    lines = "".join(form.format(n=name) for form, name in rows).splitlines(keepends=True)
    return (head + "".join(" " * indent + line if line.strip() else line for line in lines) + tail).replace("\n", end)


def unit_of(folder: Path, text: str, known: KnownRows | None = None) -> Unit:
    """The unit of `sales.yaml` with this text: read whole, or as `known` reads it."""
    shared = read_shared(folder)

    def whole(data: bytes) -> Unit:
        (folder / "sales.yaml").write_bytes(data)
        return read_unit(folder, "sales.yaml", shared, "inventory")

    data = text.encode()
    return whole(data) if known is None else known.unit("sales.yaml", data, (), whole)


@settings(max_examples=80, deadline=None)
@given(edits=st.lists(st.one_of(text, plain, plain), min_size=2, max_size=6))
def test_the_same_as_read_whole(tmp_path_factory: pytest.TempPathFactory, edits: list[Made]) -> None:
    folder, known = tmp_path_factory.mktemp("inventory"), KnownRows()
    for made in edits:
        assert unit_of(folder, written(made), known) == unit_of(folder, written(made)), written(made)


def test_a_long_life_of_small_edits(tmp_path: Path) -> None:
    rng = random.Random(11)
    rows, known = [(ROWS[n % 2], f"s{n}") for n in range(20)], KnownRows()
    for step in range(80):
        at = rng.randrange(len(rows))
        match rng.randrange(5):
            case 0:
                rows.insert(at, (rng.choice(ROWS[:7]), f"n{step}"))
            case 1:
                rows.pop(at)
            case 2:
                rows[at] = (rng.choice(ROWS[:7]), rows[at][1])
            case 3:
                rows.insert(at, rows.pop(rng.randrange(len(rows))))
            case _:
                twice = rows[at][1]
                edited = [*rows, (ROWS[0], twice)]
                written_twice = written((HEADS[1], 2, edited, "", "\n"))
                assert unit_of(tmp_path, written_twice, known) == unit_of(tmp_path, written_twice)
        now = written((HEADS[1], 2, rows, "", "\n"))
        assert unit_of(tmp_path, now, known) == unit_of(tmp_path, now)


def test_an_edit_reads_the_edited_row_and_the_first(tmp_path: Path) -> None:
    rows = [row(f"r{n}") for n in range(50)]
    cache, read = UnitCache(tmp_path), compiling.read_unit
    counted: list[int] = []

    def counting(*arguments: object) -> object:
        unit = read(*arguments)  # type: ignore[arg-type]
        counted.append(len(unit.named))
        return unit

    with patch.object(compiling, "read_unit", counting):
        compile_fleet(files(sales=domain(*rows)), "inventory", cache)
        rows[20] = row("r20", "tags: [edited]")
        rows.insert(10, row("fresh"))
        fleet = compile_fleet(files(sales=domain(*rows)), "inventory", cache)
    assert counted == [50, 3] and len(fleet.rows) == 51
    assert fleet.rows["ingest__sales__r49"].line == 52


def test_other_defaults_read_everything_again(tmp_path: Path) -> None:
    cache, rows = UnitCache(tmp_path), domain(row("a"), row("b"))
    compile_fleet(files(sales=rows), "inventory", cache)
    for texts in ({"sales": "defaults: {tags: [x]}\n" + rows}, {"sales": rows, "defaults": "tags: [x]\n"}):
        fleet = compile_fleet(files(**texts), "inventory", cache)
        assert all('"tags":["x"]' in found.text for found in fleet.rows.values()) and len(fleet.rows) == 2


@pytest.mark.parametrize(
    "why", ["sources:\n  - &a {name: x}\n", "sources: [{name: x}]\n", "sources:\n  - {name: x}\nversion: 1\n", "a: b\n",
            "sources:\n- {name: x}\r", "sources:\n  - {description: " + "[" * 500_001 + "}\n"],
)  # fmt: skip
def test_what_is_read_whole(why: str) -> None:
    assert Cut.of(why) is None


WORDS = ["renamed_from", '"renamed_from"', '"renamed\\x5ffrom"', "? renamed_from\n    "]


@pytest.mark.parametrize("word", WORDS)
def test_a_row_that_looks_for_another_sees_all_rows(word: str, tmp_path: Path) -> None:
    known, heir = KnownRows(), f"  - name: b\n    kind: sql\n    conn_id: pg\n    owner: o\n    {word}: a\n"
    for rows in ([row("c"), row("a")], [row("c"), row("a"), heir], [row("c"), heir], [row("c"), heir, row("a")]):
        found = unit_of(tmp_path, domain(*rows), known)
        assert found == unit_of(tmp_path, domain(*rows))
        assert bool(found.problems) == (heir in rows and row("a") in rows)


def test_a_file_that_grows_too_large_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, rows = KnownRows(), [row("a"), row("b"), row("c")]
    for module in ("bundle.known_rows", "inventory.yaml_nodes"):
        monkeypatch.setattr(f"dag_factory.{module}.MAX_BYTES", len(domain(*rows)))
    assert not unit_of(tmp_path, domain(*rows), known).broken
    assert unit_of(tmp_path, domain(*rows, row("d")), known) == unit_of(tmp_path, domain(*rows, row("d")))
    assert unit_of(tmp_path, domain(*rows, row("d")), known).broken


def test_where_a_file_is_cut() -> None:
    cut = Cut.of("version: 1\nsources:\n  # first\n  - name: a\n    x: 1\n# between\n\n  - name: b")
    assert cut is not None and cut.rows == ((4, "  - name: a\n    x: 1\n# between\n\n"), (8, "  - name: b"))
    assert cut.without(frozenset({cut.rows[0][1]})) == "version: 1\nsources:\n  # first\n#\n#\n#\n#\n  - name: b"
