"""Measurements that need a process of their own: its start, other devices, other XLA flags."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

import ml_collections

from benchmarks.timing import Rival
from benchmarks.workloads import OurTrainer, load, register_stand_in

# Printed by experiments.train when the first step was dispatched.
FIRST_STEP = "compiled"
# This process has taken most of an accelerator's memory already.
SHARED_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class ProcessError(RuntimeError):
    """A process that was to be timed failed."""


def train_to_first_step(flags: Sequence[str], environment: Mapping[str, str]) -> None:
    """Starts a training launcher, and ends it when it says that its first step was out.

    Raises:
      ProcessError: it ended before, or said nothing of it.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *flags],
        env={**os.environ, **SHARED_MEMORY, **environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if not any(line.strip().startswith(FIRST_STEP) for line in process.stdout):
                raise ProcessError(f"experiments.train: {process.stderr.read().strip()[-500:]}")
        finally:
            process.kill()


@contextlib.contextmanager
def elsewhere(config: ml_collections.ConfigDict, xla_flags: str) -> Iterator[Rival]:
    """Steps on one batch, in a process with more XLA flags than this one.

    Raises:
      BrokenProcessPool: it failed, and has said why.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _prepare, (config, xla_flags)) as pool:
        steps_per_call = pool.submit(_train, 0).result()
        yield Rival(lambda calls: pool.submit(_train, calls).result(), steps_per_call)


# What such a process trains.
_rivals: list[Rival] = []


def _prepare(config: ml_collections.ConfigDict, xla_flags: str) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
    os.environ.update(SHARED_MEMORY, XLA_FLAGS=flags)
    register_stand_in()
    trainer = OurTrainer(load(config)[0])
    _rivals.append(trainer.rival("compute"))


def _train(calls: int) -> int:
    """Makes some calls; returns the steps of each."""
    (rival,) = _rivals
    rival.run(calls)
    return rival.amount
