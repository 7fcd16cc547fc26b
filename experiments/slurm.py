"""Programs as jobs of SLURM, through submitit; they go on when the command is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import submitit

from emergent_icl.sweeps.programs import Program
from emergent_icl.workdir import Workdir, read_object, write_whole
from experiments.executor import Failure, PlaceError, attempt, outcome, train_words
from experiments.slurm_job import TrainJob

# Of submitit: what it submits, and what a job says besides its program's log.
FOLDER = "slurm"
POLL_SECONDS = 2.0
# A job that is gone from the queue may have written files that are not seen here yet.
GONE_POLLS = 3
MOST_UNANSWERED = 30
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
          SlurmError: there is none.
        """
        for command in ("sbatch", "squeue"):
            if shutil.which(command) is None:
                raise SlurmError(f"--executor=slurm needs SLURM; there is no {command} here")
        self._submitit = submitit.SlurmExecutor(root / FOLDER, max_num_timeout=MOST_TIMEOUTS)
        self._submitit.update_parameters(**_parameters(request))
        self._flags, self._retry_failed = tuple(flags), retry_failed
        self._jobs: dict[str, tuple[Program, str]] = {}
        self._gone: dict[str, int] = {}
        self._next_poll, self._unanswered = 0.0, 0

    def start(self, programs: Sequence[Program]) -> Mapping[str, Failure | None]:
        """See Place; all of them, the queue is SLURM's."""
        alive = queued_jobs()
        started: dict[str, Failure | None] = {}
        fresh: list[Program] = []
        for program in programs:
            job = job_of(program.workdir)
            if job is not None and job in alive:
                # Submitted by an earlier command.
                self._jobs[program.name] = (program, job)
                started[program.name] = None
            elif job is not None and not self._retry_failed:
                started[program.name] = _failed_before(program, job)
            else:
                started[program.name] = attempt(program, lambda one=program: _prepare(one))
                fresh += [] if started[program.name] else [program]
        for program, job in zip(fresh, self._submit(fresh), strict=True):
            write_whole(_record(program.workdir), json.dumps({"job": job}) + "\n")
            self._jobs[program.name] = (program, job)
        return started

    def ended(self) -> Mapping[str, Failure | None]:
        """See Place."""
        if time.monotonic() < self._next_poll:
            return {}
        self._next_poll = time.monotonic() + POLL_SECONDS
        try:
            alive = queued_jobs()
        except SlurmError:  # It is busy, or restarted: jobs do not end by that.
            self._unanswered += 1
            if self._unanswered > MOST_UNANSWERED:
                raise
            return {}
        self._unanswered = 0
        over = {}
        for name, (program, job) in list(self._jobs.items()):
            self._gone[name] = 0 if job in alive else self._gone.get(name, 0) + 1
            if self._gone[name] and (program.is_complete() or self._gone[name] >= GONE_POLLS):
                over[name] = outcome(program, None)
                del self._jobs[name], self._gone[name]
        return over

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
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            raise SlurmError(f"SLURM refuses the jobs: {error}") from error
        return [job.job_id for job in jobs]


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
        "additional_parameters": {"requeue": True},
    }
    if request.partition:
        parameters["partition"] = request.partition
    if request.gpus:
        parameters["gpus_per_node"] = request.gpus
    if request.memory_gb:
        parameters["mem"] = f"{round(1024 * request.memory_gb)}MB"
    return parameters


def _record(workdir: Workdir) -> Path:
    return workdir.path / "job.json"


def job_of(workdir: Workdir) -> str | None:
    """The job that was submitted last for a program, None if none was."""
    path = _record(workdir)
    return str(read_object(path, "record of a job").get("job")) if path.exists() else None


def queued_jobs() -> dict[str, str]:
    """The user's jobs -> their states: PENDING, RUNNING ...

    Raises:
      SlurmError: SLURM does not answer.
    """
    words = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i %T"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise SlurmError(f"SLURM does not answer: {done.stderr.strip()}")
    return dict(line.split() for line in done.stdout.splitlines() if line.strip())


def _failed_before(program: Program, job: str) -> Failure:
    found = outcome(program, None)
    lines = found.lines if found else ()
    hint = f"job {job} ended before its time; --retry_failed submits it anew"
    return Failure(program, None, program.workdir.log, (*lines, hint))
