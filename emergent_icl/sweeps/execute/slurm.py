"""SLURM as a Place, through submitit: jobs continue when the command ends."""

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
from emergent_icl.sweeps.execute import loop
from emergent_icl.sweeps.jobs import Job

# submitit calls sbatch and, in its script, srun; this module calls squeue.
COMMANDS = ("sbatch", "squeue", "srun")
# submitit's folder: submitted jobs, and output outside of the jobs' logs.
FOLDER = "slurm"
# Files of a job that has left the queue may appear here with a delay.
GONE_SECONDS = 30.0
# Consecutive queries that may fail while SLURM is busy or restarting.
MOST_UNANSWERED = 60
REFUSALS = (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError, OSError)
# Number of time limits that a job may reach before it fails.
MOST_TIMEOUTS = 10_000
# Time that a job waits, after saving its state, for SLURM to end and requeue it.
REQUEUE_SECONDS = 600
# On a shared file system, the lock of a dead node may persist for a while.
LOCK_SECONDS = 120
# Exit status after a request to stop: once saved, or before training began.
STOPPED = (
    128 + signal.SIGUSR2, 128 + signal.SIGTERM, -signal.SIGUSR2, -signal.SIGTERM
)  # fmt: skip


class SlurmError(loop.PlaceError):
    """SLURM is not available, or rejects a request."""


class Request(NamedTuple):
    """Resources that each job requests."""

    partition: str = ""  # '' is the cluster's default.
    minutes: int = 240  # Time limit, after which the job is requeued and resumes.
    gpus: int = 0
    cpus: int = 1
    memory_gb: float = 0.0  # 0 is the cluster's default.
    at_once: int = 256  # Maximum number of jobs that run simultaneously.
    grace_seconds: int = 90  # Time to save before the time limit.

    def parameters(self) -> dict[str, Any]:
        """The parameters of submitit's executor."""
        memory = f"{round(1024 * self.memory_gb)}MB" if self.memory_gb else ""
        chosen = {"partition": self.partition, "gpus_per_node": self.gpus, "mem": memory}
        return {
            "job_name": "emergent_icl",
            "time": self.minutes,
            "cpus_per_task": self.cpus,
            "array_parallelism": self.at_once,
            "signal_delay_s": self.grace_seconds,
            # In some versions of SLURM, a step does not inherit it.
            "srun_args": [f"--cpus-per-task={self.cpus}"],
            "additional_parameters": {"requeue": True},
            **{name: value for name, value in chosen.items() if value},
        }


class SlurmJobs:
    """A cluster as a Place; jobs continue when it is left."""

    poll_seconds = 5.0

    def __init__(
        self, root: Path, request: Request, command: loop.Command, retry_failed: bool = False
    ) -> None:
        """Raises SlurmError if SLURM is not available or jobs would have no time to train.

        The root, the folder of all sweeps, must be on a file system shared by the nodes. With
        `retry_failed`, failed jobs of earlier commands are resubmitted.
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

    def start(self, jobs: Sequence[Job]) -> Mapping[str, loop.Failure | None]:
        """See Place; starts all jobs, since SLURM queues them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Another command may be about to submit the same jobs.
        with (self._folder / ".lock").open("ab") as lock:
            alive = self._alive() if try_lock(lock) else None
            return {} if alive is None else self._start(jobs, alive)

    def _start(
        self, jobs: Sequence[Job], alive: Mapping[str, str]
    ) -> Mapping[str, loop.Failure | None]:
        """Finds jobs in the queue and submits the others; both write and read `job.json`."""
        started: dict[str, loop.Failure | None] = {}
        fresh: list[Job] = []
        for job in jobs:
            own, num_steps = submission_of(job.workdir), job.config.training.num_steps
            if own is not None and own.id in alive:
                # Submitted by an earlier command.
                self._jobs[job.name] = (job, own.id)
                started[job.name] = None
            elif own is not None and own.num_steps == num_steps and not self._retry_failed:
                how = f"job {own.id} ended early; --retry_failed resubmits it"
                started[job.name] = loop.failure_of(job, how)
                if started[job.name] is None:  # It has just completed.
                    self._jobs[job.name] = (job, own.id)
            else:
                started[job.name] = loop.attempt(job, Job.claim)
                fresh += [] if started[job.name] else [job]
        for job, job_id in zip(fresh, self._submit(fresh), strict=True):
            submission = Submission(job_id, job.config.training.num_steps)
            job.workdir.write_json(job.workdir.job, submission._asdict())
            self._jobs[job.name] = (job, job_id)
        return started

    def ended(self) -> Mapping[str, loop.Failure | None]:
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
                over[name] = loop.failure_of(job, f"job {slurm_id} ended; its own output: {own}")
                del self._jobs[name], self._gone_since[name]
        return over

    def leave(self) -> str:
        """See Place; jobs continue."""
        jobs, self._jobs = [slurm_id for _, slurm_id in self._jobs.values()], {}
        if not jobs:
            return "No job was running."
        return f"{len(jobs)} jobs keep running (to cancel them: scancel {' '.join(jobs)})."

    def _alive(self) -> dict[str, str] | None:
        """Queued jobs; None without a response, SlurmError after too many attempts."""
        try:
            alive = queued_jobs()
        except SlurmError:
            self._unanswered += 1
            if self._unanswered > MOST_UNANSWERED:
                raise
            return None
        self._unanswered = 0
        return alive

    def _submit(self, jobs: Sequence[Job]) -> list[str]:
        if not jobs:
            return []
        calls = [TrainJob(self._command(one.workdir), str(one.workdir.path)) for one in jobs]
        try:
            with self._submitit.batch():
                submitted = [self._submitit.submit(call) for call in calls]
        except REFUSALS as error:
            raise SlurmError(f"SLURM rejected the jobs: {error}") from error
        return [one.job_id for one in submitted]


