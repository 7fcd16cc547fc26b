"""SLURM jobs of sweeps, with shell scripts in place of SLURM's commands.

A real SLURM is tested in tests/integration.
"""

import json
import os
import sys

import pytest
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.sweeps.execute import slurm
from emergent_icl.sweeps.execute.slurm import (
    Request,
    SlurmError,
    SlurmJobs,
    TrainJob,
    queued_jobs,
    submission_of,
)
from emergent_icl.sweeps.jobs import make_jobs
from experiments import slurm_job as queued

SBATCH = """#!/bin/sh
cp "$1" {folder}/script
count=$(cat {folder}/count 2> /dev/null || echo 0)
echo $((count + 1)) > {folder}/count
echo "Submitted batch job $((count + 1))"
"""
# Uses shell builtins alone, so that it works with an otherwise empty PATH.
SQUEUE = """#!/bin/sh
while read -r line; do echo "$line"; done < {folder}/queue
"""
# submitit only checks that it exists.
SRUN = """#!/bin/sh
exit 1
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder on PATH: `queue` is the output of squeue, `script` the input of sbatch."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "queue").touch()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("srun", SRUN)):
        command(folder, name, text)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "GONE_SECONDS", 0.0)
    return folder


def command(folder, name, text):
    path = folder / name
    path.write_text(text.format(folder=folder))
    path.chmod(0o755)


def tiny_jobs(root, **options):
    changes = {name.replace("__", "."): value for name, value in options.items()}
    return make_jobs(
        tiny_sweep.seeded([tiny_sweep.get_sweep().with_base_options(changes)], (0, 1)), root, 2
    )


def train(workdir):
    return ["train", str(workdir.path)]


def names(found):
    return [one.name for one in found]


def test_a_request_is_passed_to_sbatch(cluster, tmp_path):
    request = Request("gpu", 90, gpus=2, cpus=8, memory_gb=1.5, at_once=1, grace_seconds=40)
    all_ = tiny_jobs(tmp_path)
    assert SlurmJobs(tmp_path, request, train).start(all_) == dict.fromkeys(names(all_))
    lines = (cluster / "script").read_text().splitlines()
    for option in (
        "partition=gpu", "time=90", "gpus-per-node=2", "cpus-per-task=8", "mem=1536MB",
        "array=0-1%1", "signal=USR2@40", "requeue",
    ):  # fmt: skip
        assert f"#SBATCH --{option}" in lines, option
    # A step may not inherit it.
    assert any(line.startswith("srun ") and "--cpus-per-task=8" in line for line in lines)


def test_jobs_end_complete_or_with_the_path_of_their_output(cluster, tmp_path):
    done, failed = tiny_jobs(tmp_path)
    jobs = SlurmJobs(tmp_path, Request(), train)
    jobs.start([done, failed])
    assert [submission_of(one.workdir).id for one in (done, failed)] == ["1_0", "1_1"]
    (cluster / "queue").write_text("1_0 RUNNING\n1_1 PENDING\n")
    assert jobs.ended() == {}
    (cluster / "queue").write_text("")
    finish(done, Ends(icl=0.5))
    failed.workdir.log.write_text("first\nlast\n")
    ended = jobs.ended()
    assert ended[done.name] is None
    assert ended[failed.name].how == (
        f"job 1_1 ended; its own output: {tmp_path}/slurm/1_1_0_log.err"
    )
    assert ended[failed.name].lines == ("first", "last")
    assert jobs.leave() == "No job was running."


def test_a_later_command_adopts_queued_jobs(cluster, tmp_path):
    all_ = tiny_jobs(tmp_path)
    SlurmJobs(tmp_path, Request(), train).start(all_)
    (cluster / "queue").write_text("1_0 RUNNING\n1_1 PENDING\n")
    jobs = SlurmJobs(tmp_path, Request(), train)
    assert jobs.start(all_) == dict.fromkeys(names(all_))
    assert (cluster / "count").read_text() == "1\n"
    assert jobs.leave() == "2 jobs keep running (to cancel them: scancel 1_0 1_1)."


def test_commands_submit_one_after_the_other(cluster, tmp_path):
    fcntl = pytest.importorskip("fcntl")  # Windows has no such locks.
    all_ = tiny_jobs(tmp_path)
    (tmp_path / "slurm").mkdir()
    with (tmp_path / "slurm" / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert SlurmJobs(tmp_path, Request(), train).start(all_) == {}
        assert not (cluster / "count").exists()
    assert SlurmJobs(tmp_path, Request(), train).start(all_) == dict.fromkeys(names(all_))


def test_failed_jobs_are_resubmitted_only_on_request(cluster, tmp_path):
    all_ = tiny_jobs(tmp_path)
    SlurmJobs(tmp_path, Request(), train).start(all_)
    found = SlurmJobs(tmp_path, Request(), train).start(all_)
    assert "--retry_failed resubmits it" in found[all_[0].name].how
    assert SlurmJobs(tmp_path, Request(), train, retry_failed=True).start(all_) == dict.fromkeys(
        names(all_)
    )
    assert [submission_of(one.workdir).id for one in all_] == ["2_0", "2_1"]


def test_extended_runs_have_not_failed(cluster, tmp_path):
    all_ = tiny_jobs(tmp_path)
    SlurmJobs(tmp_path, Request(), train).start(all_)
    for one in all_:
        finish(one, Ends(icl=0.5))
    longer = tiny_jobs(tmp_path, training__num_steps=80)
    assert SlurmJobs(tmp_path, Request(), train).start(longer) == dict.fromkeys(names(longer))
    assert submission_of(longer[0].workdir) == ("2_0", 80)


def test_a_busy_slurm_is_polled_again(cluster, tmp_path, monkeypatch):
    all_ = tiny_jobs(tmp_path)
    command(cluster, "squeue", "#!/bin/sh\necho 'slurm_load_jobs error' >&2; exit 1\n")
    jobs = SlurmJobs(tmp_path, Request(), train)
    assert jobs.start(all_) == {}
    assert jobs.ended() == {}
    monkeypatch.setattr(slurm, "MOST_UNANSWERED", 2)
    with pytest.raises(SlurmError, match="SLURM does not respond: slurm_load_jobs error"):
        jobs.start(all_)


def test_warnings_of_squeue_are_ignored(cluster):
    (cluster / "queue").write_text("squeue: warning: slow\n7_0 RUNNING\n\n")
    assert queued_jobs() == {"7_0": "RUNNING"}


def test_the_reason_of_a_rejected_submission_is_reported(cluster, tmp_path):
    command(cluster, "sbatch", "#!/bin/sh\necho 'invalid partition specified: gpu' >&2; exit 1\n")
    with pytest.raises(SlurmError, match=r"SLURM rejected the jobs: .*invalid partition"):
        SlurmJobs(tmp_path, Request("gpu"), train).start(tiny_jobs(tmp_path))


@pytest.mark.parametrize("missing", [("sbatch",), ("srun",), ("sbatch", "squeue", "srun")])
def test_missing_commands_of_slurm_are_reported_before_anything_is_written(
    cluster, tmp_path, monkeypatch, missing
):
    monkeypatch.setenv("PATH", str(cluster))
    for name in missing:
        (cluster / name).unlink()
    said = f"needs SLURM, but {', '.join(missing)} cannot be found on PATH"
    with pytest.raises(SlurmError, match=said):
        SlurmJobs(tmp_path / "sweeps", Request(), train)
    if "squeue" in missing:
        with pytest.raises(SlurmError, match="needs SLURM, but squeue cannot be found on PATH"):
            queued_jobs()
    else:  # Monitoring needs only squeue.
        assert queued_jobs() == {}
    assert not (tmp_path / "sweeps").exists()


def test_a_grace_period_must_be_shorter_than_the_time_limit(cluster, tmp_path):
    with pytest.raises(SlurmError, match="--grace=90 seconds must be less than --minutes=1"):
        SlurmJobs(tmp_path, Request(minutes=1), train)


def test_a_damaged_record_is_ignored(cluster, tmp_path):
    (one, _) = tiny_jobs(tmp_path)
    one.workdir.make()
    for content in ("", "[]", '{"job": 1}', json.dumps({"id": "1", "num_steps": 1, "more": 2})):
        one.workdir.job.write_text(content)
        assert submission_of(one.workdir) is None


def test_a_job_that_has_not_started_is_requeued_unchanged():
    job = TrainJob(["--config=x"], "/nowhere")
    assert job.checkpoint().function.__dict__ == job.__dict__


def test_jobs_queued_by_an_earlier_version_still_train():
    """Its pickles name a class of experiments.slurm_job and lack the start of the command."""
    job = queued.TrainJob.__new__(queued.TrainJob)
    job.__setstate__({"_words": ("--config=x",), "_workdir": "/nowhere", "_process": None})
    again = job.checkpoint().function
    assert again._command == (sys.executable, "-m", "experiments.train", "--config=x")
    assert (type(again), again._workdir) == (TrainJob, "/nowhere")
