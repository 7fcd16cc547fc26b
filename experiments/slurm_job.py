"""One program of a sweep as a job of SLURM; runs on the node, under submitit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from submitit.helpers import DelayedSubmission

from emergent_icl.locks import try_lock
from emergent_icl.workdir import Workdir, WorkdirError

POLL_SECONDS = 0.5
# How long a preempted job waits for SLURM to requeue it, once its state is saved.
REQUEUE_SECONDS = 600


class TrainJob:
    """Trains the runs of a work directory; saved, requeued and gone on with where it is preempted.

    A job that is requeued is called again from its beginning: the work directory knows the rest.
    """

    def __init__(self, words: Sequence[str], workdir: str) -> None:
        """Takes the words after `python -m experiments.train`, and the folder."""
        self._words, self._workdir = tuple(words), workdir
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Trains to the end.

        Raises:
          WorkdirError: another command trains there.
          RuntimeError: the program failed.
        """
        folder = Workdir(self._workdir)
        with folder.log.open("ab") as log:
            if not try_lock(log):
                raise WorkdirError(f"a program of another command still runs in {folder.path}")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "experiments.train", *self._words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Signals are this process's to pass on.
                start_new_session=True,
            )
        status = self._end_of(self._process)
        if status == 128 + signal.SIGTERM:
            # SLURM told every process of the job: it is about to be requeued.
            time.sleep(REQUEUE_SECONDS)
        if status:
            raise RuntimeError(f"exit status {status}; its output is in {folder.log}")

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when the job is preempted, or its time is over."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            # However long: SLURM kills it when its grace is over, and nothing saved is lost.
            self._end_of(process)
        return DelayedSubmission(TrainJob(self._words, self._workdir))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_process": None}

    @staticmethod
    def _end_of(process: subprocess.Popen[bytes]) -> int:
        # Not `wait`: a signal's handler may wait for the same process.
        while (status := process.poll()) is None:
            time.sleep(POLL_SECONDS)
        return status
