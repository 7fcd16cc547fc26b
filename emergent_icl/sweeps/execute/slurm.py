"""SLURM as a place, through submitit: jobs go on when the command is left; what a node runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission

from emergent_icl.runs.locks import try_lock
from emergent_icl.runs.workdir import Workdir, WorkdirError, read_object
from emergent_icl.sweeps.execute.loop import Command, Failure, PlaceError, attempt, failure_of
from emergent_icl.sweeps.jobs import Job

# submitit calls the first and, in its script, the last; we call the second.
COMMANDS = ("sbatch", "squeue", "srun")
# submitit's: what it submits, and what a node prints besides the job's log.
FOLDER = "slurm"
# A job that is gone from the queue may have written files that are not seen here yet.
GONE_SECONDS = 30.0
# Questions in a row that SLURM, busy or restarting, may leave unanswered; jobs go on.
MOST_UNANSWERED = 60
REFUSALS = (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError, OSError)
# How often a job may run out of time before it is given up.
MOST_TIMEOUTS = 10_000
POLL_SECONDS = 0.5
# How long a job whose state is saved waits for SLURM to end and requeue it.
REQUEUE_SECONDS = 600
# A lock of a node that died may outlive it on a shared file system.
LOCK_SECONDS = 120
# What a job that was told to stop ends with: saved, or before it had begun.
STOPPED = (
    128 + signal.SIGUSR2, 128 + signal.SIGTERM, -signal.SIGUSR2, -signal.SIGTERM
)  # fmt: skip


class SlurmError(PlaceError):
    """There is no SLURM here, or it refuses what is asked for."""


class Request(NamedTuple):
    """What each job asks for."""

    partition: str = ""  # '' is the cluster's own choice.
    minutes: int = 240  # After which it is requeued and resumes.
    gpus: int = 0
    cpus: int = 1
    memory_gb: float = 0.0  # 0 is the cluster's own choice.
    at_once: int = 256  # Jobs that run at a time, at most.
    grace_seconds: int = 90  # Before its end, in which it saves.

    def parameters(self) -> dict[str, Any]:
        """The same for submitit."""
        memory = f"{round(1024 * self.memory_gb)}MB" if self.memory_gb else ""
        chosen = {"partition": self.partition, "gpus_per_node": self.gpus, "mem": memory}
        return {
            "job_name": "emergent_icl",
            "time": self.minutes,
            "cpus_per_task": self.cpus,
            "array_parallelism": self.at_once,
            "signal_delay_s": self.grace_seconds,
            # In some versions of SLURM a step does not inherit it.
            "srun_args": [f"--cpus-per-task={self.cpus}"],
            "additional_parameters": {"requeue": True},
            **{name: value for name, value in chosen.items() if value},
        }


class SlurmJobs:
    """A cluster as a Place; jobs that are left there go on."""

    poll_seconds = 5.0

    def __init__(
        self, root: Path, request: Request, command: Command, retry_failed: bool = False
    ) -> None:
        """Looks for SLURM; raises SlurmError where there is none, or jobs would have no time.

        The root, the folder of all sweeps, lies on a file system that the nodes share. With
        `retry_failed` what a job of an earlier command failed in is resubmitted.
        """
        check_commands()
        if request.grace_seconds >= 60 * request.minutes:
            raise SlurmError(
                f"--grace={request.grace_seconds} seconds must be less than --minutes="
                f"{request.minutes}"
            )
        self._folder = root / FOLDER
        self._submitit = submitit.SlurmExecutor(self._folder, max_num_timeout=MOST_TIMEOUTS)
        self._submitit.update_parameters(**request.parameters())
        self._command, self._retry_failed = command, retry_failed
        self._jobs: dict[str, tuple[Job, str]] = {}
        self._gone_since: dict[str, float] = {}
        self._unanswered = 0

    def start(self, jobs: Sequence[Job]) -> Mapping[str, Failure | None]:
        """See Place; all of them, the queue is SLURM's."""
        alive = self._alive()
        if alive is None:
            return {}
        started: dict[str, Failure | None] = {}
        fresh: list[Job] = []
        for job in jobs:
            own, num_steps = submission_of(job.workdir), job.config.training.num_steps
            if own is not None and own.id in alive:
                # Submitted by an earlier command.
                self._jobs[job.name] = (job, own.id)
                started[job.name] = None
            elif own is not None and own.num_steps == num_steps and not self._retry_failed:
                how = f"job {own.id} ended early; --retry_failed resubmits it"
                started[job.name] = failure_of(job, how)
                if started[job.name] is None:  # It was the last that it did.
                    self._jobs[job.name] = (job, own.id)
            else:
                started[job.name] = attempt(job, _prepare)
                fresh += [] if started[job.name] else [job]
        for job, job_id in zip(fresh, self._submit(fresh), strict=True):
            submission = Submission(job_id, job.config.training.num_steps)
            job.workdir.write_json(job.workdir.job, submission._asdict())
            self._jobs[job.name] = (job, job_id)
        return started

    def ended(self) -> Mapping[str, Failure | None]:
        """See Place."""
        alive = self._alive()
        if alive is None:
            return {}
        over = {}
        for name, (job, slurm_id) in list(self._jobs.items()):
            if slurm_id in alive:
                self._gone_since.pop(name, None)
                continue
            since = self._gone_since.setdefault(name, time.monotonic())
            if job.is_complete() or time.monotonic() >= since + GONE_SECONDS:
                own = self._folder / f"{slurm_id}_0_log.err"
                over[name] = failure_of(job, f"job {slurm_id} ended; of itself it says: {own}")
                del self._jobs[name], self._gone_since[name]
        return over

    def _alive(self) -> dict[str, str] | None:
        """Jobs in the queue; None where SLURM does not answer, SlurmError after too long."""
        try:
            alive = queued_jobs()
        except SlurmError:
            self._unanswered += 1
            if self._unanswered > MOST_UNANSWERED:
                raise
            return None
        self._unanswered = 0
        return alive

    def leave(self) -> str:
        """See Place; its jobs go on."""
        jobs, self._jobs = [slurm_id for _, slurm_id in self._jobs.values()], {}
        if not jobs:
            return "Left; no job was running."
        return f"Left; {len(jobs)} jobs go on (to end them: scancel {' '.join(jobs)})."

    def _submit(self, jobs: Sequence[Job]) -> list[str]:
        if not jobs:
            return []
        calls = [TrainJob(self._command(one.workdir), str(one.workdir.path)) for one in jobs]
        try:
            with self._submitit.batch():
                submitted = [self._submitit.submit(call) for call in calls]
        except REFUSALS as error:
            raise SlurmError(f"SLURM refuses the jobs: {error}") from error
        return [one.job_id for one in submitted]


