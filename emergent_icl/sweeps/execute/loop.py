"""Runs jobs in parallel at a place; if one fails, the others continue."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import IO, NamedTuple, Protocol

from emergent_icl.runs.locks import is_locked, try_lock
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.jobs import Job

# Returns the command that trains in a work directory, which contains its config.
Command = Callable[[Workdir], Sequence[str]]

POLL_SECONDS = 0.5
# Number of last lines of a failed job's log to show.
SHOWN_LINES = 5


class Failure(NamedTuple):
    """A failed job: how it failed, and the last lines of its log or an error."""

    job: Job
    how: str
    lines: tuple[str, ...]
    is_elsewhere: bool = False  # Another command is running it, and may complete it.


class RunsElsewhereError(WorkdirError):
    """Another command's job is running in a work directory."""


class Watcher:
    """Callbacks for events of the loop, which by default do nothing."""

    def polled(self, running: Sequence[Job]) -> None:
        """Called after each poll of the place."""

    def started(self, job: Job) -> None:
        """Called after a job was started."""

    def waits(self, failure: Failure) -> None:
        """Called once for a job that another command is running."""

    def ended(self, job: Job, failure: Failure | None) -> None:
        """Called after a job ended; `failure` is None if it is complete."""


class Stopped(Exception):  # noqa: N818  (Not an error: the user requested it.)
    """A signal stopped the loop; states what happened to running jobs, and earlier failures."""

    def __init__(self, number: signal.Signals, said: str, failures: Sequence[Failure]) -> None:
        super().__init__(f"stopped by {number.name}")
        self.signal, self.said, self.failures = number, said, failures


class PlaceError(RuntimeError):
    """Jobs cannot run at the requested place."""


class Place(Protocol):
    """Where jobs run; polled every `poll_seconds`."""

    poll_seconds: float

    def start(self, jobs: Sequence[Job]) -> Mapping[str, Failure | None]:
        """Starts as many jobs as fit, in order.

        Returns the name of each, with None if it is running, or why it could not be started.
        """
        ...

    def ended(self) -> Mapping[str, Failure | None]:
        """Jobs that have ended since the last call; None if complete."""
        ...

    def leave(self) -> str:
        """Stops running jobs or leaves them running; returns a message that says which."""
        ...


def run_jobs(
    find_jobs: Callable[[], Sequence[Job]],
    place: Place,
    watcher: Watcher,
    stop_requested: Callable[[], signal.Signals | None],
) -> list[Failure]:
    """Runs all incomplete jobs; returns those that failed, in order.

    A job that another command is running is started again once it has stopped there, unless it is
    complete by then.

    Args:
      find_jobs: returns all jobs in the order in which to start them; called again after a job
        ends, since others may have waited for it.
      place: where they run.
      watcher: notified of events.
      stop_requested: polled; if it returns a signal, Stopped is raised.
    """
    jobs = _Jobs(find_jobs, place, watcher)
    try:
        while jobs.start():
            next_look = time.monotonic() + max(place.poll_seconds, POLL_SECONDS)
            while time.monotonic() < next_look:
                if signal_number := stop_requested():
                    raise Stopped(signal_number, place.leave(), list(jobs.failures.values()))
                time.sleep(POLL_SECONDS)
            jobs.poll()
        return list(jobs.failures.values())
    finally:
        place.leave()


class _Jobs:
    """The incomplete jobs of a loop: waiting, running here, running elsewhere, or failed."""

    def __init__(
        self, find_jobs: Callable[[], Sequence[Job]], place: Place, watcher: Watcher
    ) -> None:
        self._find_jobs, self._place, self._watcher = find_jobs, place, watcher
        self._running, self._elsewhere = dict[str, Job](), dict[str, Job]()
        self.failures: dict[str, Failure] = {}
        self._waiting = _ready(find_jobs(), ())

    def start(self) -> bool:
        """Starts as many jobs as fit; returns whether any is running or waiting."""
        ready = [job for job in self._waiting if not self._runs_elsewhere(job)]
        started = self._place.start(ready) if ready else {}
        tried = [job for job in ready if job.name in started]
        self._waiting = [job for job in self._waiting if job.name not in started]
        for job in tried:
            if (failure := started[job.name]) is None:
                self._running[job.name] = job
                self._elsewhere.pop(job.name, None)
                self._watcher.started(job)
            elif failure.is_elsewhere:
                self._waiting.append(job)
                if job.name not in self._elsewhere:
                    self._watcher.waits(failure)
                self._elsewhere[job.name] = job
            else:
                self._end(job, failure)
        return bool(self._running or self._waiting)

    def poll(self) -> None:
        """Notes which jobs have ended here, or are complete elsewhere, and what may start now."""
        self._watcher.polled(list(self._running.values()))
        ended = self._place.ended()
        for name, failure in ended.items():
            self._end(self._running.pop(name), failure)
        complete = [job for job in self._elsewhere.values() if job.is_complete()]
        for job in complete:
            self._end(self._elsewhere.pop(job.name), None)
        if ended or complete:
            self._waiting = _ready(self._find_jobs(), {*self._running, *self.failures})

    def _runs_elsewhere(self, job: Job) -> bool:
        """Whether it did so before, and still does."""
        return job.name in self._elsewhere and is_locked(job.workdir.log)

    def _end(self, job: Job, failure: Failure | None) -> None:
        if failure is not None:
            self.failures[job.name] = failure
        self._watcher.ended(job, failure)


def _ready(jobs: Sequence[Job], over: Collection[str]) -> list[Job]:
    """Jobs that can be started now, except those named in `over`."""
    open_jobs = (one for one in jobs if not one.waits_for and one.name not in over)
    return [job for job in open_jobs if not job.is_complete()]


def attempt(job: Job, start: Callable[[Job], None]) -> Failure | None:
    """Checks and starts a job; returns any failure, so that other jobs still start."""
    try:
        job.check()
        job.workdir.make()
        start(job)
    except (OSError, WorkdirError) as error:
        is_elsewhere = isinstance(error, RunsElsewhereError)
        return Failure(job, "not started", (str(error),), is_elsewhere)
    return None


def failure_of(job: Job, how: str) -> Failure | None:
    """None if a job is complete; otherwise its failure, with the end of its log."""
    if job.is_complete():
        return None
    path = job.workdir.log
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return Failure(job, how, tuple(text.strip().splitlines()[-SHOWN_LINES:]))


def own_log(workdir: Workdir, patience_seconds: float = 1.0) -> IO[bytes]:
    """Opens and locks a job's log; raises RunsElsewhereError if another command's job has it.

    Child processes inherit the lock with the file, so it lasts as long as the job, even if the
    launcher is killed.
    """
    log = workdir.log.open("ab")
    if not try_lock(log, patience_seconds):
        log.close()
        raise RunsElsewhereError(f"another command's job is still running in {workdir.path}")
    return log


def start_process(
    command: Sequence[str], log: IO[bytes], environment: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[bytes]:
    """Starts a command that writes to a log, with additional environment variables.

    It runs in a new session, so that its parent decides which signals to forward.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        start_new_session=True,
    )
