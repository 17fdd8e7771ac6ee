"""Which sources a selector takes."""

from __future__ import annotations

import pytest

from airflow_dataops.core.spec import PipelineSpec
from dag_factory.fleet.selector import SelectorError, parse_selector, select, unknown_values, with_states


def row(name: str, **more: object) -> PipelineSpec:
    domain, _, own = name.partition(".")
    return PipelineSpec(domain=domain, name=own, **{"kind": "sql", "owner": "ann", **more})  # type: ignore[arg-type]


ROWS = (
    row("sales.orders", tags=("daily", "big")),
    row("sales.items", kind="files", owner="Bob and Co"),
    row("nyc.flights", tags=("daily",), owner="bob"),
)
TAKEN = {
    "all": "sales.orders sales.items nyc.flights",
    "domain=sales": "sales.orders sales.items",
    "domain=sales,nyc": "sales.orders sales.items nyc.flights",
    "domain=sales kind=sql": "sales.orders",
    "tag=daily": "sales.orders nyc.flights",
    "tag=daily tag=big": "sales.orders",
    "tag=big,none": "sales.orders",
    "sales.*": "sales.orders sales.items",
    "*.orders,nyc.*": "sales.orders nyc.flights",
    "nyc.flights all": "nyc.flights",
    "ingest__nyc__*": "nyc.flights",
    "owner='Bob and Co'": "sales.items",
    "owner=bob": "nyc.flights",
    "owner=b*": "nyc.flights",
    "orders": "",
    "domain=sale": "",
    "domain=sales domain=nyc": "",
}


@pytest.mark.parametrize("text", TAKEN)
def test_terms_are_and_and_commas_are_or(text: str) -> None:
    assert [r.id for r in select(ROWS, parse_selector([text]))] == TAKEN[text].split()


def test_several_texts_have_to_hold_all() -> None:
    selector = parse_selector(["domain=sales", "kind=files,sql owner=ann"])
    assert [r.id for r in select(ROWS, selector)] == ["sales.orders"]
    assert str(selector) == "domain=sales kind=files,sql owner=ann"


@pytest.mark.parametrize(
    "texts",
    [[], [""], ["  "], ["domain="], ["domain=a,"], ["colour=red"], ["state=sad"], ["owner='a"], ["domain=a,kind=b"], ["=x"]],
)
def test_what_cannot_be_meant_is_refused(texts: list[str]) -> None:
    with pytest.raises(SelectorError, match="--select"):
        parse_selector(texts)


def test_states_are_or_within_a_term_and_and_between_terms() -> None:
    states = {"sales.orders": ("failed", "late"), "nyc.flights": ("held",)}

    def taken(text: str) -> list[str]:
        selector = parse_selector([text])
        return [r.id for r in with_states(select(ROWS, selector), selector, states)]

    assert taken("state=failed,held") == ["sales.orders", "nyc.flights"]
    assert taken("state=failed state=late") == ["sales.orders"]
    assert taken("state=failed state=held") == []
    assert taken("domain=nyc state=failed,held") == ["nyc.flights"]
    assert taken("all") == [r.id for r in ROWS]


def test_a_misspelled_value_is_told_though_others_match() -> None:
    assert unknown_values(ROWS, parse_selector(["domain=sales,finanace tag=daily state=held"])) == ("domain=finanace",)
