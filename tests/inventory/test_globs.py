"""What is decided about globs, against what `fnmatch` does with real names."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dag_factory.inventory import globs

GLOB = st.text(st.sampled_from("ab*?."), min_size=1, max_size=6)
NAME = st.text(st.sampled_from("abc."), max_size=8)


@given(GLOB, GLOB, st.lists(NAME, min_size=1, max_size=60))
def test_covers_never_contradicts_a_name(wide: str, narrow: str, names: list[str]) -> None:
    if globs.covers(wide, narrow):
        assert all(fnmatch.fnmatchcase(n, wide) for n in names if fnmatch.fnmatchcase(n, narrow))


@given(GLOB, GLOB, st.lists(NAME, min_size=1, max_size=60))
def test_meet_never_contradicts_a_name(one: str, other: str, names: list[str]) -> None:
    if any(fnmatch.fnmatchcase(n, one) and fnmatch.fnmatchcase(n, other) for n in names):
        assert globs.meet(one, other)
    assert globs.meet(one, other) == globs.meet(other, one)


@given(GLOB)
def test_everything_covers_and_meets_itself(glob: str) -> None:
    assert globs.covers(glob, glob)
    assert globs.covers("*", glob)
    assert globs.meet(glob, glob)


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("public.*", "public.orders", True), ("public.*", "public.*_tmp", True), ("public.*_tmp", "public.*", False),
        ("a?*b", "a*b", False), ("a*b", "a?*b", True), ("*", "[ab]c", True), ("[ab]c", "ac", True), ("ac", "[ab]c", False),
        ("[abc]", "[ab]", True), ("?", "ab", False), ("a*", "*a", False),
    ],
)  # fmt: skip
def test_covers(wide: str, narrow: str, expected: bool) -> None:
    assert globs.covers(wide, narrow) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a*", "*b", True), ("a*", "b*", False), ("public.*", "hr.*", False), ("[ab]x", "[bc]x", True), ("[a]x", "[bc]x", False),
        ("*_tmp", "public.*", True), ("a?c", "abc", True), ("a?c", "ac", False), ("[!a]", "a", False), ("[!a]", "?", True),
    ],
)  # fmt: skip
def test_meet(one: str, other: str, expected: bool) -> None:
    assert globs.meet(one, other) is expected


@pytest.mark.parametrize("glob", ["", " ", "a[b", "["])
def test_globs_nobody_means(glob: str) -> None:
    assert globs.fault(glob)


@pytest.mark.parametrize("glob", [" a", "a ", "a\nb"])
def test_globs_that_are_asked_about(glob: str) -> None:
    """Databases take such names, so a table called so can be named."""
    assert globs.fault(glob) is None
    assert globs.doubt(glob)


@pytest.mark.parametrize("glob", ["a", "*", "a[bc]d", "[[]x", "a]b", "[!a]*", "Orders Archive"])
def test_globs_somebody_may_mean(glob: str) -> None:
    assert globs.fault(glob) is None
    assert globs.doubt(glob) is None


def test_long_globs_are_decided_quickly() -> None:
    """Neither deep recursion nor a product of all choices."""
    classes, stars = "[ab]" * 120, "*a" * 250
    assert globs.covers("*", classes)
    assert globs.covers(classes, classes)
    assert globs.meet(stars, "a" * 250 + "*")
    assert not globs.meet(classes, "c*")
    assert globs.covers(stars, stars)
