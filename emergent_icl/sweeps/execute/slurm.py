"""Programs as jobs of SLURM, through submitit; they go on when the command is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from emergent_icl.runs.workdir import Workdir, WorkdirError, read_object
from emergent_icl.sweeps.execute.loop import Failure, PlaceError, attempt, outcome, train_words
from emergent_icl.sweeps.execute.slurm_job import TrainJob
from emergent_icl.sweeps.jobs import Program

# submitit calls the first and, in its script, the last; we call the second.
COMMANDS = ("sbatch", "squeue", "srun")
# Of submitit: what it submits, and what a job says besides its program's log.
FOLDER = "slurm"
# A job that is gone from the queue may have written files that are not seen here yet.
GONE_SECONDS = 30.0
# Looks in a row that SLURM may leave unanswered: it is busy, or restarted; jobs go on.
MOST_UNANSWERED = 60
REFUSALS = (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError, OSError)
# How often the time of a job may be over before it is given up.
MOST_TIMEOUTS = 10_000


class SlurmError(PlaceError):
    """There is no SLURM here, or it refuses what is asked for."""


class Request(NamedTuple):
    """What each job asks for.

    Attributes:
      partition: '' is the cluster's own choice.
      minutes: after which a job is requeued, and goes on.
      gpus: of its node.
      cpus: cores.
      memory_gb: 0 is the cluster's own choice.
      at_once: jobs that run at a time, at most.
      grace_seconds: before its end in which a job saves.
    """

    partition: str = ""
    minutes: int = 240
    gpus: int = 0
    cpus: int = 1
    memory_gb: float = 0.0
    at_once: int = 256
    grace_seconds: int = 90


class SlurmJobs:
    """A place (see there) of a cluster; what is left there goes on."""

    poll_seconds = 5.0

    def __init__(
        self, root: Path, request: Request, flags: Sequence[str] = (), retry_failed: bool = False
    ) -> None:
        """Looks for SLURM.

        Args:
          root: folder of all sweeps, on a file system that the nodes share.
          request: of each job.
          flags: further flags of `experiments.train`.
          retry_failed: submit anew what a job of an earlier command failed in.

        Raises:
          SlurmError: there is none, or jobs would have no time.
        """
        check_commands()
        if request.grace_seconds >= 60 * request.minutes:
            raise SlurmError(
                f"--grace={request.grace_seconds} seconds must be less than --minutes="
                f"{request.minutes}"
            )
        self._folder = root / FOLDER
        self._submitit = submitit.SlurmExecutor(self._folder, max_num_timeout=MOST_TIMEOUTS)
        self._submitit.update_parameters(**_parameters(request))
        self._flags, self._retry_failed = tuple(flags), retry_failed
        self._jobs: dict[str, tuple[Program, str]] = {}
        self._gone_since: dict[str, float] = {}
        self._unanswered = 0

    def start(self, programs: Sequence[Program]) -> Mapping[str, Failure | None]:
        """See Place; all of them, the queue is SLURM's."""
        alive = self._alive()
        if alive is None:
            return {}
        started: dict[str, Failure | None] = {}
        fresh: list[Program] = []
        for program in programs:
            job = job_of(program.workdir)
            if job is not None and job.id in alive:
                # Submitted by an earlier command.
                self._jobs[program.name] = (program, job.id)
                started[program.name] = None
            elif job is not None and job.is_of(program) and not self._retry_failed:
                how = f"job {job.id} ended before its time; --retry_failed submits it anew"
                failure = outcome(program, how)
                if failure is None:  # It was the last that it did.
                    self._jobs[program.name] = (program, job.id)
                started[program.name] = failure
            else:
                started[program.name] = attempt(program, lambda one=program: _prepare(one))
                fresh += [] if started[program.name] else [program]
        for program, job_id in zip(fresh, self._submit(fresh), strict=True):
            Job(job_id, program.config.training.num_steps).record(program.workdir)
            self._jobs[program.name] = (program, job_id)
        return started

    def ended(self) -> Mapping[str, Failure | None]:
        """See Place."""
        alive = self._alive()
        if alive is None:
            return {}
        over = {}
        for name, (program, job) in list(self._jobs.items()):
            if job in alive:
                self._gone_since.pop(name, None)
                continue
            since = self._gone_since.setdefault(name, time.monotonic())
            if program.is_complete() or time.monotonic() >= since + GONE_SECONDS:
                own = self._folder / f"{job}_0_log.err"
                over[name] = outcome(program, f"job {job} ended; of itself it says: {own}")
                del self._jobs[name], self._gone_since[name]
        return over

    def _alive(self) -> dict[str, str] | None:
        """Jobs in the queue; None where SLURM does not answer.

        Raises:
          SlurmError: it has not for too long.
        """
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
        jobs = " ".join(job for _, job in self._jobs.values())
        count = len(self._jobs)
        self._jobs = {}
        if not count:
            return "Left; no job was running."
        return f"Left; {count} jobs go on (to end them: scancel {jobs})."

    def _submit(self, programs: Sequence[Program]) -> list[str]:
        if not programs:
            return []
        calls = [TrainJob(train_words(one, self._flags), str(one.workdir.path)) for one in programs]
        try:
            with self._submitit.batch():
                jobs = [self._submitit.submit(call) for call in calls]
        except REFUSALS as error:
            raise SlurmError(f"SLURM refuses the jobs: {error}") from error
        return [job.job_id for job in jobs]


