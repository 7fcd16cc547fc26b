"""What a machine does to a run: one clear message, nothing saved is lost, exact continuation."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from launching import (
    INJECTED,
    ROOT,
    Processes,
    end,
    only_message,
    records,
    start_injected,
    train_flags,
    wait_for,
)  # fmt: skip

from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.records import last_step

pytestmark = pytest.mark.faults

OPTIONS = {
    "training.num_steps": 60,
    "training.log_every": 5,
    "checkpoints.every": 10,
    "checkpoints.keep": 9,
    "evaluation.every": 30,
}
FLAGS = train_flags(preset="symbols", **OPTIONS)
REPLICAS = train_flags(preset="symbols", **OPTIONS | {"training.replicas": 2})


NOBODY, WEAK = 65534, "-dac_override,-dac_read_search"


def end_hurt(folder, fault, at=0, flags=FLAGS):
    """How a run with a fault in it ends."""
    with start_injected(folder, fault, at, flags) as process:
        return process.wait()


def saved(folder):
    with CheckpointStore(folder / "checkpoints") as store:
        return store.steps()


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    status, _, err = end(folder, FLAGS)
    assert status == 0, err
    return folder


def assert_goes_on(folder, straight, flags=FLAGS):
    """The same command ends the run, and its curve is that of one that was never hurt."""
    status, _, err = end(folder, flags)
    assert status == 0, err
    assert records(folder) == records(straight)
    parts = [json.loads((one / "summary.json").read_text())["evals"] for one in (folder, straight)]
    assert parts[0] == parts[1]


@pytest.mark.parametrize(
    ("fault", "at", "said"),
    [
        ("no_space_for_metrics", 35, "error: No space left on device: {folder}/metrics.jsonl"),
        ("no_space_for_anything", 35, "error: File too large: {folder}/metrics.jsonl"),
        ("no_space_for_events", 35, "error: File too large: {folder}/tensorboard"),
        ("no_space_for_files", 40, "error: a checkpoint could not be written in {folder}"),
        ("out_of_memory", 33, "error: the device is out of memory: RESOURCE_EXHAUSTED"),
        ("nan", 33, "error: The loss at step 34 is nan; the last finite loss was "),
    ],
)
def test_a_run_that_ends_says_why_and_resumes(fault, at, said, straight, tmp_path):
    folder = tmp_path / "run"
    status, _, err = end_hurt(folder, fault, at)
    assert status == 1
    assert only_message(err).startswith(said.format(folder=folder))
    # That of step 30 may have been under way when the disk was full.
    assert saved(folder)[-1] == 30 or (fault.startswith("no_space") and saved(folder)[-1] == 20)
    assert_goes_on(folder, straight)


def test_advice_comes_with_the_lack_of_memory(tmp_path):
    _, _, err = end_hurt(tmp_path / "run", "out_of_memory", 3)
    for option in ("training.batch_size", "model.precision", "training.replicas"):
        assert option in only_message(err)


def test_half_a_line_is_no_line(straight, tmp_path):
    folder = tmp_path / "run"
    status, _, _ = end_hurt(folder, "half_a_line", 45)
    assert status == -signal.SIGKILL
    assert not (folder / "metrics.jsonl").read_text().endswith("\n")
    assert_goes_on(folder, straight)


def test_a_nan_in_one_replica_is_that_ones_alone(tmp_path):
    folder = tmp_path / "run"
    status, out, err = end_hurt(folder, "nan_in_one", 33, REPLICAS)
    assert status == 0, err
    assert "replica 'seed=0' diverged at step 34; the others continue" in out
    replicas = json.loads((folder / "summary.json").read_text())["replicas"]
    assert replicas["seed=0"]["diverged_at_step"] == 34
    assert replicas["seed=1"]["icl"] is not None


def test_a_clock_that_jumps_changes_nothing(straight, tmp_path):
    folder = tmp_path / "run"
    status, _, err = end_hurt(folder, "clock_jumps")
    assert status == 0, err
    assert records(folder) == records(straight)
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < summary["wall_seconds"] < 600
    assert summary["train_sequences_per_second"] > 0


def test_a_folder_that_is_deleted_ends_the_run(tmp_path):
    folder = tmp_path / "run"
    long = {"training.num_steps": 100_000, "checkpoints.every": 50_000, "evaluation.every": 50_000}
    with Processes(folder, train_flags(preset="symbols", **long)) as process:
        wait_for(lambda: last_step(folder / "metrics.jsonl") >= 20, "two lines of metrics")
        shutil.rmtree(folder, ignore_errors=True)
        status, _, err = process.wait()
    assert status == 1
    assert "Deleted while the run wrote to it" in only_message(err)
    # Nothing is left of it that another run could take for its own.
    assert not folder.exists()


def test_two_commands_on_one_folder(tmp_path):
    folder, flags = tmp_path / "run", train_flags(**{"training.num_steps": 100_000})
    with Processes(folder, flags) as first:
        wait_for(lambda: last_step(folder / "metrics.jsonl") >= 20, "two lines of metrics")
        status, _, err = end(folder, flags)
        assert status == 1
        assert f"error: {folder} is in use by process {first.running[0].pid} on " in err
        only_message(err)
        # The lock of a process that is gone is none.
        first.send(signal.SIGKILL)
        first.wait()
    step = last_step(folder / "metrics.jsonl")
    flags = train_flags(preset="symbols", **{"training.num_steps": (step // 20 + 2) * 20})
    status, _, err = end(folder, flags)
    assert status == 0, err


def test_a_folder_that_cannot_be_written(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:  # Who may write everywhere, but for what the kernel keeps to itself.
        folder = Path("/proc/emergent_icl_run")
    status, _, err = end(folder, FLAGS)
    assert status == 1
    assert only_message(err).startswith(f"error: {folder} cannot be ")


def a_file(folder):
    (folder / "home").write_text("no folder")
    return {"HOME": str(folder / "home")}


def a_colleagues(folder):
    """Where only root may look."""
    (folder / "home").mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder / "home", NOBODY, NOBODY)
    else:
        (folder / "home").chmod(0)
    return {"HOME": str(folder / "home")}


@pytest.mark.parametrize("home", [a_file, a_colleagues])
def test_a_home_that_cannot_be_written_costs_nothing_but_the_caches(home, tmp_path):
    flags = train_flags(preset="images")
    status, _, err = end(tmp_path / "straight", flags)
    assert status == 0, err
    folder, environment = tmp_path / "run", home(tmp_path)
    nowhere = environment | {"XDG_CACHE_HOME": "", "JAX_COMPILATION_CACHE_DIR": ""}
    # Root, too, may then open only what is its own.
    weak = ("setpriv", f"--bounding-set={WEAK}") if os.geteuid() == 0 else ()
    status, _, err = end(folder, flags, environment=nowhere, prefix=weak)
    assert status == 0, err
    assert "Traceback" not in err
    assert err.count("Cannot write the cache") == 1
    assert "error" not in err
    assert records(folder) == records(tmp_path / "straight")


def test_sigterm_with_ten_seconds_of_grace(tmp_path):
    folder = tmp_path / "run"
    options = OPTIONS | {"checkpoints.every": 50_000, "evaluation.every": 50_000}
    with Processes(
        folder, train_flags(preset="symbols", **options | {"training.num_steps": 10**6})
    ) as run:
        wait_for(lambda: last_step(folder / "metrics.jsonl") >= 10, "two lines of metrics")
        run.send(signal.SIGTERM)
        status, out, err = run.wait(patience=10)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in err
    (step,) = saved(folder)
    assert f"Stopped after step {step}; the state is saved." in out
    # Prolonged, it is the run that was never stopped.
    steps = step + 100 - step % 100
    flags = train_flags(preset="symbols", **options | {"training.num_steps": steps})
    status, _, err = end(tmp_path / "straight", flags)
    assert status == 0, err
    assert_goes_on(folder, tmp_path / "straight", flags)


def test_a_full_disk_that_holds_the_messages_too_keeps_nobody_waiting(tmp_path):
    folder = tmp_path / "run"
    words = [
        sys.executable,
        str(INJECTED),
        "no_space_for_files",
        "40",
        f"--workdir={folder}",
        *FLAGS,
    ]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=full, timeout=120)
    assert done.returncode == 1
    assert saved(folder)[-1] == 30
