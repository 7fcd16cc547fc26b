"""One program of a sweep as a job of SLURM; runs on the node, under submitit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from submitit.helpers import DelayedSubmission

from emergent_icl.runs.locks import try_lock
from emergent_icl.runs.workdir import Workdir, WorkdirError

POLL_SECONDS = 0.5
# How long a job whose state is saved waits for SLURM to end and requeue it.
REQUEUE_SECONDS = 600
# A lock of a node that died may outlive it on a shared file system.
LOCK_SECONDS = 120
# What a program that was told to stop ends with: saved, or before it had begun.
STOPPED = (
    128 + signal.SIGUSR2, 128 + signal.SIGTERM, -signal.SIGUSR2, -signal.SIGTERM
)  # fmt: skip


class TrainJob:
    """Trains the runs of a work directory; saved, requeued and gone on with where it is preempted.

    SLURM's signals reach this process, and on some clusters the program as well. SIGUSR2 says that
    the job's time is nearly over, or that it is about to be preempted: submitit answers it with
    `checkpoint`, and requeues the job. SIGTERM says that SLURM itself ends and requeues it. A job
    that is requeued is called again from its beginning: the work directory knows the rest.
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
            if not try_lock(log, LOCK_SECONDS):
                raise WorkdirError(f"a program of another command still runs in {folder.path}")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "experiments.train", *self._words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Signals are this process's to pass on.
                start_new_session=True,
            )
        signal.signal(signal.SIGTERM, lambda number, frame: self._ask_to_stop())
        status = self._process.wait()
        if status in STOPPED:
            time.sleep(REQUEUE_SECONDS)
        if status:
            raise RuntimeError(f"exit status {status}; its output is in {folder.log}")

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit, in a signal's handler, when the job is to be requeued."""
        self._ask_to_stop()
        # However long: SLURM kills it when its grace is over, and nothing saved is lost.
        while not self._has_ended():
            time.sleep(POLL_SECONDS)
        return DelayedSubmission(TrainJob(self._words, self._workdir))

    def _ask_to_stop(self) -> None:
        # Not SIGTERM: where the program has SLURM's own, a second one would be an order.
        if self._process is not None and not self._has_ended():
            os.kill(self._process.pid, signal.SIGUSR2)

    def _has_ended(self) -> bool:
        """Asks the system, not `subprocess`: whom the handler interrupts may hold its lock."""
        if self._process is None:
            return True
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        except ChildProcessError:  # Somebody has waited for it already.
            return True

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_process": None}
