"""Runs jobs in parallel at a place; if one fails, the others continue."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import IO, NamedTuple, Protocol

from emergent_icl.runs.locks import try_lock
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
    running, elsewhere = dict[str, Job](), dict[str, Job]()
    failures: dict[str, Failure] = {}

    def end(job: Job, failure: Failure | None) -> None:
        if failure is not None:
            failures[job.name] = failure
        watcher.ended(job, failure)

    waiting = _ready(find_jobs(), ())
    try:
        while True:
            started = place.start(waiting) if waiting else {}
            left = [one for one in waiting if one.name not in started]
            for job in [one for one in waiting if one.name in started]:
                if (failure := started[job.name]) is None:
                    running[job.name] = job
                    elsewhere.pop(job.name, None)
                    watcher.started(job)
                elif failure.is_elsewhere:
                    left.append(job)
                    if job.name not in elsewhere:
                        watcher.waits(failure)
                    elsewhere[job.name] = job
                else:
                    end(job, failure)
            waiting = left
            if not running and not waiting:
                return list(failures.values())
            next_look = time.monotonic() + max(place.poll_seconds, POLL_SECONDS)
            while time.monotonic() < next_look:
                if signal_number := stop_requested():
                    raise Stopped(signal_number, place.leave(), list(failures.values()))
                time.sleep(POLL_SECONDS)
            watcher.polled(list(running.values()))
            ended = place.ended()
            for name, failure in ended.items():
                end(running.pop(name), failure)
            completed = [name for name, job in elsewhere.items() if job.is_complete()]
            for name in completed:
                end(elsewhere.pop(name), None)
            if ended or completed:
                waiting = _ready(find_jobs(), {*running, *failures})
    finally:
        place.leave()


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
