"""A job is saved whichever of its processes receive SLURM's signals."""

import os
import re
import signal
from pathlib import Path

import pytest
from launching import PATIENCE, start, train_flags, wait_for

from emergent_icl.runs.records import last_step
from emergent_icl.runs.workdir import Workdir

pytestmark = pytest.mark.faults

# As in submitit, whose handler of SIGUSR2 requeues the job.
JOB = """
import signal, sys
from emergent_icl.sweeps.execute import slurm
slurm.REQUEUE_SECONDS = int(sys.argv[2])
command = [sys.executable, "-m", "emergent_icl", "train", *sys.argv[3:]]
job = slurm.TrainJob(command, sys.argv[1])
def requeue(number, frame):
    job.checkpoint()
    sys.exit(7)
signal.signal(signal.SIGUSR2, requeue)
job()
"""
ENDLESS = train_flags(
    preset="symbols",
    **{
        "training.num_steps": 10**6,
        "checkpoints.every": 500_000,
        "evaluation.every": 500_000,
    },
)


def child_of(pid):
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.mark.parametrize(
    ("number", "is_tree", "status"),
    [
        # With control groups: only the process that SLURM started.
        (signal.SIGTERM, False, 1),
        (signal.SIGUSR2, False, 7),
        # Without them: every process of the job.
        (signal.SIGTERM, True, 1),
        (signal.SIGUSR2, True, 7),
    ],
)
def test_a_stopped_job_is_saved(number, is_tree, status, tmp_path):
    folder = Workdir(tmp_path / "run")
    folder.make()
    # The job must still wait when the second signal arrives, whose handler exits with status 7.
    patience = 60 if number == signal.SIGUSR2 else 0
    job = start("-c", JOB, folder.path, patience, f"--workdir={folder.path}", *ENDLESS)
    wait_for(lambda: last_step(folder.metrics) >= 20, "two lines of metrics")
    if is_tree:
        os.kill(child_of(job.pid), number)
    job.send_signal(number)
    job.communicate(timeout=PATIENCE)
    assert job.returncode == status
    (stopped,) = re.findall(r"Stopped after step (\d+); the state is saved", folder.log.read_text())
    assert [path.name for path in folder.checkpoints.iterdir()] == [stopped]
