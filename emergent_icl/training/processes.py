"""Several processes that train one run, each on its own devices and on its share of a batch.

Process 0 alone writes; everything else every process does. What they start from must be the
same, and they must stop after the same step: both are agreed upon here.
"""

from __future__ import annotations

import collections
import json
import signal
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from emergent_icl.training import devices
from emergent_icl.workdir import WorkdirError, flatten


class DisagreementError(WorkdirError):
    """The processes of a run were not started alike."""


def is_primary() -> bool:
    """Whether this process writes what the run leaves."""
    return jax.process_index() == 0


def check_agreement(find: Callable[[], Mapping[str, Any]]) -> None:
    """Waits for all processes, and checks that each found the same; a process alone agrees.

    Args:
      find: gives JSON-able, nested facts.

    Raises:
      DisagreementError: on every process; names what differs from process 0.
    """
    if jax.process_count() == 1:
        return
    first, *others = _gather(dict(find()))
    expected = flatten(first)
    differences = [
        f"{name}: {value!r} in process {index}, {expected.get(name)!r} in process 0"
        for index, other in enumerate(others, start=1)
        for name, value in sorted(flatten(other).items())
        if value != expected.get(name)
    ]
    if differences:
        raise DisagreementError(
            "the processes of a run must be started alike, on the same files:\n  "
            + "\n  ".join(differences)
        )


class StopVote:
    """Whether any process was asked to stop: all of them learn it at the same step."""

    def __init__(self) -> None:
        self._count = jax.process_count()
        self._pending: collections.deque[jax.Array] = collections.deque()

    def now(self, own: signal.Signals | None) -> signal.Signals | None:
        """The signal that any process has received; waits for all of them.

        Args:
          own: that this one has received.
        """
        if self._count == 1:
            return own
        return _signal(devices.greatest_of_processes(own or 0))

    def poll(self, own: signal.Signals | None) -> signal.Signals | None:
        """The same, of as many calls ago as may be under way; so nobody waits."""
        if self._count == 1:
            return own
        self._pending.append(devices.greatest_of_processes(own or 0))
        if len(self._pending) <= devices.calls_in_flight():
            return None
        return _signal(self._pending.popleft())


def _signal(greatest: jax.Array) -> signal.Signals | None:
    number = int(greatest.addressable_data(0)[0])
    return signal.Signals(number) if number else None


def _gather(value: Any) -> list[Any]:
    """What every process passed, in their order."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]
