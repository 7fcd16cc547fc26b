"""Times steps in a process of its own: benchmarks.worker FOLDER ROUNDS SECONDS.

Reads FOLDER/config.json; prints a JSON list, the seconds of a step in each of ROUNDS
rounds, which last about SECONDS each.
"""

from __future__ import annotations

import json
import sys

from benchmarks.timing import repeat
from benchmarks.workloads import OurTrainer, load, register_stand_in
from emergent_icl.runs.workdir import Workdir


def main(folder: str, rounds: int, seconds: float) -> None:
    """Prints what it measured."""
    register_stand_in()
    experiment, _ = load(Workdir(folder).read_config())
    with OurTrainer(experiment) as ours:
        samples = repeat(ours.compute_block(seconds), rounds)
    sys.stdout.write(json.dumps(samples) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
