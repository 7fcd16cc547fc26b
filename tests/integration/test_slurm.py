"""Sweeps as jobs of a real SLURM: started here where it can be had within two minutes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.records import last_step, read_metrics

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "tests" / "integration" / "slurm_node.sh"
SETUP_SECONDS = 120
PATIENCE = 240


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of SLURM's commands.

    SLURM is optional, and needs root and Debian's packages: without them its tests are skipped.
    """
    folder = tmp_path_factory.mktemp("slurm")
    try:
        done = subprocess.run(
            [SCRIPT, "start", folder], capture_output=True, text=True, timeout=SETUP_SECONDS
        )
    except subprocess.TimeoutExpired:  # See above: SLURM is optional.
        pytest.skip(f"SLURM could not be set up within {SETUP_SECONDS} s")
    if done.returncode:  # Likewise; it is installed only as root.
        pytest.skip(f"SLURM could not be set up: {(done.stdout + done.stderr).strip()[-500:]}")
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    yield environment
    subprocess.run(["scancel", "--user=root"], env=environment, check=True)
    subprocess.run([SCRIPT, "stop", folder], check=True)


def sweep(slurm, folder, *flags, preset="plain"):
    """A command that is under way."""
    words = [
        sys.executable, "-m", "experiments.sweep", f"--sweep=tests/tiny_sweep.py:{preset}",
        f"--workdir={folder}", "--seeds=2", "--executor=slurm", *flags,
    ]  # fmt: skip
    return subprocess.Popen(
        words, cwd=ROOT, env=slurm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process):
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def start_requeued(slurm):
    """SLURM lets a requeued job wait for two minutes; this does not."""
    show = ["squeue", "--noheader", "--array", "--format=%i %r"]

    def waiting():
        lines = subprocess.check_output(show, env=slurm, text=True).splitlines()
        return [line.split()[0] for line in lines if line.endswith("BeginTime")]

    wait_for(waiting, "a requeued job")
    for job in waiting():
        now = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
        subprocess.run(now, env=slurm, check=True)


def test_a_sweep_runs_as_an_array_of_jobs(slurm, tmp_path):
    status, out, err = end(sweep(slurm, tmp_path))
    assert status == 0, out + err
    jobs = [
        json.loads(path.read_text())["id"] for path in sorted(tmp_path.glob("tiny/*/*/job.json"))
    ]
    assert len(jobs) == 2
    assert {job.split("_")[0] for job in jobs} == {jobs[0].split("_")[0]}
    assert (tmp_path / "report.html").exists()
    status, out, err = end(sweep(slurm, tmp_path, "--status"))
    assert status == 0, err
    assert "2 of 2 programs are complete." in out


def test_runs_wait_for_their_searches(slurm, tmp_path):
    status, out, err = end(sweep(slurm, tmp_path, preset="searched"))
    assert status == 0, out + err
    assert len(list(tmp_path.glob("tiny/*/*/job.json"))) == 4


def test_tasks_of_a_step_train_one_run(slurm, tmp_path):
    """Nobody tells them of each other but SLURM."""
    flags = ["--config=tests/tiny.py:symbols", f"--workdir={tmp_path}", "--heartbeat_timeout=20"]
    words = ["srun", "--ntasks=2", sys.executable, "-m", "experiments.train", *flags]
    done = subprocess.run(
        words, cwd=ROOT, env=slurm, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["devices"] == "2 x cpu in 2 processes"
    assert done.stdout.count("Evaluation after step 40") == 1


def test_the_documented_job_resumes(slurm, tmp_path):
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    here = {
        "--gpus=1 --cpus-per-task=8": "--cpus-per-task=1",
        "source .venv/bin/activate": f'PATH="{Path(sys.executable).parent}:$PATH"',
        "omniglot:paper": "tests/tiny.py:symbols",
        "runs/paper_run": str(tmp_path / "run"),
    }
    for there, changed in here.items():
        assert there in script
        script = script.replace(there, changed)

    def submit(*flags):
        text = f"{script.rstrip()} {' '.join(flags)}\n"
        words = ["sbatch", "--wait", f"--output={log}"]
        return subprocess.run(
            words, cwd=ROOT, env=slurm, input=text, text=True, timeout=PATIENCE
        ).returncode

    log = tmp_path / "job.log"
    assert submit("--stop_after=20") == 128 + signal.SIGTERM, log.read_text()
    assert submit() == 0, log.read_text()
    assert re.search(r"resumed +after step 20\n", log.read_text())
    assert last_step(tmp_path / "run" / "metrics.jsonl") == 40


def test_a_command_that_is_left_is_taken_up_again(slurm, tmp_path):
    first = sweep(slurm, tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("tiny/*/*/job.json"))) == 2, "two jobs")
    first.send_signal(signal.SIGINT)
    status, out, _ = end(first)
    assert status == 128 + signal.SIGINT
    assert re.search(r"2 jobs keep running \(to cancel them: scancel [\d_ ]+\)", out)
    before = [path.read_text() for path in sorted(tmp_path.glob("tiny/*/*/job.json"))]
    status, out, err = end(sweep(slurm, tmp_path))
    assert status == 0, out + err
    assert [path.read_text() for path in sorted(tmp_path.glob("tiny/*/*/job.json"))] == before


def test_what_failed_is_submitted_again_when_asked(slurm, tmp_path):
    obstacle = tmp_path / "tiny" / "p=0" / "seeds=0-1" / ".lock"
    obstacle.mkdir(parents=True)
    status, out, err = end(sweep(slurm, tmp_path))
    assert status == 1
    assert "tiny/p=0/seeds=0-1 failed" in err
    obstacle.rmdir()
    status, out, err = end(sweep(slurm, tmp_path, "--status"))
    assert "1 of 2 programs are complete." in out
    assert "ended (job" in out
    status, out, err = end(sweep(slurm, tmp_path))
    assert status == 1
    assert "--retry_failed resubmits it" in out
    status, out, err = end(sweep(slurm, tmp_path, "--retry_failed"))
    assert status == 0, out + err


def test_a_preempted_job_is_requeued_and_resumes(slurm, tmp_path):
    flags = ("--set=training.num_steps=6_000", "--set=checkpoints.every=50", "--cpus=1")
    straight = tmp_path / "straight"
    status, out, err = end(sweep(slurm, straight, *flags))
    assert status == 0, out + err
    folder = tmp_path / "preempted"
    process = sweep(slurm, folder, *flags, "--grace=30")
    metrics = folder / "tiny" / "p=0" / "seeds=0-1" / "metrics.jsonl"
    wait_for(lambda: last_step(metrics) >= 500, "steps")
    words = ["srun", "--partition=urgent", f"--cpus-per-task={os.cpu_count()}", "sleep", "5"]
    subprocess.run(words, env=slurm, check=True, timeout=PATIENCE)
    start_requeued(slurm)
    status, out, err = end(process)
    assert status == 0, out + err
    log = (metrics.parent / "train.log").read_text()
    # Saved where it was, not at the checkpoint before.
    (stopped,) = re.findall(r"Stopped after step (\d+); the state is saved", log)
    assert re.search(rf"resumed +after step {stopped}\n", log)
    timing = ("steps_per_second", "sequences_per_second")
    lines, expected = (
        [{k: v for k, v in line.items() if k not in timing} for line in read_metrics(one)]
        for one in (metrics, straight / "tiny" / "p=0" / "seeds=0-1" / "metrics.jsonl")
    )
    assert lines == expected
    with CheckpointStore(metrics.parent / "checkpoints") as store:
        assert store.steps()[-1] == 6_000
