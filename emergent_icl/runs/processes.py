"""Several processes that train one run, each with its own devices and share of the batch.

Only process 0 writes. All start from the same state and stop after the same step.
"""

import collections
import contextlib
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten
from emergent_icl.runs.workdir import WorkdirError
from emergent_icl.training import devices

T = TypeVar("T")
Tree = TypeVar("Tree")


class DisagreementError(WorkdirError):
    """The processes of a run were started differently."""


def is_primary() -> bool:
    """Whether this is process 0, which writes the run's files."""
    return jax.process_index() == 0


def on_primary(
    enter: Callable[[], contextlib.AbstractContextManager[T]],
) -> contextlib.AbstractContextManager[T | None]:
    """A context that only process 0 enters; the others get None."""
    return enter() if is_primary() else contextlib.nullcontext()


def check_agreement(find: Callable[[], Mapping[str, Any]]) -> None:
    """Waits for all processes and compares their facts, a nested JSON-serializable mapping.

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
        what = "all processes of a run must be started with the same config, files, and versions:"
        raise DisagreementError("\n  ".join([what, *differences]))


def check_devices(config: ConfigDict) -> None:
    """Checks the devices of all processes.

    Raises:
      DisagreementError: on every process, if they do not all have the same devices.
      ConfigError: several processes cannot share replicas that are to be spread.
    """
    if config.training.spread_replicas and jax.process_count() > 1:
        raise ConfigError(["training.spread_replicas = True needs a single process"])
    found: dict[int, list[str]] = collections.defaultdict(list)
    for device in jax.devices():
        found[device.process_index].append(device.device_kind)
    texts = [f"{len(found[i])} x {', '.join(sorted(set(found[i])))}" for i in sorted(found)]
    if len(set(texts)) > 1:
        raise DisagreementError(
            "all processes of a run must have the same devices, but process "
            + ", process ".join(f"{index} has {text}" for index, text in enumerate(texts))
        )


def of_primary(value: Any) -> Any:
    """The JSON-serializable value that process 0 passed."""
    return value if jax.process_count() == 1 else _gather(value)[0]


def state_of_primary(state: Tree) -> Tree:
    """The host arrays that process 0 passed, bit for bit."""
    if jax.process_count() == 1:
        return state
    # As integers: the broadcast adds zeros, and -0.0 + 0.0 is 0.0.
    bits = jax.tree.map(lambda leaf: np.asarray(leaf).view(f"u{leaf.dtype.itemsize}"), state)
    received = multihost_utils.broadcast_one_to_all(bits)
    return jax.tree.map(
        lambda own, leaf: np.asarray(leaf).view(own.dtype).reshape(own.shape), state, received
    )


def stop_votes(requested: Callable[[], signal.Signals | None]) -> Iterator[signal.Signals | None]:
    """Yields, once per call, a signal that any process received, or None; equal on all processes.

    The first vote is current and waits for all processes. Later votes lag by the number of calls in
    flight, so that no process waits.
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
    """The values of all processes, in order."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]
