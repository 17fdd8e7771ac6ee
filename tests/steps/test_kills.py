"""Real processes: kill -9 between any two effects, and SIGSTOP until a retry is through (a few seeded rounds here, hundreds
in `make soak`)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests import soak
from tests.steps.test_crashes import STORIES, Story, assert_proved, begin, effects_of, prepared, stripped
from tests.steps.world import World

__all__ = ["prepared"]

Calm = Callable[[Story], tuple[int, list[dict[str, Any]], list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, prepared) -> Calm:
    """How many effects a story's undisturbed run has, and what readers see before and after it."""
    known: dict[str, tuple[int, list[dict[str, Any]], list[dict[str, Any]]]] = {}

    def of(story: Story) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
        if story.name not in known:
            known[story.name] = effects_of(story, tmp_path_factory.mktemp("calm") / "w", prepared)
        return known[story.name]

    return of


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


def rounds(seed: str, count: int) -> list[Any]:
    """Each story, `count` times, and how far its run gets before it is disturbed: a share of its effects."""
    chance = random.Random(seed)
    found = [(story, chance.random()) for _ in range(count) for story in STORIES]
    return [pytest.param(story, share, id=f"{story.name} at {share:.1%}") for story, share in found]


QUICK, LONG = rounds("quick", 1), rounds(f"soak {soak.seed()}", 30)


def killed_and_healed(story: Story, share: float, folder: Path, prepared, calm: Calm) -> None:
    count, before, wanted = calm(story)
    world = begin(story, folder / "w", prepared)
    spec = world.spec(**story.row)
    with victim(world, story) as (process, stdin, stdout):
        assert advance(stdin, stdout, int(share * count)), "it finished before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    between = world.visible(spec, "orders")
    assert stripped(between) in (stripped(before), stripped(wanted))
    retry = world.load(spec, "orders", story.second_day, run="second")
    assert retry.error is None, retry.error
    assert world.visible(spec, "orders") == wanted
    assert_proved(world, story)


def stopped_and_woken(story: Story, share: float, folder: Path, prepared, calm: Calm) -> None:
    count, _, wanted = calm(story)
    world = begin(story, folder / "w", prepared)
    spec = world.spec(**story.row)
    with victim(world, story) as (process, stdin, stdout):
        assert advance(stdin, stdout, int(share * count)), "it finished before it could be stopped"
        os.kill(process.pid, signal.SIGSTOP)
        retry = world.load(spec, "orders", story.second_day, run="second")
        assert retry.error is None, retry.error
        assert world.visible(spec, "orders") == wanted
        os.kill(process.pid, signal.SIGCONT)
        stdin.write("\n")
        stdin.flush()
        advance(stdin, stdout, 1_000_000)
    assert world.load(spec, "orders", story.second_day, run="second").error is None
    assert world.visible(spec, "orders") == wanted
    assert_proved(world, story)


@pytest.mark.parametrize(("story", "share"), QUICK)
def test_kill_9_is_healed_by_the_retry(story: Story, share: float, tmp_path: Path, prepared, calm: Calm) -> None:
    killed_and_healed(story, share, tmp_path, prepared, calm)


@pytest.mark.parametrize(("story", "share"), QUICK)
def test_a_stopped_process_that_wakes_after_its_retry_changes_nothing(
    story: Story, share: float, tmp_path: Path, prepared, calm: Calm
) -> None:
    stopped_and_woken(story, share, tmp_path, prepared, calm)


@pytest.mark.soak
@pytest.mark.parametrize(("story", "share"), LONG)
def test_kill_9_hundreds_of_times(story: Story, share: float, tmp_path: Path, prepared, calm: Calm) -> None:
    killed_and_healed(story, share, tmp_path, prepared, calm)


@pytest.mark.soak
@pytest.mark.parametrize(("story", "share"), LONG)
def test_sigstop_hundreds_of_times(story: Story, share: float, tmp_path: Path, prepared, calm: Calm) -> None:
    stopped_and_woken(story, share, tmp_path, prepared, calm)
