"""Machine faults: one clear message, no loss of saved files, exact resumption."""

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
    PATIENCE,
    ROOT,
    Processes,
    cpu_seconds_to_end,
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


def run_with_fault(folder, fault, at=0, flags=FLAGS):
    """Exit status and output of a run with an injected fault."""
    with start_injected(folder, fault, at, flags) as process:
        return process.wait()


def saved(folder):
    with CheckpointStore(folder / "checkpoints") as store:
        return store.steps()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run without a fault."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    status, _, err = end(folder, FLAGS)
    assert status == 0, err
    return folder


def assert_resumes_exactly(folder, reference, flags=FLAGS):
    """The same command completes the run, with the results of a run without a fault."""
    status, _, err = end(folder, flags)
    assert status == 0, err
    assert records(folder) == records(reference)
    parts = [json.loads((one / "summary.json").read_text())["evals"] for one in (folder, reference)]
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
def test_a_failed_run_says_why_and_resumes_exactly(fault, at, said, reference, tmp_path):
    folder = tmp_path / "run"
    status, _, err = run_with_fault(folder, fault, at)
    assert status == 1
    assert only_message(err).startswith(said.format(folder=folder))
    # The checkpoint of step 30 may have been incomplete when the disk was full.
    assert saved(folder)[-1] == 30 or (fault.startswith("no_space") and saved(folder)[-1] == 20)
    assert_resumes_exactly(folder, reference)


def test_running_out_of_memory_gives_advice(tmp_path):
    _, _, err = run_with_fault(tmp_path / "run", "out_of_memory", 3)
    for option in ("training.batch_size", "model.precision", "training.replicas"):
        assert option in only_message(err)


def test_a_partial_line_of_metrics_is_ignored(reference, tmp_path):
    folder = tmp_path / "run"
    status, _, _ = run_with_fault(folder, "half_a_line", 45)
    assert status == -signal.SIGKILL
    assert not (folder / "metrics.jsonl").read_text().endswith("\n")
    assert_resumes_exactly(folder, reference)


def test_nan_in_one_replica_does_not_affect_the_others(tmp_path):
    folder = tmp_path / "run"
    status, out, err = run_with_fault(folder, "nan_in_one", 33, REPLICAS)
    assert status == 0, err
    assert "replica 'seed=0' diverged at step 34; the others continue" in out
    replicas = json.loads((folder / "summary.json").read_text())["replicas"]
    assert replicas["seed=0"]["diverged_at_step"] == 34
    assert replicas["seed=1"]["icl"] is not None


def test_clock_jumps_change_nothing(reference, tmp_path):
    folder = tmp_path / "run"
    status, _, err = run_with_fault(folder, "clock_jumps")
    assert status == 0, err
    assert records(folder) == records(reference)
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < summary["wall_seconds"] < 600
    assert summary["train_sequences_per_second"] > 0


def test_deleting_the_folder_ends_the_run(tmp_path):
    folder = tmp_path / "run"
    long = {"training.num_steps": 100_000, "checkpoints.every": 50_000, "evaluation.every": 50_000}
    with Processes(folder, train_flags(preset="symbols", **long)) as process:
        wait_for(lambda: last_step(folder / "metrics.jsonl") >= 20, "two lines of metrics")
        shutil.rmtree(folder, ignore_errors=True)
        status, _, err = process.wait()
    assert status == 1
    assert "Deleted during the run" in only_message(err)
    # Nothing is left that another run could mistake for its own.
    assert not folder.exists()


def test_two_commands_in_one_folder(tmp_path):
    folder, flags = tmp_path / "run", train_flags(**{"training.num_steps": 100_000})
    with Processes(folder, flags) as first:
        wait_for(lambda: last_step(folder / "metrics.jsonl") >= 20, "two lines of metrics")
        status, _, err = end(folder, flags)
        assert status == 1
        assert f"error: {folder} is in use by process {first.running[0].pid} on " in err
        only_message(err)
        # The lock of a dead process does not lock.
        first.send(signal.SIGKILL)
        first.wait()
    step = last_step(folder / "metrics.jsonl")
    flags = train_flags(preset="symbols", **{"training.num_steps": (step // 20 + 2) * 20})
    status, _, err = end(folder, flags)
    assert status == 0, err


def test_an_unwritable_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:  # Root can write anywhere except here.
        folder = Path("/proc/emergent_icl_run")
    status, _, err = end(folder, FLAGS)
    assert status == 1
    assert only_message(err).startswith(f"error: {folder} cannot be ")


def file_as_folder(folder):
    (folder / "home").write_text("no folder")
    return {"HOME": str(folder / "home")}


def another_users_folder(folder):
    """A folder that belongs to another user."""
    (folder / "home").mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder / "home", NOBODY, NOBODY)
    else:
        (folder / "home").chmod(0)
    return {"HOME": str(folder / "home")}


@pytest.mark.parametrize("home", [file_as_folder, another_users_folder])
def test_an_unwritable_home_only_disables_caches(home, tmp_path):
    flags = train_flags(preset="images")
    status, _, err = end(tmp_path / "reference", flags)
    assert status == 0, err
    folder, environment = tmp_path / "run", home(tmp_path)
    nowhere = environment | {"XDG_CACHE_HOME": "", "JAX_COMPILATION_CACHE_DIR": ""}
    # Drop root's privilege to open other users' files.
    weak = ("setpriv", f"--bounding-set={WEAK}") if os.geteuid() == 0 else ()
    status, _, err = end(folder, flags, environment=nowhere, prefix=weak)
    assert status == 0, err
    assert "Traceback" not in err
    assert err.count("Cannot write the cache") == 1
    assert "error" not in err
    assert records(folder) == records(tmp_path / "reference")


def test_sigterm_with_ten_seconds_of_grace(tmp_path):
    folder = tmp_path / "run"
    options = OPTIONS | {"checkpoints.every": 50_000, "evaluation.every": 50_000}
    with Processes(
        folder, train_flags(preset="symbols", **options | {"training.num_steps": 10**6})
    ) as run:
        wait_for(lambda: last_step(folder / "metrics.jsonl") >= 10, "two lines of metrics")
        run.send(signal.SIGTERM)
        used = cpu_seconds_to_end(run.running[0])
        status, out, err = run.wait()
    assert used < 10
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in err
    (step,) = saved(folder)
    assert f"Stopped after step {step}; the state is saved." in out
    # Once extended, it equals an uninterrupted run.
    steps = step + 100 - step % 100
    flags = train_flags(preset="symbols", **options | {"training.num_steps": steps})
    status, _, err = end(tmp_path / "reference", flags)
    assert status == 0, err
    assert_resumes_exactly(folder, tmp_path / "reference", flags)


def test_a_full_disk_for_output_and_checkpoints_does_not_hang(tmp_path):
    folder = tmp_path / "run"
    words = [
        sys.executable,
        str(INJECTED),
        "no_space_for_files",
        "40",
        f"--workdir={folder}",
        *FLAGS,
    ]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            words, cwd=ROOT, env=buffered, stdout=subprocess.DEVNULL, stderr=full, timeout=PATIENCE
        )
    assert done.returncode == 1
    assert saved(folder)[-1] == 30