def check_commands(commands: Sequence[str] = COMMANDS) -> None:
    """Raises SlurmError where these commands of SLURM are not on PATH."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise SlurmError(
            f"--executor=slurm needs SLURM, but {', '.join(missing)} cannot be found on PATH; "
            "run it on a node of the cluster from which jobs are submitted, or use "
            "--executor=local"
        )


def _prepare(program: Program) -> None:
    program.check()
    program.workdir.make()
    program.workdir.claim(program.config)


def _parameters(request: Request) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "job_name": "emergent_icl",
        "time": request.minutes,
        "cpus_per_task": request.cpus,
        "array_parallelism": request.at_once,
        "signal_delay_s": request.grace_seconds,
        # Of some versions a step does not inherit it.
        "srun_args": [f"--cpus-per-task={request.cpus}"],
        "additional_parameters": {"requeue": True},
    }
    if request.partition:
        parameters["partition"] = request.partition
    if request.gpus:
        parameters["gpus_per_node"] = request.gpus
    if request.memory_gb:
        parameters["mem"] = f"{round(1024 * request.memory_gb)}MB"
    return parameters


class Job(NamedTuple):
    """A job that was submitted for a program: its id, and how long the runs were to be."""

    id: str
    num_steps: int

    def is_of(self, program: Program) -> bool:
        """Whether it was to do what the program still has to do; runs may have been prolonged."""
        return self.num_steps == program.config.training.num_steps

    def record(self, workdir: Workdir) -> None:
        """Writes it into a program's folder."""
        workdir.write_json(workdir.job, self._asdict())


def job_of(workdir: Workdir) -> Job | None:
    """The job that was submitted last for a program; None if none was, or nobody can read it."""
    try:
        return Job(**read_object(workdir.job, "record of a job"))
    except (WorkdirError, OSError, TypeError):
        return None


def queued_jobs() -> dict[str, str]:
    """The user's jobs -> their states: PENDING, RUNNING ...

    Raises:
      SlurmError: there is no SLURM, or it does not answer.
    """
    check_commands(("squeue",))
    words = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"SLURM cannot be asked: {error}") from error
    if done.returncode:
        raise SlurmError(f"SLURM does not answer: {done.stderr.strip()}")
    # Besides its answer it may warn.
    pairs = [line.split() for line in done.stdout.splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
