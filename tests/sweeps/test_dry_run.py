"""A dry run takes a few steps of every kind of run, and estimates what all of them need."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_sweep
from launching import launch

from emergent_icl import findings
from emergent_icl.presets import get_config
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps.execute import dry_run, local
from emergent_icl.sweeps.execute.dry_run import FILE, Rehearsal
from emergent_icl.sweeps.execute.loop import RunsElsewhereError, own_log
from emergent_icl.sweeps.jobs import distinct, make_jobs
from emergent_icl.sweeps.spec import load_sweep

FOLDER = Path(findings.__file__).parent
SEARCHED = tiny_sweep.get_sweep("searched")
KINDS = ["tiny/p=0/search", "tiny/p=0", "tiny/p=1/search", "tiny/p=1"]


def never():
    return None


def test_there_is_one_kind_per_condition_and_search(tmp_path):
    jobs = dry_run.kinds_of_jobs([SEARCHED], tmp_path)
    assert list(jobs) == KINDS
    for job in jobs.values():
        assert job.num_runs == 1
        assert job.config.training.num_steps == dry_run.ALL_CALLS
        assert job.config.evaluation.num_sequences == dry_run.NUM_SEQUENCES
        assert job.config.training.batch_size == SEARCHED.base.training.batch_size
    # Conditions keep what distinguishes them.
    assert jobs["tiny/p=1"].config.data.sequences.p_bursty == 1.0
    assert not any(tmp_path.iterdir())


@pytest.mark.faults
def test_the_papers_sweeps_have_35_kinds(tmp_path):
    sweeps = [load_sweep(f"{FOLDER / name}.py:paper") for name in findings.FINDINGS]
    kinds = dry_run.kinds_of_jobs(sweeps, tmp_path)
    searches = [name for name in kinds if name.endswith("/search")]
    # p=0.9, labels=1, and all the examples of a class are the same runs.
    assert (len(kinds), len({job.name for job in kinds.values()}), len(searches)) == (37, 35, 6)
    assert {job.config.data.image_size for job in kinds.values()} == {105}


def test_device_hours_count_every_run_and_every_draw(tmp_path):
    found = dict.fromkeys(KINDS, Rehearsal(step_seconds=3600.0))
    needed = dry_run.hours_by_finding([SEARCHED], tmp_path, found)["tiny"]
    jobs = distinct(make_jobs([SEARCHED], tmp_path))
    runs = sum(job.num_runs for job in jobs)
    assert needed.num_runs == runs == 2 * (5 + 2)
    # 40 steps of an hour each, and evaluations.
    assert 40 * runs < needed.hours < 60 * runs
    found["tiny/p=1"] = Rehearsal(failure="no memory")
    assert dry_run.hours_by_finding([SEARCHED], tmp_path, found)["tiny"].hours is None


def test_measured_jobs_are_not_run_again(tmp_path, monkeypatch):
    jobs = dry_run.kinds_of_jobs([SEARCHED], tmp_path)
    known = Rehearsal(0.5, 1000, 2.0)
    stored = {
        job.name: {**dry_run._about(job), "measured": known._asdict()} for job in jobs.values()
    }
    Workdir.write_json(tmp_path / FILE, stored)

    def command(workdir):
        raise AssertionError("it was run")

    assert dict(dry_run.dry_run(jobs, tmp_path, command, never)) == dict.fromkeys(KINDS, known)
    # Those on another machine are.
    with monkeypatch.context() as patch:
        patch.setattr(dry_run, "processor", lambda: "another")
        with pytest.raises(AssertionError, match="it was run"):
            dict(dry_run.dry_run(jobs, tmp_path, command, never))
    # Those of another config are.
    changed = SEARCHED.with_base_options({"training.batch_size": 16})
    jobs = dry_run.kinds_of_jobs([changed], tmp_path)
    with pytest.raises(AssertionError, match="it was run"):
        dict(dry_run.dry_run(jobs, tmp_path, command, never))


def test_a_job_that_fails_says_why_and_the_others_continue(tmp_path):
    jobs = dry_run.kinds_of_jobs([SEARCHED], tmp_path)

    def command(workdir):
        return ["sh", "-c", "echo out of memory; exit 1"]

    found = dict(dry_run.dry_run(jobs, tmp_path, command, never))
    assert found == dict.fromkeys(KINDS, Rehearsal(failure="out of memory"))
    assert not (tmp_path / FILE).exists()


def test_calls_take_as_many_steps_as_those_of_the_job(tmp_path, monkeypatch):
    job = next(iter(dry_run.kinds_of_jobs([SEARCHED], tmp_path).values()))

    def steps(preset, **options):
        options = {name.replace("__", "."): value for name, value in options.items()}
        short = dry_run._short(job._replace(config=get_config(preset, options)))
        return short["training.steps_per_call"], short["training.num_steps"]

    monkeypatch.setattr(dry_run, "visible_gpus", lambda: [])
    assert steps("omniglot:paper") == (1, 6)
    assert steps("omniglot:small") == (10, 60)
    assert steps("omniglot:small", training__steps_per_call=5) == (5, 30)
    assert steps("omniglot:small", evaluation__at=(4,)) == (2, 12)
    monkeypatch.setattr(dry_run, "visible_gpus", lambda: ["0"])
    assert steps("omniglot:paper") == (10, 60)


def test_each_rehearsal_sees_one_gpu(tmp_path, monkeypatch):
    jobs = dry_run.kinds_of_jobs([SEARCHED], tmp_path)
    monkeypatch.setattr(local, "visible_gpus", lambda: ["3", "4"])

    def command(workdir):
        return ["sh", "-c", "echo GPU $CUDA_VISIBLE_DEVICES; exit 1"]

    found = dict(dry_run.dry_run(jobs, tmp_path, command, never))
    assert found == dict.fromkeys(KINDS, Rehearsal(failure="GPU 3"))


def test_a_rehearsal_that_another_command_makes_is_left_alone(tmp_path):
    jobs = dry_run.kinds_of_jobs([SEARCHED], tmp_path)
    own = jobs["tiny/p=0/search"].workdir
    own.make()
    (own.path / "checkpoints").mkdir()
    with own_log(own) as log:
        log.write(b"still running")
        log.flush()
        with pytest.raises(RunsElsewhereError):
            next(dry_run.dry_run(jobs, tmp_path, lambda workdir: ["false"], never))
    assert own.log.read_text() == "still running"
    assert (own.path / "checkpoints").is_dir()
    # Once it has ended, its folder is cleared.
    next(dry_run.dry_run(jobs, tmp_path, lambda workdir: ["false"], never))
    assert own.log.read_text() == ""
    assert not (own.path / "checkpoints").exists()


@pytest.mark.faults
def test_the_command_trains_saves_resumes_and_evaluates(tmp_path):
    done = launch("sweep", "--sweep=tests/tiny_sweep.py", f"--workdir={tmp_path}", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kinds of runs, 6 calls of the step each" in done.stdout
    assert "device-hours" in done.stdout
    root = tmp_path / "dry_run"
    for name in ("tiny/p=0/seeds=0", "tiny/p=1/seeds=0"):
        log = (root / name / "train.log").read_text()
        assert "Stopped after step 4; the state is saved." in log
        assert "after step 4" in log[log.index("Stopped") :]
        measured = json.loads((root / FILE).read_text())[name]["measured"]
        assert measured["step_seconds"] > 0
        assert measured["peak_bytes"] > 1e6
    assert not list(tmp_path.glob("tiny"))
    # The sweep itself may begin there.
    done = launch("sweep", "--sweep=tests/tiny_sweep.py", f"--workdir={tmp_path}", "--status")
    assert done.returncode == 0, done.stderr


def test_the_peak_of_memory_is_that_of_the_process_alone():
    """Not that of this process, which started it."""
    large = np.ones(40_000_000)  # 320 MB
    words = ("-c", "import time; own = bytearray(50_000_000); time.sleep(1.2)")
    process = subprocess.Popen([sys.executable, *words])
    peak = dry_run._peak_bytes(process, never)
    assert process.returncode == 0
    assert large.sum() > 0
    if sys.platform == "linux":
        assert 50e6 < peak < 100e6
