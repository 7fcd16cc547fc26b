"""Processes that compute for this one, with their own devices and XLA flags."""

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Self

# For processes that share one accelerator: none reserves most of its memory.
SHARED_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_SPAWN = multiprocessing.get_context("spawn")


class WorkerError(RuntimeError):
    """What was to be computed failed; the process has ended."""


class Worker:
    """A process that calls one function after another, and keeps its state between calls.

    It starts at the first call, and again at the first call after one that failed.
    """

    def __init__(self, xla_flags: str = "") -> None:
        self._xla_flags = xla_flags
        self._process: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def compute(self, function: Callable[..., Any], *arguments: Any, seconds: float = 1e6) -> Any:
        """What a function returns in the process; function, arguments, and result are pickled.

        Raises:
          WorkerError: it raised, took longer than `seconds`, or ended the process. The process is
            not used again, since a failure may leave its accelerator unusable.
        """
        if self._process is None:
            self._pipe, theirs = _SPAWN.Pipe()
            self._process = _SPAWN.Process(target=_serve, args=(theirs, self._xla_flags))
            self._process.start()
            theirs.close()
        try:
            found, problem = self._answer(functools.partial(function, *arguments), seconds)
            if problem:
                raise WorkerError(problem)
        except BaseException:
            self.close()
            raise
        return found

    def _answer(self, call: Callable[[], Any], seconds: float) -> tuple[Any, str]:
        """(result, what went wrong)."""
        try:
            self._pipe.send(call)
            if not self._pipe.poll(seconds):
                return None, f"took more than {seconds:.0f} seconds"
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return None, f"its process ended with exit code {self._process.exitcode}"

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(pipe: Connection, xla_flags: str) -> None:
    """Answers calls until the other end is closed."""
    # The other process receives it, too, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(
        SHARED_MEMORY, XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
    )
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        try:
            answer = call(), ""
        except Exception as error:
            first = str(error).partition("\n")[0]
            answer = None, f"{type(error).__name__}: {first[:200]}"
        pipe.send(answer)


def end_with_children() -> None:
    """Makes Ctrl-C and SIGTERM end the processes that this one has started, too."""

    def end(number: int, frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            child.kill()
        # Unwinding ends a launcher that is being timed, and removes its folder.
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
