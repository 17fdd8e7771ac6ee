"""Real processes: kill -9 between any two effects, and SIGSTOP until a retry is through (a few seeded rounds here, hundreds
in `make soak`)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.steps.test_crashes import STORIES, Story, assert_proved, begin, prepared, stripped
from tests.steps.world import World

__all__ = ["prepared"]

ROUNDS = {"quick": 1, "soak": 40}


@contextmanager
def victim(world: World, story: Story) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """A process in the middle of the second load, waiting before its first effect."""
    command = [
        sys.executable,
        "-m",
        "tests.steps.victim",
        str(world.folder),
        json.dumps(story.row),
        "orders",
        story.second_day,
        "second",
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    try:
        yield process, process.stdin, process.stdout
    finally:
        process.kill()
        process.wait(30)
        process.stdin.close()
        process.stdout.close()


def advance(stdin: IO[str], stdout: IO[str], to: int) -> bool:
    """Lets it go on until it stands before effect `to`; False when it finished earlier."""
    for line in stdout:
        if line.startswith("result"):
            return False
        if int(line.split()[0]) >= to:
            return True
        stdin.write("\n")
        stdin.flush()
    raise AssertionError("the victim died by itself")


def rounds(name: str) -> list[tuple[Story, int]]:
    chance = random.Random(f"{name}-20261123")
    return [(story, chance.randrange(2, 34)) for _ in range(ROUNDS[name]) for story in STORIES]


def named(pair: tuple[Story, int]) -> str:
    return f"{pair[0].name} at {pair[1]}"


def killed_and_healed(story: Story, number: int, folder: Path, prepared) -> None:
    world = begin(story, folder / "w", prepared)
    spec = world.spec(**story.row)
    before = world.visible(spec, "orders")
    with victim(world, story) as (process, stdin, stdout):
        if advance(stdin, stdout, number):
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
    between = world.visible(spec, "orders")
    retry = world.load(spec, "orders", story.second_day, run="second")
    assert retry.error is None, retry.error
    after = world.visible(spec, "orders")
    assert stripped(between) in (stripped(before), stripped(after))
    assert_same_as_undisturbed(story, folder, prepared, after)
    assert_proved(world, story)


def stopped_and_woken(story: Story, number: int, folder: Path, prepared) -> None:
    world = begin(story, folder / "w", prepared)
    spec = world.spec(**story.row)
    with victim(world, story) as (process, stdin, stdout):
        asleep = advance(stdin, stdout, number)
        if asleep:
            os.kill(process.pid, signal.SIGSTOP)
        retry = world.load(spec, "orders", story.second_day, run="second")
        assert retry.error is None, retry.error
        after = world.visible(spec, "orders")
        if asleep:
            os.kill(process.pid, signal.SIGCONT)
            stdin.write("\n")
            stdin.flush()
            advance(stdin, stdout, 1_000_000)
    assert world.load(spec, "orders", story.second_day, run="second").error is None
    assert world.visible(spec, "orders") == after
    assert_same_as_undisturbed(story, folder, prepared, after)
    assert_proved(world, story)


def assert_same_as_undisturbed(story: Story, folder: Path, prepared, found: list) -> None:
    calm = begin(story, folder / "calm", prepared)
    spec = calm.spec(**story.row)
    assert calm.load(spec, "orders", story.second_day, run="second").outcome == "loaded"
    assert calm.visible(spec, "orders") == found


@pytest.mark.parametrize("pair", rounds("quick"), ids=named)
def test_kill_9_is_healed_by_the_retry(pair: tuple[Story, int], tmp_path: Path, prepared) -> None:
    killed_and_healed(*pair, tmp_path, prepared)


@pytest.mark.parametrize("pair", rounds("quick"), ids=named)
def test_a_stopped_process_that_wakes_after_its_retry_changes_nothing(pair: tuple[Story, int], tmp_path: Path, prepared) -> None:
    stopped_and_woken(*pair, tmp_path, prepared)


@pytest.mark.soak
@pytest.mark.parametrize("pair", rounds("soak"), ids=named)
def test_kill_9_hundreds_of_times(pair: tuple[Story, int], tmp_path: Path, prepared) -> None:
    killed_and_healed(*pair, tmp_path, prepared)


@pytest.mark.soak
@pytest.mark.parametrize("pair", rounds("soak"), ids=named)
def test_sigstop_hundreds_of_times(pair: tuple[Story, int], tmp_path: Path, prepared) -> None:
    stopped_and_woken(*pair, tmp_path, prepared)
