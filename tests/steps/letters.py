"""What the tests of dead letters do with a small world: load, look at the letters, replay them."""

from __future__ import annotations

from typing import Any

from airflow_dataops.core.spec import PipelineSpec
from airflow_dataops.ledger.base import LetterRecord
from airflow_dataops.steps.replay import LetterChoice, ReplayResult, replay
from tests.steps.world import World, day


def letters(world: World, *states: str) -> tuple[LetterRecord, ...]:
    """Oldest first."""
    edges = world.edges(world.spec())
    try:
        return tuple(reversed(edges.ledger.dead_letters.find("d.src", states=states)))
    finally:
        edges.ledger.close()


def states(world: World) -> list[tuple[str, str, int]]:
    """(state, reason, attempts) of each letter, oldest first."""
    return [(letter.state, letter.reason, letter.attempts) for letter in letters(world)]


def replayed(world: World, spec: PipelineSpec, run: str = "replay/ann/1", **choice: Any) -> ReplayResult:
    edges = world.edges(spec)
    try:
        result = replay(spec, edges, run, day, LetterChoice(**choice))
    finally:
        for edge in (edges.source, edges.ledger, edges.catalog):
            edge.close()
    for batch in result.batches:
        batch.accounting.prove(batch.source_table)
    return result
