"""The rules over written facts. Every case begins with an installation as it is shipped, at 10,000 rows, of which nothing is to be
said, changes something, and lists exactly what is then found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from dag_factory.deployment.settings import fixed_settings
from dag_factory.doctor.facts import Facts
from dag_factory.doctor.finding import SEVERITIES
from dag_factory.doctor.numbers import BOUNDS
from dag_factory.doctor.rules import findings

FOLDER = Path(__file__).parents[1] / "cases" / "doctor"
SHIPPED = yaml.safe_load((FOLDER / "shipped.yaml").read_text())
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['name']}")
    for file in sorted(FOLDER.glob("*.yaml"))
    if file.stem != "shipped"
    for case in yaml.safe_load(file.read_text())
]


def facts(changed: dict[str, Any]) -> Facts:
    """The shipped installation with these fields instead of its own; maps merge, and null takes an entry away."""
    plain = SHIPPED | {"options": {".".join(option): value for option, value in fixed_settings().items()} | SHIPPED["options"]}
    for name, value in changed.items():
        if isinstance(value, dict) and isinstance(plain.get(name), dict):
            merged = plain[name] | value
            value = {key: item for key, item in merged.items() if item is not None}
        plain[name] = value
    plain["options"] = {name: str(value) for name, value in plain["options"].items()}
    return TypeAdapter(Facts).validate_python(plain)


def test_there_is_nothing_to_say_of_what_is_shipped() -> None:
    assert findings(facts({})) == ()


@pytest.mark.parametrize("case", CASES)
def test_a_case(case: dict[str, Any]) -> None:
    found = findings(facts(case["facts"]))
    assert {finding.rule: finding.severity for finding in found} == case["finds"], "\n".join(f.message for f in found)
    for text in case.get("says", ()):
        assert any(text in finding.message for finding in found), "\n".join(f.message for f in found)
    order = [SEVERITIES.index(finding.severity) for finding in found]
    assert order == sorted(order)
    assert all(f.found and f.expected and f.why.endswith(".") and f.fix.endswith((".", "..", "default")) for f in found), found


def test_every_number_has_a_case() -> None:
    named = {rule for case in CASES for rule in case.values[0]["finds"]}
    assert {bound.option for bound in BOUNDS} <= named


@pytest.mark.parametrize("rows", [1, 10, 1_000, 100_000, 10_000_000])
def test_any_number_of_rows_can_be_judged(rows: int) -> None:
    for bundle in ([], SHIPPED["bundles"]):
        findings(facts({"rows": rows, "bundles": bundle}))
    assert findings(facts({"rows": min(rows, 10_000)})) == ()
