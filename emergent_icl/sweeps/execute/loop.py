"""Runs programs somewhere, several at a time; one that fails does not keep the others."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from emergent_icl.presets import stored
from emergent_icl.runs.locks import try_lock
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.jobs import Program, copy_from_twin

POLL_SECONDS = 0.5
# Lines of a log that are shown of a program that failed.
SHOWN_LINES = 5


class Failure(NamedTuple):
    """A program that ended otherwise than it should.

    Attributes:
      program: it.
      how: 'exit status 1', 'not started' ...
      log: where its output is.
      lines: the last of that.
    """

    program: Program
    how: str
    log: Path
    lines: tuple[str, ...]


class Observer:
    """Told of what an executor does; this one ignores it."""

    def polled(self, running: Sequence[Program]) -> None:
        """Whenever the place was looked at."""

    def started(self, program: Program) -> None:
        """After it was started."""

    def ended(self, program: Program, failure: Failure | None) -> None:
        """After it ended; `failure` is None if it is complete."""


class Stopped(Exception):  # noqa: N818  (not an error: it was asked for)
    """The executor was asked to stop.

    Attributes:
      signal: that asked for it.
      said: what became of the programs that ran.
      failures: of programs that failed before.
    """

    def __init__(
        self, signal_number: signal.Signals, said: str, failures: Sequence[Failure]
    ) -> None:
        self.signal, self.said, self.failures = signal_number, said, failures
        super().__init__(f"stopped by {signal_number.name}")


class PlaceError(RuntimeError):
    """Programs cannot be run where they should."""


class Place(Protocol):
    """Where programs run.

    Attributes:
      poll_seconds: between two looks at it, at least.
    """

    poll_seconds: float

    def start(self, programs: Sequence[Program]) -> Mapping[str, Failure | None]:
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


def run_programs(
    plan: Callable[[], Sequence[Program]],
    place: Place,
    observer: Observer,
    stop_requested: Callable[[], signal.Signals | None],
) -> list[Failure]:
    """Runs whatever of a plan is not complete.

    Args:
      plan: gives every program, in the order in which they are to be started; asked again
        whenever one ended, since its outcome may be what others wait for.
      place: where.
      observer: told of what happens.
      stop_requested: polled; a signal to stop for, or None.

    Returns:
      The programs that failed, in order.

    Raises:
      Stopped: asked to.
    """
    executor = _Executor(plan, place, observer)
    next_look = 0.0
    try:
        executor.find_ready()
        executor.start()
        while executor.running or executor.waiting:
            if signal_number := stop_requested():
                said = place.leave()
                raise Stopped(signal_number, said, list(executor.failures.values()))
            time.sleep(POLL_SECONDS)
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + place.poll_seconds
            observer.polled(list(executor.running.values()))
            if executor.end():
                executor.find_ready()
            executor.start()
    finally:
        place.leave()
    return list(executor.failures.values())


class _Executor:
    """What runs, what waits for room, and what failed."""

    def __init__(
        self, plan: Callable[[], Sequence[Program]], place: Place, observer: Observer
    ) -> None:
        self.plan, self.place, self.observer = plan, place, observer
        self.running: dict[str, Program] = {}
        self.failures: dict[str, Failure] = {}
        self.waiting: list[Program] = []

    def find_ready(self) -> None:
        """Asks the plan what may be started; what needs no place is done at once."""
        found = self._ready()
        # A search that has a twin is no sooner copied than runs wait for it no longer.
        while copies := [one for one in found if one.twin is not None]:
            for program in copies:
                self._ended(program, copy(program))
            found = self._ready()
        self.waiting = found

    def start(self) -> None:
        """Starts as many as there is room for."""
        if not self.waiting:
            return
        started = self.place.start(self.waiting)
        for program in [one for one in self.waiting if one.name in started]:
            failure = started[program.name]
            if failure is None:
                self.running[program.name] = program
                self.observer.started(program)
            else:
                self._ended(program, failure)
        self.waiting = [one for one in self.waiting if one.name not in started]

    def end(self) -> bool:
        """Takes note of the programs that ended; whether there were any."""
        ended = self.place.ended()
        for name, failure in ended.items():
            self._ended(self.running.pop(name), failure)
        return bool(ended)

    def _ended(self, program: Program, failure: Failure | None) -> None:
        if failure is not None:
            self.failures[program.name] = failure
        self.observer.ended(program, failure)

    def _ready(self) -> list[Program]:
        return [
            program
            for program in self.plan()
            if program.waits_for is None
            and (program.twin is None or program.twin.is_complete())
            and program.name not in self.running
            and program.name not in self.failures
            and not program.is_complete()
        ]


def copy(program: Program) -> Failure | None:
    """Gives a program its twin's runs; None, or why that cannot be."""

    def copy_alone() -> None:
        with contextlib.closing(own_log(program.workdir)):
            # Another launcher may have been faster.
            if not program.workdir.config.exists():
                copy_from_twin(program)

    return attempt(program, copy_alone)


def attempt(program: Program, do: Callable[[], None]) -> Failure | None:
    """None, or what kept a program from being started: that does not keep the others."""
    try:
        do()
    except (OSError, WorkdirError) as error:
        return Failure(program, "not started", program.workdir.log, (str(error),))
    return None


def outcome(program: Program, how: str) -> Failure | None:
    """None for a program that is complete; else its failure, with the end of its log."""
    if program.is_complete():
        return None
    path = program.workdir.log
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return Failure(program, how, path, tuple(text.strip().splitlines()[-SHOWN_LINES:]))


def train_words(program: Program, flags: Sequence[str]) -> list[str]:
    """What follows `python -m experiments.train` for a program whose folder is prepared."""
    folder = program.workdir.path
    return [f"--config={stored.__file__}:{folder}", f"--workdir={folder}", *flags]


def own_log(workdir: Workdir) -> IO[bytes]:
    """Opens a program's log, and so keeps a second launcher from the folder while it runs.

    A process that inherits the file inherits the lock: it lasts as long as the program, also
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
