"""Reading YAML with places: the same data as other readers, and refusal of what nobody should write."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from dag_factory.inventory.yaml_nodes import MAX_BYTES, MAX_DEPTH, YamlError, decode, faults, plain, read_yaml

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029\u0085\ufeff"))
JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(JSON_DATA)
def test_json_is_read_back_as_it_was(data: Any) -> None:
    """JSON is YAML, and every text in it is quoted. Only numbers such as 1e+16 mean two things (they have no point)."""
    text = json.dumps(data, ensure_ascii=False)
    assume(not re.search(r"\de[+-]\d", re.sub(r"\d+\.\d+(e[+-]\d+)?", "", text)))
    node = read_yaml(text, "f")
    assert plain(node) == data
    assert list(faults(node)) == []


@given(st.dictionaries(TEXT, st.integers() | TEXT | st.booleans() | st.lists(TEXT), max_size=5))
def test_what_pyyaml_writes_means_the_same_here(data: dict[str, Any]) -> None:
    """Unless a plain scalar means two things: then it is a fault."""
    node = read_yaml(yaml.safe_dump(data, allow_unicode=True), "f")
    assert list(faults(node)) or plain(node) == data


def test_every_value_has_the_line_of_its_key() -> None:
    node = read_yaml("a: 1\nb:\n  c:\n    - x\n    - y\n  d: {e: 2,\n      f: 3}\n", "f")
    b = node.value["b"].value
    assert (node.value["a"].line, node.value["b"].line, b["c"].line, b["c"].value[1].line) == (1, 2, 3, 5)
    assert (b["d"].line, b["d"].value["f"].line) == (6, 7)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-7", -7), ("+7", 7), ("0", 0), ("1.5", 1.5), ("1.0e+3", 1000.0), (".5", 0.5), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("abc", "abc"), ("2024-05-01", "2024-05-01"), ("1.2.3", "1.2.3"), ("y", "y"),
        ("'1'", "1"), ('"true"', "true"), ("!!str 5", "5"), ("TRUE", True), ("0042x", "0042x"),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: Any) -> None:
    node = read_yaml(f"k: {text}", "f")
    assert plain(node) == {"k": value}
    assert type(plain(node)["k"]) is type(value)
    assert list(faults(node)) == []


@pytest.mark.parametrize(
    "text",
    ["no", "Yes", "ON", "off", "012", "0x1F", "0o17", "0b11", "1_000", "12:30", "1:30:45", ".inf", "-.inf", ".NaN",
     "1e3", "-.5", "1.5E3", "!!int 5", "!x 5", "9" * 200],
)  # fmt: skip
def test_words_of_two_meanings_are_faults(text: str) -> None:
    ((line, path, message),) = faults(read_yaml(f"a:\n  k: {text}\n", "f"))
    assert (line, path) == (2, "a.k")
    assert message.endswith(("quotes", "Remove the tag", "Quote it"))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: [", 3, "cannot be read"),
        ("a:\n\t- b", 2, "a tab"),
        ("a: 1\n---\nb: 2", 2, "second YAML document"),
        ("a: *nobody", 1, "an anchor that does not stand above"),
        ("&a [1, *a]", 1, "inside its own anchor"),
        ("a: \x00", 1, "control character"),
        ("? [a]\n: 1", 1, "not plain text"),
        ("[" * (MAX_DEPTH + 1), 1, "nested deeper"),
        ("{a: " * 5000, 1, "nested deeper"),
    ],
)
def test_a_text_without_a_tree(text: str, line: int, message: str) -> None:
    with pytest.raises(YamlError, match=message) as caught:
        read_yaml(text, "f")
    assert caught.value.line == line


def test_a_bomb_is_refused_before_it_grows() -> None:
    layers = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(YamlError, match="expands to more than"):
        read_yaml("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(layers), "f")


def test_aliases_of_a_sane_size_are_read() -> None:
    assert plain(read_yaml("a: &a [1, 2]\nb: *a", "f")) == {"a": [1, 2], "b": [1, 2]}


def test_a_syntax_error_never_quotes_the_text() -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml("password: 'hunter2\nb: c", "f")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(YamlError) as caught:
        read_yaml("password: hunter2: hunter2", "f")
    assert "hunter2" not in str(caught.value)


def test_files_that_are_no_text() -> None:
    with pytest.raises(YamlError, match="not UTF-8") as caught:
        decode(b"a: 1\nb: \xff\xfe")
    assert caught.value.line == 2
    with pytest.raises(YamlError, match="at most"):
        decode(b" " * (MAX_BYTES + 1))
    assert decode(b"\xef\xbb\xbfa: 1") == "a: 1"
