"""Runs jobs somewhere, several at a time; one that fails does not keep the others."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
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
    """A job that ended otherwise than it should.

    Attributes:
      job: it.
      how: 'exit status 1', 'not started' ...
      log: where its output is.
      lines: the last of that.
    """

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
    """The loop was asked to stop.

    Attributes:
      signal: that asked for it.
      said: what became of the jobs that ran.
      failures: of jobs that failed before.
    """

    def __init__(
        self, signal_number: signal.Signals, said: str, failures: Sequence[Failure]
    ) -> None:
        self.signal, self.said, self.failures = signal_number, said, failures
        super().__init__(f"stopped by {signal_number.name}")


class PlaceError(RuntimeError):
    """Jobs cannot be run where they should."""


class Place(Protocol):
    """Where jobs run.

    Attributes:
      poll_seconds: between two looks at it, at least.
    """

    poll_seconds: float

    def start(self, jobs: Sequence[Job]) -> Mapping[str, Failure | None]:
        """Starts some of them, as many as there is room for, the first ones first.

        Returns:
          Name -> None for one that runs now, or why it could not be started.
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
    """Runs whatever is not complete.

    Args:
      find_jobs: gives every job, in the order in which they are to be started; asked again
        whenever one ended, since its outcome may be what others wait for.
      place: where.
      watcher: told of what happens.
      stop_requested: polled; a signal to stop for, or None.

    Returns:
      The jobs that failed, in order.

    Raises:
      Stopped: asked to.
    """
    state, next_look = _State(find_jobs, place, watcher), 0.0
    try:
        waiting = state.start(state.ready())
        while state.running or waiting:
            if signal_number := stop_requested():
                raise Stopped(signal_number, place.leave(), list(state.failures.values()))
            time.sleep(POLL_SECONDS)
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + place.poll_seconds
            watcher.polled(list(state.running.values()))
            ended = place.ended()
            for name, failure in ended.items():
                state.end(state.running.pop(name), failure)
            waiting = state.start(state.ready() if ended else waiting)
    finally:
        place.leave()
    return list(state.failures.values())


class _State:
    """What runs, and what failed."""

    def __init__(
        self, find_jobs: Callable[[], Sequence[Job]], place: Place, watcher: Watcher
    ) -> None:
        self.find_jobs, self.place, self.watcher = find_jobs, place, watcher
        self.running: dict[str, Job] = {}
        self.failures: dict[str, Failure] = {}

    def ready(self) -> list[Job]:
        """What may be started now."""
        over = {*self.running, *self.failures}
        found = [job for job in self.find_jobs() if job.waits_for is None and job.name not in over]
        return [job for job in found if not job.is_complete()]

    def start(self, waiting: list[Job]) -> list[Job]:
        """Starts as many as there is room for; the others go on waiting."""
        started = self.place.start(waiting) if waiting else {}
        for job in [one for one in waiting if one.name in started]:
            if started[job.name] is None:
                self.running[job.name] = job
                self.watcher.started(job)
            else:
                self.end(job, started[job.name])
        return [one for one in waiting if one.name not in started]

    def end(self, job: Job, failure: Failure | None) -> None:
        """Takes note that a job ended."""
        if failure is not None:
            self.failures[job.name] = failure
        self.watcher.ended(job, failure)


def attempt(job: Job, do: Callable[[], None]) -> Failure | None:
    """None, or what kept a job from being started: that does not keep the others."""
    try:
        do()
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
    """Opens a job's log, and so keeps a second launcher from the folder while it runs.

    A process that inherits the file inherits the lock: it lasts as long as the job, also
    where the launcher was killed.

    Raises:
      WorkdirError: a program runs there.
    """
    workdir.make()
    log = workdir.log.open("ab")
    if not try_lock(log):
        log.close()
        raise WorkdirError(f"a program of another command still runs in {workdir.path}")
    return log
