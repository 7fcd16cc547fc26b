"""Several processes that train one run, each on its own devices and on its share of a batch.

Process 0 alone writes; everything else every process does. What they start from must be the
same, and they must stop after the same step: both are agreed upon here.
"""

from __future__ import annotations

import collections
import contextlib
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from emergent_icl.config.configs import flatten
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.training import devices

T = TypeVar("T")
Tree = TypeVar("Tree")


class DisagreementError(WorkdirError):
    """The processes of a run were not started alike."""


def is_primary() -> bool:
    """Whether this process writes what the run leaves."""
    return jax.process_index() == 0


def on_primary(
    enter: Callable[[], contextlib.AbstractContextManager[T]],
) -> contextlib.AbstractContextManager[T | None]:
    """What process 0 alone enters; the others have None."""
    return enter() if is_primary() else contextlib.nullcontext()


def check_agreement(find: Callable[[], Mapping[str, Any]]) -> None:
    """Waits for all processes, and checks that each finds the same JSON-able, nested facts.

    Raises:
      DisagreementError: on every process; names what differs from process 0.
    """
    if jax.process_count() == 1:
        return
    first, *others = (flatten(one) for one in _gather(dict(find())))
    differences = [
        f"{name}: {other.get(name)!r} in process {index}, {first.get(name)!r} in process 0"
        for index, other in enumerate(others, start=1)
        for name in sorted(other.keys() | first.keys())
        if other.get(name) != first.get(name)
    ]
    if differences:
        what = "the processes of a run must be started alike, on the same files:"
        raise DisagreementError("\n  ".join([what, *differences]))


def check_devices() -> None:
    """Checks that every process has as many devices as the others, of one kind.

    Raises:
      DisagreementError: on every process.
    """
    found: dict[int, list[str]] = collections.defaultdict(list)
    for device in jax.devices():
        found[device.process_index].append(device.device_kind)
    texts = [f"{len(found[i])} x {', '.join(sorted(set(found[i])))}" for i in sorted(found)]
    if len(set(texts)) > 1:
        raise DisagreementError(
            "the processes of a run must have equal devices, but process "
            + ", process ".join(f"{index} has {text}" for index, text in enumerate(texts))
        )


def of_primary(value: Any) -> Any:
    """What process 0 passed, JSON-able."""
    return value if jax.process_count() == 1 else _gather(value)[0]


def state_of_primary(state: Tree) -> Tree:
    """The host arrays that process 0 passed, bit for bit."""
    if jax.process_count() == 1:
        return state
    # As whole numbers: what brings them over adds zeros, and -0.0 + 0.0 is 0.0.
    bits = jax.tree.map(lambda leaf: np.asarray(leaf).view(f"u{leaf.dtype.itemsize}"), state)
    received = multihost_utils.broadcast_one_to_all(bits)
    return jax.tree.map(
        lambda own, leaf: np.asarray(leaf).view(own.dtype).reshape(own.shape), state, received
    )


def stop_votes(requested: Callable[[], signal.Signals | None]) -> Iterator[signal.Signals | None]:
    """Asks again and again whether any process was asked to stop: all learn it at the same step.

    The first answer is about now, and waits for all processes. The others are about as many calls
    ago as may be under way, so that nobody waits.
    """
    if jax.process_count() == 1:
        while True:
            yield requested()
    pending = collections.deque([devices.greatest_of_processes(requested() or 0)])
    yield _signal(pending.popleft())
    while True:
        pending.append(devices.greatest_of_processes(requested() or 0))
        is_due = len(pending) > devices.calls_in_flight()
        yield _signal(pending.popleft()) if is_due else None


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
