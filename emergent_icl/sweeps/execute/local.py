"""Jobs as processes of this machine, side by side, each on cores or a GPU of its own."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.sweeps.execute.loop import Command, Failure, attempt, failure_of, own_log
from emergent_icl.sweeps.jobs import Job

# How long a job may take to save its state when it is asked to stop.
GRACE_SECONDS = 120
_GPU_VARIABLE, _MEMORY_VARIABLE = "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"


class Slot(NamedTuple):
    """Where one job runs at a time.

    Attributes:
      cores: of the processor, that it is bound to; empty for any.
      environment: what its process has besides this one's.
    """

    cores: frozenset[int]
    environment: Mapping[str, str]


class _Running(NamedTuple):
    job: Job
    slot: Slot
    process: subprocess.Popen[bytes]
    log: IO[bytes]


class LocalProcesses:
    """A place (see there) of this machine; leaving it stops what runs."""

    poll_seconds = 0.0

    def __init__(self, slots: Sequence[Slot], command: Command) -> None:
        """Takes a slot for each job at a time, and what starts one."""
        self._free, self._command = list(slots), command
        self._running: dict[str, _Running] = {}

    def start(self, jobs: Sequence[Job]) -> Mapping[str, Failure | None]:
        """See Place."""
        started: dict[str, Failure | None] = {}
        for job in jobs:
            if not self._free:
                break
            started[job.name] = attempt(job, lambda one=job: self._start(one))
        return started

    def ended(self) -> Mapping[str, Failure | None]:
        """See Place."""
        over = [one for one in self._running.values() if one.process.poll() is not None]
        for one in over:
            del self._running[one.job.name]
            self._free.append(one.slot)
            one.log.close()
        return {
            one.job.name: failure_of(one.job, f"exit status {one.process.returncode}")
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
                unsaved.append(one.job.name)
            one.log.close()
        but = f" but {', '.join(unsaved)}, killed after their time" if unsaved else ""
        return f"Stopped; every run is saved{but}."

    def _start(self, job: Job) -> None:
        job.check()
        slot, log = self._free[0], own_log(job.workdir)
        try:
            job.workdir.claim(job.config)
            with _bound_to(slot.cores):
                process = subprocess.Popen(
                    self._command(job.workdir),
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
        self._running[job.name] = _Running(job, slot, process, log)


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


def machine_slots(workers: int = 0) -> list[Slot]:
    """A slot for every GPU; without any, for every core: small models gain nothing from two.

    Where jobs cannot be bound to cores one at a time uses all of them.

    Args:
      workers: how many jobs at a time; 0 derives it. More than there are GPUs, or cores,
        share them.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    gpus = visible_gpus()
    count = workers or len(gpus) or len(cores) or 1
    slots = []
    for index in range(count):
        own = cores[index::count] or cores[index % max(len(cores), 1) :][:1]
        slots.append(Slot(frozenset(own), _gpu_environment(gpus, index, count)))
    return slots


def _gpu_environment(gpus: Sequence[str], index: int, count: int) -> dict[str, str]:
    """One GPU for a slot, and its share of that GPU's memory, of which JAX takes 75 % at once."""
    if not gpus:
        return {}
    environment = {_GPU_VARIABLE: gpus[index % len(gpus)]}
    sharers = len(range(index % len(gpus), count, len(gpus)))
    if sharers > 1:
        environment[_MEMORY_VARIABLE] = f"{0.75 / sharers:.3f}"
    return environment


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use; JAX is not asked, it would take them."""
    # JAX runs on the processor, whatever lies beside it, without a plugin for something else.
    can_use = importlib.metadata.entry_points(group="jax_plugins")
    if not can_use or os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return []
    if _GPU_VARIABLE in os.environ:
        names = os.environ[_GPU_VARIABLE].split(",")
        # CUDA stops reading at the first that is none; '-1' hides them all.
        valid = itertools.takewhile(lambda name: name and not name.startswith("-"), names)
        return list(valid)
    return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
