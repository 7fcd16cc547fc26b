"""Programs as processes of this machine, side by side, each on cores or a GPU of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.sweeps.execute.loop import Failure, attempt, outcome, own_log, train_words
from emergent_icl.sweeps.execute.slots import Slot
from emergent_icl.sweeps.jobs import Program

# How long a program may take to save its state when it is asked to stop.
GRACE_SECONDS = 120


class _Running(NamedTuple):
    program: Program
    slot: Slot
    process: subprocess.Popen[bytes]
    log: IO[bytes]


class LocalProcesses:
    """A place (see there) of this machine; leaving it stops what runs."""

    poll_seconds = 0.0

    def __init__(self, slots: Sequence[Slot], flags: Sequence[str] = ()) -> None:
        """Takes a slot for each program at a time, and further flags of `experiments.train`."""
        self._free, self._flags = list(slots), tuple(flags)
        self._running: dict[str, _Running] = {}

    def start(self, programs: Sequence[Program]) -> Mapping[str, Failure | None]:
        """See Place."""
        started: dict[str, Failure | None] = {}
        for program in programs:
            if not self._free:
                break
            started[program.name] = attempt(program, lambda one=program: self._start(one))
        return started

    def ended(self) -> Mapping[str, Failure | None]:
        """See Place."""
        over = [one for one in self._running.values() if one.process.poll() is not None]
        for one in over:
            del self._running[one.program.name]
            self._free.append(one.slot)
            one.log.close()
        return {
            one.program.name: outcome(one.program, f"exit status {one.process.returncode}")
            for one in over
        }

    def leave(self) -> str:
        """See Place; asks all of them to save and stop, and waits until they have."""
        running, self._running = list(self._running.values()), {}
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
        but = f" but {', '.join(unsaved)}, killed after their time" if unsaved else ""
        return f"Stopped; every run is saved{but}."

    def _start(self, program: Program) -> None:
        program.check()
        slot, log = self._free[0], own_log(program.workdir)
        try:
            program.workdir.claim(program.config)
            with _bound_to(slot.cores):
                process = subprocess.Popen(
                    [sys.executable, "-m", "experiments.train", *train_words(program, self._flags)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **slot.environment},
                    # A Ctrl-C on the terminal is this process's to pass on.
                    start_new_session=True,
                )
        except (OSError, WorkdirError):
            log.close()
            raise
        self._free.pop(0)
        self._running[program.name] = _Running(program, slot, process, log)


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
