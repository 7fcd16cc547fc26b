"""Measurements that need a process of their own: its start, other devices, other XLA flags.

python -m benchmarks.processes FOLDER trains FOLDER/config.json on one batch: it reads numbers of
calls from the standard input, and answers each when that many are done, the first with the steps
of a call.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import ml_collections

from benchmarks.timing import Rival
from benchmarks.workloads import OurTrainer, load, register_stand_in
from emergent_icl.runs.workdir import Workdir

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
    command = ["-m", "experiments.train", *flags]
    with _started(command, {**environment, "PYTHONUNBUFFERED": "1"}) as (process, problem):
        if not any(line.strip().startswith(FIRST_STEP) for line in process.stdout):
            raise problem()


@contextlib.contextmanager
def elsewhere(config: ml_collections.ConfigDict, xla_flags: str) -> Iterator[Rival]:
    """Steps on one batch, in a process with more XLA flags than this one.

    Raises:
      ProcessError: it failed.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
    with tempfile.TemporaryDirectory() as folder:
        Workdir(folder).claim(config)
        command = ["-m", "benchmarks.processes", folder]
        with _started(command, {"XLA_FLAGS": flags}) as (process, problem):

            def run(calls: int) -> int:
                with contextlib.suppress(BrokenPipeError):
                    print(calls, file=process.stdin, flush=True)
                answer = process.stdout.readline()
                if not answer:
                    raise problem()
                return int(answer)

            yield Rival(run, run(0))


@contextlib.contextmanager
def _started(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen, Callable[[], ProcessError]]]:
    """A Python process, and a function that says why it failed; it is killed in the end."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *command],
            env={**os.environ, **SHARED_MEMORY, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

        def problem() -> ProcessError:
            process.wait()
            errors.seek(0)
            return ProcessError(f"{command[1]}: {errors.read().strip()[-500:]}")

        try:
            yield process, problem
        finally:
            process.kill()
            process.communicate()


def serve(folder: str) -> None:
    """Trains in this process, as the other one says."""
    register_stand_in()
    experiment, _ = load(Workdir(folder).read_config())
    with contextlib.closing(OurTrainer(experiment)) as ours:
        rival = ours.rival()
        for line in sys.stdin:
            rival.run(int(line))
            print(rival.amount, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
