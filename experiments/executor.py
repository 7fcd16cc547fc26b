"""Runs programs as processes of this machine, side by side, each on cores or a GPU of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from emergent_icl.sweeps.programs import Program, copy_from_twin
from experiments.configs import stored

LOG = "train.log"
POLL_SECONDS = 0.5
# How long a program may take to save its state when it is asked to stop.
GRACE_SECONDS = 120
# Lines of a log that are shown of a program that failed.
SHOWN_LINES = 5
_GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


class Slot(NamedTuple):
    """Where one program runs at a time.

    Attributes:
      cores: of the processor, that it is bound to; empty for any.
      environment: what its process has besides this one's.
    """

    cores: frozenset[int]
    environment: Mapping[str, str]


def machine_slots(workers: int = 0) -> list[Slot]:
    """A slot for every GPU; without any, for every core: small models gain nothing from two.

    Args:
      workers: how many programs at a time; 0 derives it. More than there are GPUs, or cores,
        share them.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    gpus = _gpus()
    count = workers or len(gpus) or len(cores) or os.cpu_count() or 1
    slots = []
    for index in range(count):
        own = cores[index::count] or cores[index % max(len(cores), 1) :][:1]
        environment = {_GPU_VARIABLE: gpus[index % len(gpus)]} if gpus else {}
        slots.append(Slot(frozenset(own), environment))
    return slots


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use; JAX is not asked, it would take them."""
    if os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return []
    if _GPU_VARIABLE in os.environ:
        return [name for name in os.environ[_GPU_VARIABLE].split(",") if name]
    return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


class Failure(NamedTuple):
    """A program that ended otherwise than it should.

    Attributes:
      program: it.
      status: its exit status; negative for a signal.
      log: where its output is.
      lines: the last of that.
    """

    program: Program
    status: int
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
    """The executor was asked to stop; every program was, and has saved its state.

    Attributes:
      signal: that asked for it.
    """

    def __init__(self, signal_number: signal.Signals) -> None:
        self.signal = signal_number
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
      Stopped: asked to; every program has saved its state.
    """
    free, running, failures = list(slots), dict[str, _Running](), dict[str, Failure]()
    waiting = _ready(plan(), running, failures)
    try:
        while running or waiting:
            while free and waiting:
                program = waiting.pop(0)
                if program.twin is not None:
                    copy_from_twin(program)
                    observer.ended(program, None)
                    continue
                running[program.name] = _start(program, free.pop(0), flags)
                observer.started(program)
            if signal_number := stop_requested():
                raise Stopped(signal_number)
            time.sleep(POLL_SECONDS)
            observer.polled([one.program for one in running.values()])
            for one in [one for one in running.values() if one.process.poll() is not None]:
                del running[one.program.name]
                free.append(one.slot)
                failure = _end(one)
                if failure is not None:
                    failures[one.program.name] = failure
                observer.ended(one.program, failure)
                waiting = _ready(plan(), running, failures)
    finally:
        _stop(list(running.values()))
    return list(failures.values())


def _ready(
    programs: Sequence[Program], running: Mapping[str, _Running], failures: Mapping[str, Failure]
) -> list[Program]:
    return [
        program
        for program in programs
        if program.waits_for is None
        and (program.twin is None or program.twin.is_complete())
        and program.name not in running
        and program.name not in failures
        and not program.is_complete()
    ]


def _start(program: Program, slot: Slot, flags: Sequence[str]) -> _Running:
    workdir = program.workdir
    workdir.make()
    workdir.claim(program.config)
    words = [f"--config={stored.__file__}:{workdir.path}", f"--workdir={workdir.path}", *flags]
    log = (workdir.path / LOG).open("ab")
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
    path = one.program.workdir.path / LOG
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Failure(one.program, status, path, tuple(lines[-SHOWN_LINES:]))


def _stop(running: Sequence[_Running]) -> None:
    """Asks all of them to save and stop, and waits until they have."""
    for one in running:
        one.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    for one in running:
        try:
            one.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        one.log.close()
