"""Killed at any moment, a run goes on as if it had never been."""

import json
import random
import signal
import time

import pytest
from launching import Processes, train_flags, wait_for

from emergent_icl.training.reporting import last_step, read_metrics

pytestmark = pytest.mark.faults

KILLS = 20
FLAGS = train_flags(
    "symbols",
    **{
        "training.num_steps": 3000,
        "training.log_every": 1,
        "checkpoints.every": 20,
        "checkpoints.keep": 2,
        "evaluation.every": 1500,
    },
)
TIMES = ("steps_per_second", "sequences_per_second")


def records(folder):
    return [
        {name: value for name, value in line.items() if name not in TIMES}
        for line in read_metrics(folder / "metrics.jsonl")
    ]


def being_written(folder):
    """Whether a checkpoint is."""
    return any("tmp" in path.name for path in (folder / "checkpoints").glob("*"))


def test_twenty_kills(tmp_path):
    straight, folder = tmp_path / "straight", tmp_path / "run"
    with Processes(straight, FLAGS) as process:
        status, _, err = process.wait()
    assert status == 0, err
    rng, while_writing, kills = random.Random(0), 0, 0
    for kill in range(KILLS):
        start = last_step(folder / "metrics.jsonl")
        with Processes(folder, FLAGS) as process:
            if kill % 4 == 3:  # Before, or soon after, it has begun.
                time.sleep(rng.uniform(0.2, 6))
            else:
                further = start + rng.randrange(1, 60)
                wait_for(lambda n=further: last_step(folder / "metrics.jsonl") >= n, "a line")
            if kill % 2:
                wait_until = time.monotonic() + 2
                while not being_written(folder) and time.monotonic() < wait_until:
                    pass
            while_writing += being_written(folder)
            kills += process.running[0].poll() is None
            process.send(signal.SIGKILL)
            process.wait()
    assert kills >= KILLS - 2
    assert while_writing >= 3
    with Processes(folder, FLAGS) as process:
        status, _, err = process.wait()
    assert status == 0, err
    assert records(folder) == records(straight)
    ends = [json.loads((one / "summary.json").read_text()) for one in (folder, straight)]
    assert ends[0]["evals"] == ends[1]["evals"]
    assert ends[0]["parameters"] == ends[1]["parameters"]
