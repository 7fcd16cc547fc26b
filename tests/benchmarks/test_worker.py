"""Processes that compute for another one: what they keep, and how they fail."""

import os
import time

import pytest

from benchmarks.worker import Worker, WorkerError


def test_a_worker_keeps_its_process_and_has_its_own_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--of_this_process")
    with Worker("--own") as worker:
        assert worker.compute(os.getenv, "XLA_FLAGS") == "--of_this_process --own"
        pid = worker.compute(os.getpid)
        assert worker.compute(os.getpid) == pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("function", "argument", "problem"),
    [
        (int, "many\nlines", "ValueError: invalid literal for int() with base 10: 'many\\nlines'"),
        (os._exit, 9, "its process ended with exit code 9"),
        (time.sleep, 60, "took more than 1 seconds"),
        (open, os.devnull, "its process ended with exit code 1"),  # Cannot be sent back.
    ],
)
def test_a_worker_says_what_failed_and_starts_again(function, argument, problem):
    with Worker() as worker:
        pid = worker.compute(os.getpid)
        with pytest.raises(WorkerError) as caught:
            worker.compute(function, argument, seconds=1 if function is time.sleep else 30)
        assert str(caught.value) == problem
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert worker.compute(os.getpid) not in (pid, os.getpid())
