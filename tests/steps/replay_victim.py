"""A process to be killed: replays the letters of a world, and asks on stdin before each effect whether it may go on.

python -m tests.steps.replay_victim FOLDER ROW_JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.steps.effects import Stage
from tests.steps.letters import replayed
from tests.steps.victim import ask, tell
from tests.steps.world import World

if __name__ == "__main__":
    folder, row = sys.argv[1:]
    world = World(Path(folder), wrap=Stage(ask).wrap, lease_seconds=0.1)
    tell("result " + json.dumps(replayed(world, world.spec(**json.loads(row))).to_json()))
