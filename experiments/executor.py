"""Runs programs as processes of this machine, side by side, each on cores or a GPU of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from emergent_icl.locks import try_lock
from emergent_icl.sweeps.programs import Program, copy_from_twin
from emergent_icl.workdir import Workdir, WorkdirError
from experiments.configs import stored
from experiments.slots import Slot

POLL_SECONDS = 0.5
# How long a program may take to save its state when it is asked to stop.
GRACE_SECONDS = 120
# Lines of a log that are shown of a program that failed.
SHOWN_LINES = 5


class Failure(NamedTuple):
    """A program that ended otherwise than it should.

    Attributes:
      program: it.
      status: its exit status; negative for a signal, None if it could not be started.
      log: where its output is.
      lines: the last of that.
    """

    program: Program
    status: int | None
    log: Path
    lines: tuple[str, ...]


class Observer:
    """Told of what an executor does; this one ignores it."""

    def polled(self, running: Sequence[Program]) -> None:
        """Twice a second."""

    def started(self, program: Program) -> None:
        """After its process was started."""

    def ended(self, program: Program, failure: Failure | None) -> None:
        """After its process ended; `failure` is None if it is complete."""


class Stopped(Exception):  # noqa: N818  (not an error: it was asked for)
    """The executor was asked to stop, and every program was.

    Attributes:
      signal: that asked for it.
      unsaved: names of programs that did not save their state in time, and were killed.
      failures: of programs that failed before.
    """

    def __init__(
        self, signal_number: signal.Signals, unsaved: Sequence[str], failures: Sequence[Failure]
    ) -> None:
        self.signal, self.unsaved, self.failures = signal_number, unsaved, failures
        super().__init__(f"stopped by {signal_number.name}")


class _Running(NamedTuple):
    program: Program
    slot: Slot
    process: subprocess.Popen[bytes]
    log: IO[bytes]


def run_programs(
    plan: Callable[[], Sequence[Program]],
    slots: Sequence[Slot],
    observer: Observer,
    stop_requested: Callable[[], signal.Signals | None],
    flags: Sequence[str] = (),
) -> list[Failure]:
    """Runs whatever of a plan is not complete; one that fails does not keep the others.

    Args:
      plan: gives every program, in the order in which they are to be started; asked again
        whenever one ended, since its outcome may be what others wait for.
      slots: where.
      observer: told of what happens.
      stop_requested: polled; a signal to stop for, or None.
      flags: further flags of `experiments.train`.

    Returns:
      The programs that failed, in order.

    Raises:
      Stopped: asked to; what was saved is the same as after a stop of each program.
    """
    executor = _Executor(plan, slots, observer, flags)
    try:
        executor.find_ready()
        while executor.running or executor.waiting:
            executor.start()
            if signal_number := stop_requested():
                unsaved = executor.stop()
                raise Stopped(signal_number, unsaved, list(executor.failures.values()))
            time.sleep(POLL_SECONDS)
            observer.polled([one.program for one in executor.running.values()])
            if executor.end():
                executor.find_ready()
    finally:
        executor.stop()
    return list(executor.failures.values())


class _Executor:
    """What runs, what waits for a slot, and what failed."""

    def __init__(
        self,
        plan: Callable[[], Sequence[Program]],
        slots: Sequence[Slot],
        observer: Observer,
        flags: Sequence[str],
    ) -> None:
        self.plan, self.free, self.observer, self.flags = plan, list(slots), observer, flags
        self.running: dict[str, _Running] = {}
        self.failures: dict[str, Failure] = {}
        self.waiting: list[Program] = []

    def find_ready(self) -> None:
        """Asks the plan what may be started; what needs no slot is done at once."""
        found = self._ready()
        # A search that has a twin is no sooner copied than runs wait for it no longer.
        while copies := [one for one in found if one.twin is not None]:
            for program in copies:
                with self._failing(program):
                    _copy(program)
                    self.observer.ended(program, None)
            found = self._ready()
        self.waiting = found

    def start(self) -> None:
        """Starts as many as there are free slots."""
        while self.free and self.waiting:
            program = self.waiting.pop(0)
            with self._failing(program):
                self.running[program.name] = _start(program, self.free[0], self.flags)
                self.free.pop(0)
                self.observer.started(program)

    def end(self) -> bool:
        """Takes note of the programs that ended; whether there were any."""
        ended = [one for one in self.running.values() if one.process.poll() is not None]
        for one in ended:
            del self.running[one.program.name]
            self.free.append(one.slot)
            failure = _end(one)
            if failure is not None:
                self.failures[one.program.name] = failure
            self.observer.ended(one.program, failure)
        return bool(ended)

    def stop(self) -> list[str]:
        """Stops whatever runs; names of those that did not save their state."""
        running, self.running = list(self.running.values()), {}
        return _stop(running)

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

    @contextlib.contextmanager
    def _failing(self, program: Program) -> Iterator[None]:
        """What keeps one program from being started does not keep the others."""
        try:
            yield
        except (OSError, WorkdirError) as error:
            failure = Failure(program, None, program.workdir.log, (str(error),))
            self.failures[program.name] = failure
            self.observer.ended(program, failure)


def _start(program: Program, slot: Slot, flags: Sequence[str]) -> _Running:
    workdir = program.workdir
    program.check()
    log = _own_log(workdir)
    workdir.claim(program.config)
    words = [f"--config={stored.__file__}:{workdir.path}", f"--workdir={workdir.path}", *flags]
    with _bound_to(slot.cores):
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.train", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **slot.environment},
            # A Ctrl-C on the terminal is this process's to pass on.
            start_new_session=True,
        )
    return _Running(program, slot, process, log)


def _copy(program: Program) -> None:
    with contextlib.closing(_own_log(program.workdir)):
        # Another launcher may have been faster.
        if not program.workdir.config.exists():
            copy_from_twin(program)


def _own_log(workdir: Workdir) -> IO[bytes]:
    """Opens a program's log, and so keeps a second launcher from the folder while it runs.

    The program inherits the lock on its log: it lasts as long as the program, also where the
    launcher was killed.

    Raises:
      WorkdirError: a program runs there.
    """
    workdir.make()
    log = workdir.log.open("ab")
    if not try_lock(log):
        log.close()
        raise WorkdirError(f"a program of another command still runs in {workdir.path}")
    return log


@contextlib.contextmanager
def _bound_to(cores: frozenset[int]) -> Iterator[None]:
    """A process that is started inside inherits the cores; its thread pools fit them."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _end(one: _Running) -> Failure | None:
    one.log.close()
    status = one.process.returncode
    if status == 0 and one.program.is_complete():
        return None
    path = one.program.workdir.log
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Failure(one.program, status, path, tuple(lines[-SHOWN_LINES:]))


def _stop(running: Sequence[_Running]) -> list[str]:
    """Asks all of them to save and stop, and waits until they have; names of those that had not."""
    for one in running:
        one.process.send_signal(signal.SIGTERM)
    deadline, unsaved = time.monotonic() + GRACE_SECONDS, []
    for one in running:
        try:
            one.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
            unsaved.append(one.program.name)
        one.log.close()
    return unsaved
