"""Runs jobs somewhere, several at a time; one that fails does not keep the others."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from emergent_icl.runs.locks import try_lock
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.jobs import Job

# What starts the training of a work directory in which its config lies.
Command = Callable[[Workdir], Sequence[str]]

POLL_SECONDS = 0.5
# Lines of a log that are shown of a job that failed.
SHOWN_LINES = 5


class Failure(NamedTuple):
    """A job that ended otherwise than it should: how, its log, and the last lines of that."""

    job: Job
    how: str
    log: Path
    lines: tuple[str, ...]


class Watcher:
    """Told of what the loop does; this one ignores it."""

    def polled(self, running: Sequence[Job]) -> None:
        """Whenever the place was looked at."""

    def started(self, job: Job) -> None:
        """After it was started."""

    def ended(self, job: Job, failure: Failure | None) -> None:
        """After it ended; `failure` is None if it is complete."""


class Stopped(Exception):  # noqa: N818  (not an error: it was asked for)
    """A signal asked the loop to stop: what became of jobs that ran, and what failed before."""

    def __init__(self, number: signal.Signals, said: str, failures: Sequence[Failure]) -> None:
        super().__init__(f"stopped by {number.name}")
        self.signal, self.said, self.failures = number, said, failures


class PlaceError(RuntimeError):
    """Jobs cannot be run where they should."""


class Place(Protocol):
    """Where jobs run; it is looked at every `poll_seconds`."""

    poll_seconds: float

    def start(self, jobs: Sequence[Job]) -> Mapping[str, Failure | None]:
        """Starts as many as there is room for, the first ones first.

        Gives the name of each, with None if it runs now, or with why it could not be started.
        """
        ...

    def ended(self) -> Mapping[str, Failure | None]:
        """Those that ended since the last time; None for one that is complete."""
        ...

    def leave(self) -> str:
        """Stops what runs there, or lets it go on, as is this place's way; says which."""
        ...


def run_jobs(
    find_jobs: Callable[[], Sequence[Job]],
    place: Place,
    watcher: Watcher,
    stop_requested: Callable[[], signal.Signals | None],
) -> list[Failure]:
    """Runs whatever is not complete; gives the jobs that failed, in order.

    Args:
      find_jobs: gives every job, in the order in which they are to be started; asked again
        whenever one ended, since its outcome may be what others wait for.
      place: where they run.
      watcher: told of what happens.
      stop_requested: polled; a signal to raise Stopped for, or None.
    """
    running: dict[str, Job] = {}
    failures: dict[str, Failure] = {}

    def end(job: Job, failure: Failure | None) -> None:
        if failure is not None:
            failures[job.name] = failure
        watcher.ended(job, failure)

    waiting = _ready(find_jobs(), ())
    try:
        while True:
            started = place.start(waiting) if waiting else {}
            for job in [one for one in waiting if one.name in started]:
                if started[job.name] is None:
                    running[job.name] = job
                    watcher.started(job)
                else:
                    end(job, started[job.name])
            waiting = [one for one in waiting if one.name not in started]
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
            if ended:
                waiting = _ready(find_jobs(), {*running, *failures})
    finally:
        place.leave()


def _ready(jobs: Sequence[Job], over: Collection[str]) -> list[Job]:
    """Jobs that can be started now; `over` names those that run or have failed."""
    return [
        job
        for job in jobs
        if job.waits_for is None and job.name not in over and not job.is_complete()
    ]


def attempt(job: Job, start: Callable[[Job], None]) -> Failure | None:
    """None, or what kept a job from being started: that does not keep the others."""
    try:
        start(job)
    except (OSError, WorkdirError) as error:
        return Failure(job, "not started", job.workdir.log, (str(error),))
    return None


def failure_of(job: Job, how: str) -> Failure | None:
    """None for a job that is complete; else its failure, with the end of its log."""
    if job.is_complete():
        return None
    path = job.workdir.log
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return Failure(job, how, path, tuple(text.strip().splitlines()[-SHOWN_LINES:]))


def own_log(workdir: Workdir) -> IO[bytes]:
    """Opens and locks a job's log; raises WorkdirError while another launcher's job runs there.

    A process that inherits the file inherits the lock: it lasts as long as the job, also
    where the launcher was killed.
    """
    workdir.make()
    log = workdir.log.open("ab")
    if not try_lock(log):
        log.close()
        raise WorkdirError(f"a program of another command still runs in {workdir.path}")
    return log
