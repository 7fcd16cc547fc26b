"""Jobs as parallel processes on this machine, each on its own cores or GPU."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.sweeps.execute import loop
from emergent_icl.sweeps.jobs import Job
from emergent_icl.training.settings import GPU_VARIABLE, visible_gpus

# Time for a job to save its state after a request to stop.
GRACE_SECONDS = 120
# A job that seems to run elsewhere is tried again at the next poll.
_PATIENCE_SECONDS = 0.1
# Exit status of a job after a request to stop: once saved, or before training began.
_SAVED = (128 + signal.SIGTERM, -signal.SIGTERM)
_MEMORY_VARIABLE = "XLA_PYTHON_CLIENT_MEM_FRACTION"


class Slot(NamedTuple):
    """Resources for one job at a time."""

    cores: frozenset[int]  # Cores that its process is bound to; empty: any.
    environment: Mapping[str, str]  # Additional environment variables.


class _Running(NamedTuple):
    job: Job
    slot: Slot
    process: subprocess.Popen[bytes]
    log: IO[bytes]


class LocalProcesses:
    """This machine as a Place; leaving it stops all jobs."""

    poll_seconds = 0.5

    def __init__(self, slots: Sequence[Slot], command: loop.Command) -> None:
        self._free, self._command = list(slots), command
        self._running: dict[str, _Running] = {}

    def start(self, jobs: Sequence[Job]) -> Mapping[str, loop.Failure | None]:
        """See Place."""
        started: dict[str, loop.Failure | None] = {}
        for job in jobs:
            if self._free:
                started[job.name] = loop.attempt(job, self._start)
        return started

    def ended(self) -> Mapping[str, loop.Failure | None]:
        """See Place."""
        over = {}
        for name, one in list(self._running.items()):
            if (status := one.process.poll()) is not None:
                del self._running[name]
                self._free.append(one.slot)
                one.log.close()
                over[name] = loop.failure_of(one.job, f"exit status {status}")
        return over

    def leave(self) -> str:
        """See Place; asks all jobs to save and stop, and waits for them."""
        running, self._running = list(self._running.values()), {}
        for one in running:
            one.process.send_signal(signal.SIGTERM)
        deadline, unsaved = time.monotonic() + GRACE_SECONDS, []
        for one in running:
            how = ""
            try:
                status = one.process.wait(max(deadline - time.monotonic(), 0))
                if status not in _SAVED and not one.job.is_complete():
                    how = f"exit status {status}, see {one.job.workdir.log}"
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
                how = f"killed after {GRACE_SECONDS} s"
            unsaved += [f"{one.job.name} ({how})"] if how else []
            one.log.close()
        but = f" except {', '.join(unsaved)}" if unsaved else ""
        return f"Stopped; every run is saved{but}."

    def _start(self, job: Job) -> None:
        slot, log = self._free[0], loop.own_log(job.workdir, _PATIENCE_SECONDS)
        try:
            job.claim()
            with _bound_to(slot.cores):
                process = loop.start_process(self._command(job.workdir), log, slot.environment)
        except (OSError, WorkdirError):
            log.close()
            raise
        self._free.pop(0)
        self._running[job.name] = _Running(job, slot, process, log)


@contextlib.contextmanager
def _bound_to(cores: frozenset[int]) -> Iterator[None]:
    """Processes started inside inherit these cores, so that their thread pools fit them."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine_slots(workers: int = 0) -> list[Slot]:
    """A slot for each worker; for 0, one per GPU, otherwise one per core.

    Small models gain nothing from a second core. If processes cannot be bound to cores, a single
    slot uses all of them. If there are more workers than GPUs or cores, they share these.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    gpus = visible_gpus()
    count = workers or len(gpus) or len(cores) or 1
    slots = []
    for index in range(count):
        own = cores[index::count] or cores[index % max(len(cores), 1) :][:1]
        environment = {}
        if gpus:
            environment[GPU_VARIABLE] = gpus[index % len(gpus)]
            sharers = len(range(index % len(gpus), count, len(gpus)))
            if sharers > 1:  # By default, JAX allocates 75 % of a GPU's memory.
                environment[_MEMORY_VARIABLE] = f"{0.75 / sharers:.3f}"
        slots.append(Slot(frozenset(own), environment))
    return slots