def check_commands(commands: Sequence[str] = COMMANDS) -> None:
    """Raises SlurmError where these commands of SLURM are not on PATH."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise SlurmError(
            f"--executor=slurm needs SLURM, but {', '.join(missing)} cannot be found on PATH; "
            "run it on a node of the cluster from which jobs are submitted, or use "
            "--executor=local"
        )


def _prepare(job: Job) -> None:
    job.check()
    job.workdir.make()
    job.workdir.claim(job.config)


class Submission(NamedTuple):
    """What was submitted to SLURM for a job: its id there, and how long the runs were to be.

    Runs may have been prolonged since then: what ended as it should is submitted once more.
    """

    id: str
    num_steps: int


def submission_of(workdir: Workdir) -> Submission | None:
    """What was submitted last for a job; None if nothing was, or nobody can read it."""
    try:
        return Submission(**read_object(workdir.job, "record of a job"))
    except (WorkdirError, OSError, TypeError):
        return None


def queued_jobs() -> dict[str, str]:
    """The user's jobs and their states, as PENDING; raises SlurmError without an answer."""
    check_commands(("squeue",))
    words = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"SLURM cannot be asked: {error}") from error
    if done.returncode:
        raise SlurmError(f"SLURM does not answer: {done.stderr.strip()}")
    # It may print warnings, too.
    pairs = [line.split() for line in done.stdout.splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


class TrainJob:
    """Trains the runs of a work directory; saved and requeued where it is preempted.

    SLURM's signals reach this process, and on some clusters the job as well. SIGUSR2 says that
    the job's time is nearly over, or that it is about to be preempted: submitit answers it with
    `checkpoint`, and requeues the job. SIGTERM says that SLURM itself ends and requeues it. A job
    that is requeued is called again from its beginning: the work directory knows the rest.
    """

    def __init__(self, command: Sequence[str], workdir: str) -> None:
        """Takes the command that trains there, and the folder."""
        self._command, self._workdir = tuple(command), workdir
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Trains to the end; raises RuntimeError if that fails, WorkdirError if others train."""
        folder = Workdir(self._workdir)
        with folder.log.open("ab") as log:
            if not try_lock(log, LOCK_SECONDS):
                raise WorkdirError(f"a job of another command still runs in {folder.path}")
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Signals are this process's to pass on.
                start_new_session=True,
            )
        signal.signal(signal.SIGTERM, lambda number, frame: self._ask_to_stop())
        status = self._process.wait()
        if status in STOPPED:
            time.sleep(REQUEUE_SECONDS)
        if status:
            raise RuntimeError(f"exit status {status}; its output is in {folder.log}")

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit, in a signal's handler, when the job is to be requeued."""
        self._ask_to_stop()
        # However long: SLURM kills it when its grace is over, and nothing saved is lost.
        while not self._has_ended():
            time.sleep(POLL_SECONDS)
        return DelayedSubmission(TrainJob(self._command, self._workdir))

    def _ask_to_stop(self) -> None:
        # Not SIGTERM: where the job has SLURM's own, a second one would be an order.
        if self._process is not None and not self._has_ended():
            os.kill(self._process.pid, signal.SIGUSR2)

    def _has_ended(self) -> bool:
        """Asks the system, not `subprocess`: whom the handler interrupts may hold its lock."""
        if self._process is None:
            return True
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        except ChildProcessError:  # Somebody has waited for it already.
            return True

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_process": None}
