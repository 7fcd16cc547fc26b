"""Several processes, each with several devices, train one run."""

import json
import shutil
import signal
import time

import jax
import numpy as np
import pytest
from launching import Processes, train_flags, unfinished, wait_for

from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.records import last_step, read_metrics
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.build import build

pytestmark = pytest.mark.faults

# Tolerances after 30 steps with sums over four devices in another order, for losses and for the
# distance of parameters. Single parameters differ more: Adam normalizes gradients near 0.
LOSS_TOLERANCE, MOVE_TOLERANCE = 1e-4, 1e-2
FLAGS = train_flags(
    preset="resnet",
    **{
        "training.num_steps": 30,
        "training.log_every": 10,
        "training.optimizer.learning_rate": 1e-3,
        "evaluation.every": 30,
        "checkpoints.every": 10,
        "checkpoints.keep": 10,
    },
)
LONG = train_flags(
    preset="symbols",
    **{"training.num_steps": 100_000, "checkpoints.every": 10, "evaluation.every": 50_000},
)
# A lost process is noticed at once if its sockets close, otherwise by its heartbeat.
HEARTBEAT = 10


def finish(folder, flags=FLAGS, count=1, devices=4):
    """Trains to the end, with all processes."""
    with Processes(folder, flags, count, devices) as processes:
        ends = [processes.wait(index) for index in range(count)]
    for status, _, err in ends:
        assert status == 0, err
    return ends


def cut(folder, step, to):
    """A copy of a run as of the checkpoint of a step."""
    shutil.copytree(folder, to)
    (to / "summary.json").unlink()
    for checkpoint in (to / "checkpoints").iterdir():
        if int(checkpoint.name) > step:
            shutil.rmtree(checkpoint)
    return to


def distance(left, right):
    """Euclidean distance of two trees of parameters."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return np.sqrt(sum(float(np.sum((a - b) ** 2)) for a, b in pairs))


def assert_same_run(left, right):
    lines, expected = (read_metrics(one / "metrics.jsonl") for one in (left, right))
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    for line, other in zip(lines, expected, strict=True):
        assert line["train/loss"] == pytest.approx(other["train/loss"], rel=LOSS_TOLERANCE)
    experiment = build(Workdir(left).read_config())
    states = []
    for folder in (left, right):
        with CheckpointStore(folder / "checkpoints") as store:
            states.append(store.restore(30, experiment.state_template())[0])
    ends = [jax.tree.map(lambda leaf: leaf[0], state.params) for state in states]
    start = experiment.init(experiment.config.training.seed).params
    assert distance(*ends) < MOVE_TOLERANCE * distance(ends[0], start)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, four devices."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    finish(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two processes with two devices each, and their exit statuses and outputs."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    return folder, finish(folder, count=2, devices=2)


def test_two_processes_train_the_same_run_as_one(alone, pair):
    folder, ends = pair
    assert_same_run(alone, folder)
    # Only the first process prints.
    assert "4 x cpu in 2 processes" in ends[0][1]
    assert "step" in ends[0][1]
    assert "step" not in ends[1][1]
    assert json.loads((folder / "summary.json").read_text())["devices"] == "4 x cpu in 2 processes"


def test_a_run_resumes_with_another_number_of_processes(alone, pair, tmp_path):
    folder, _ = pair
    to_one = cut(folder, 20, tmp_path / "to_one")
    finish(to_one)
    assert_same_run(to_one, folder)
    to_two = cut(alone, 20, tmp_path / "to_two")
    finish(to_two, count=2, devices=2)
    assert_same_run(to_two, alone)
    for one in (to_one, to_two):
        assert [line["step"] for line in read_metrics(one / "metrics.jsonl")] == [10, 20, 30]


@pytest.mark.parametrize("saving", [False, True])
@pytest.mark.parametrize("lost", [0, 1])
def test_killing_one_process_ends_all_and_the_run_resumes(lost, saving, tmp_path):
    folder = tmp_path / "run"
    flags = [*LONG, f"--heartbeat_timeout={HEARTBEAT}"]
    with Processes(folder, flags, count=2, devices=2) as processes:
        wait_for(lambda: last_step(folder / "metrics.jsonl") >= 20, "two lines of metrics")
        if saving:
            wait_for(lambda: unfinished(folder), "a checkpoint that is being written", 60, 0)
        processes.send(signal.SIGKILL, lost)
        killed = time.monotonic()
        status, out, err = processes.wait(1 - lost)
        took = time.monotonic() - killed
        first = processes.wait(0)[1] if lost == 0 else out
    assert status != 0
    # Printed by the process, or by the runtime that ended it; advice was printed after joining.
    assert f"error: process {1 - lost} of 2" in err or "another task died" in err
    assert "Saved checkpoints are intact. Restart all processes to resume." in first
    assert took < 3 * HEARTBEAT
    with CheckpointStore(folder / "checkpoints") as store:
        saved = store.steps()[-1]
    assert saved >= 10
    longer = train_flags(
        preset="symbols",
        **{"training.num_steps": saved + 20, "checkpoints.every": 10, "evaluation.every": 50_000},
    )
    ends = finish(folder, longer, count=2, devices=2)
    assert f"after step {saved}" in ends[0][1]
    steps = [line["step"] for line in read_metrics(folder / "metrics.jsonl")]
    assert steps == list(range(10, saved + 21, 10))


def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path):
    folder = tmp_path / "run"
    with Processes(folder, LONG, count=2, devices=2) as processes:
        wait_for(lambda: last_step(folder / "metrics.jsonl") >= 20, "two lines of metrics")
        processes.send(signal.SIGTERM, 1)
        ends = [processes.wait(index) for index in (0, 1)]
    assert [status for status, _, _ in ends] == [128 + signal.SIGTERM] * 2
    with CheckpointStore(folder / "checkpoints") as store:
        saved = store.steps()[-1]
    assert f"Stopped after step {saved}; the state is saved." in ends[0][1]


def test_processes_must_have_the_same_config(tmp_path):
    folder = tmp_path / "run"
    own = [["--config.training.seed=3"], ["--config.training.seed=4"]]
    with Processes(folder, [*FLAGS, "--heartbeat_timeout=30"], 2, 2, own) as processes:
        ends = [processes.wait(index) for index in (0, 1)]
    for status, _, err in ends:
        assert status == 1
        assert "config.training.seed: 4 in process 1, 3 in process 0" in err
        assert "Traceback" not in err
    assert not (folder / "config.json").exists()


def test_replicas_are_not_spread_over_processes(tmp_path):
    folder, options = tmp_path / "run", ("replicas=4", "spread_replicas=True")
    flags = [*FLAGS, *(f"--config.training.{one}" for one in options), "--heartbeat_timeout=30"]
    with Processes(folder, flags, count=2, devices=2) as processes:
        ends = [processes.wait(index) for index in (0, 1)]
    for status, _, err in ends:
        assert status == 1
        assert "training.spread_replicas = True needs a single process" in err
    assert not (folder / "config.json").exists()


def test_a_process_reports_that_the_others_did_not_join(tmp_path):
    own = ["--coordinator_address=localhost:1", "--num_processes=2", "--process_id=1"]
    flags = [*FLAGS, "--join_timeout=3", *own]
    with Processes(tmp_path / "run", flags) as processes:
        status, out, err = processes.wait()
    assert status != 0
    assert "localhost:1; waiting up to 3 s for the other processes" in out
    assert "(--join_timeout)" in out
    assert "Traceback" not in err
