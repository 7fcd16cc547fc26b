"""A run killed at any moment resumes exactly."""

import itertools
import json
import random
import signal
import time

import pytest
from launching import Processes, end, records, train_flags, unfinished, wait_for

from emergent_icl.runs.records import last_step

pytestmark = pytest.mark.faults

KILLS = 20
OPTIONS = {
    "training.log_every": 1,
    "checkpoints.every": 20,
    "checkpoints.keep": 2,
    "evaluation.every": 500,
}
ENDLESS = train_flags(preset="symbols", **OPTIONS | {"training.num_steps": 10**6})


def test_a_run_killed_twenty_times_resumes_exactly(tmp_path):
    reference, folder = tmp_path / "reference", tmp_path / "run"
    rng, while_writing = random.Random(0), 0
    for kill in itertools.count():
        if kill >= KILLS and while_writing >= 3:
            break
        assert kill < 3 * KILLS, f"only {while_writing} kills while a checkpoint was written"
        start, left = last_step(folder / "metrics.jsonl"), unfinished(folder)
        with Processes(folder, ENDLESS) as process:
            if kill % 4 == 3:  # Before or soon after training starts.
                time.sleep(rng.uniform(0.2, 5))
            else:
                further = start + rng.randrange(1, 60)
                wait_for(lambda n=further: last_step(folder / "metrics.jsonl") >= n, "a line")
            if kill % 2:
                wait_until = time.monotonic() + 2
                while not unfinished(folder) - left and time.monotonic() < wait_until:
                    pass
            while_writing += bool(unfinished(folder) - left)
            process.send(signal.SIGKILL)
            status, _, err = process.wait()
            assert status == -signal.SIGKILL, err
    # Once extended, it equals a run that was never killed.
    steps = last_step(folder / "metrics.jsonl") // 20 * 20 + 100
    flags = train_flags(preset="symbols", **OPTIONS | {"training.num_steps": steps})
    for one in (folder, reference):
        status, _, err = end(one, flags)
        assert status == 0, err
    assert unfinished(folder) == set()
    assert records(folder) == records(reference)
    ends = [json.loads((one / "summary.json").read_text()) for one in (folder, reference)]
    assert ends[0]["evals"] == ends[1]["evals"]
    assert ends[0]["parameters"] == ends[1]["parameters"]