def check_commands(commands: Sequence[str] = COMMANDS) -> None:
    """Raises SlurmError if commands of SLURM are not on PATH."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise SlurmError(
            f"--executor=slurm needs SLURM, but {', '.join(missing)} cannot be found on PATH; run "
            "this on a node that can submit jobs, or use --executor=local"
        )


class Submission(NamedTuple):
    """The record of a submitted job; extended runs are submitted again."""

    id: str  # In SLURM.
    num_steps: int


def submission_of(workdir: Workdir) -> Submission | None:
    """The last submission of a job; None if there is none, or its record is damaged."""
    try:
        return Submission(**read_object(workdir.job, "record of a job"))
    except (WorkdirError, OSError, TypeError):
        return None


def queued_jobs() -> dict[str, str]:
    """The user's jobs with their states, such as PENDING; raises SlurmError if the query fails."""
    check_commands(("squeue",))
    words = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"SLURM cannot be queried: {error}") from error
    if done.returncode:
        raise SlurmError(f"SLURM does not respond: {done.stderr.strip()}")
    # The output may include warnings.
    pairs = [line.split() for line in done.stdout.splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


class TrainJob:
    """Trains the runs of a work directory; saves them and is requeued if preempted.

    SLURM sends signals to this process and, on some clusters, also to its child. SIGUSR2 announces
    the time limit or preemption: submitit calls `checkpoint` and requeues the job. After SIGTERM,
    SLURM itself ends and requeues it. A requeued job is called again and resumes.
    """

    def __init__(self, command: Sequence[str], workdir: str) -> None:
        self._command, self._workdir = tuple(command), workdir
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Trains to the end; raises RuntimeError on failure, WorkdirError if the log is locked."""
        folder = Workdir(self._workdir)
        with loop.own_log(folder, LOCK_SECONDS) as log:
            self._process = loop.start_process(self._command, log)
        signal.signal(signal.SIGTERM, lambda number, frame: self._ask_to_stop())
        status = self._process.wait()
        if status in STOPPED:
            time.sleep(REQUEUE_SECONDS)
        if status:
            raise RuntimeError(f"exit status {status}; its output is in {folder.log}")

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit in a signal handler before the job is requeued."""
        self._ask_to_stop()
        # No timeout: SLURM kills it after the grace period, and saved work is intact.
        while not self._has_ended():
            time.sleep(loop.POLL_SECONDS)
        return DelayedSubmission(TrainJob(self._command, self._workdir))

    def _ask_to_stop(self) -> None:
        # Not SIGTERM: if the child also received SLURM's, a second one would stop it immediately.
        if self._process is not None and not self._has_ended():
            os.kill(self._process.pid, signal.SIGUSR2)

    def _has_ended(self) -> bool:
        """Avoids `poll`: the handler may have interrupted `subprocess` while it holds a lock."""
        if self._process is None:
            return True
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        except ChildProcessError:  # Already waited for.
            return True

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_process": None}
