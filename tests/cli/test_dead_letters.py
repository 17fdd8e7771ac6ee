"""`dataops dead-letters`: look at records that could not go on, replay and discard them, through the real edges."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Dataops


def a_letter(dataops: Dataops, home: Path) -> int:
    """The sample's last record lacks its second field."""
    assert dataops("run", "shop.lists", "--json").code == 0
    answer = dataops("dead-letters", "list", "shop.lists", "--json")
    assert answer.code == 0
    (letter,) = answer.document["letters"]
    assert (letter["state"], letter["reason"], letter["attempts"], letter["preview"]) == ("open", "ragged_row", 1, "9")
    assert (letter["source_file"], letter["source_offset"], letter["can_replay"]) == ("lists/codes.csv", 5, True)
    return int(letter["id"])


def test_a_letter_is_listed_shown_and_fails_again(dataops: Dataops, home: Path) -> None:
    number = a_letter(dataops, home)
    shown = dataops("dead-letters", "show", str(number), "--json").document["letter"]
    assert "raw" not in shown
    raw = dataops("dead-letters", "show", str(number), "--raw", "--json").document["letter"]
    assert (raw["raw"], json.loads(raw["form"])["told"]["columns"]) == ("4", ["id", "code"])
    answer = dataops("dead-letters", "replay", "shop.lists", "--json")
    assert answer.code == 1
    assert answer.document["problems"][0]["code"] == "failed_again"
    (batch,) = answer.document["sources"]["shop.lists"]["batches"]
    assert (batch["rows_read"], batch["rows_dead_lettered"], batch["outcome"]) == (1, 1, "unchanged")
    (letter,) = dataops("dead-letters", "list", "--json").document["letters"]
    assert (letter["id"], letter["state"], letter["attempts"]) == (number, "open", 2)
    status = dataops("status", "shop.lists", "--json")
    assert status.document["tables"][0]["dead_letters"] == {"open": 1}


def test_a_discarded_letter_says_by_whom_and_why(dataops: Dataops, home: Path) -> None:
    number = str(a_letter(dataops, home))
    assert dataops("dead-letters", "discard", number, "--why", " ").code == 2
    assert dataops("dead-letters", "discard", number, "--why", "a test record", "--json").document["discarded"] == [int(number)]
    letter = dataops("dead-letters", "show", number, "--json").document["letter"]
    assert (letter["state"], letter["why"]) == ("discarded", "a test record")
    assert letter["changed_by"]
    assert dataops("dead-letters", "discard", number, "--why", "again", "--json").code == 1
    assert dataops("dead-letters", "replay", number, "--json").document["sources"]["shop.lists"]["batches"] == []
    assert dataops("dead-letters", "list", "--state", "open", "--json").document["letters"] == []


def test_the_terminal_shows_no_value(dataops: Dataops, home: Path) -> None:
    a_letter(dataops, home)
    answer = dataops("dead-letters", "list")
    assert "lists/codes.csv:5" in answer.out
    assert "shop.lists:codes: 1 open (1 rows)" in answer.out


def test_wrong_use(dataops: Dataops, home: Path) -> None:
    for words in (
        ("list", "--state", "lost"), ("list", "--limit", "0"), ("list", "shop.nobody"), ("show", "99"),
        ("replay", "shop.lists", "7"), ("replay", "99"), ("replay", "shop.nobody"),
    ):  # fmt: skip
        answer = dataops("dead-letters", *words, "--json")
        assert (answer.code, answer.document["problems"][0]["code"]) == (2, "usage"), words
