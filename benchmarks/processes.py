"""Measurements that need a process of their own: its start, other devices, other XLA flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import ml_collections

from emergent_icl.runs.workdir import Workdir

# Printed by experiments.train when the first step was dispatched.
FIRST_STEP = "compiled"
WORKER = "benchmarks.worker"
# This process has taken most of an accelerator's memory already.
SHARED_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class ProcessError(RuntimeError):
    """A process that was to be timed failed."""


def seconds_to_first_step(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Starts a training launcher; seconds until it says that its first step was out.

    The process is ended there.

    Raises:
      ProcessError: it ended before, or said nothing of it.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *command],
        env={**os.environ, **SHARED_MEMORY, **environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.strip().startswith(FIRST_STEP):
                return time.perf_counter() - start
        process.wait()
        raise ProcessError(f"experiments.train: {process.stderr.read().strip()[-500:]}")
    finally:
        process.kill()
        process.communicate()


def time_elsewhere(
    config: ml_collections.ConfigDict, rounds: int, seconds: float, xla_flags: str
) -> list[float]:
    """Seconds of a step without its feed, a sample a round, in a process with more XLA flags.

    Args:
      config: whose step.
      rounds: of which each lasts about ...
      seconds: ... as many.
      xla_flags: beside those of this process.

    Raises:
      ProcessError: it failed.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
    with tempfile.TemporaryDirectory() as folder:
        Workdir(folder).claim(config)
        done = subprocess.run(
            [sys.executable, "-m", WORKER, folder, str(rounds), str(seconds)],
            env={**os.environ, **SHARED_MEMORY, "XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ProcessError(f"{WORKER} with {xla_flags}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])
