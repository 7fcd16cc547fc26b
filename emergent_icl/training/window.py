"""Metrics of the steps since the last line, read a little late so that nobody waits."""

from __future__ import annotations

import collections

import jax
import numpy as np

from emergent_icl.training import devices

# Calls whose metrics may still be under way. Bounds how far the host runs ahead, and so
# how long an interrupt or a non-finite loss goes unnoticed.
CALLS_IN_FLIGHT = 2


class NonFiniteLossError(FloatingPointError):
    """A loss became NaN or infinite, in training or in an evaluation."""

    def __init__(self, step: int, loss: float, mode: str | None = None) -> None:
        self.step = step
        where = f" on {mode}" if mode else ""
        super().__init__(
            f"The loss{where} at step {step} is {loss}. Nothing of it was saved. A lower "
            f"training.optimizer.learning_rate, a longer warmup_steps or a max_grad_norm may help."
        )


class MetricsWindow:
    """Collects the metrics of every step until they are averaged into a line."""

    def __init__(self, values: dict[str, list[float]]) -> None:
        """Starts with the values that a checkpoint carried over."""
        self._values = {name: list(entries) for name, entries in values.items()}
        self._in_flight: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()

    def add(self, first_step: int, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics [D, K, R] of a call whose first step is `first_step`.

        Raises:
          NonFiniteLossError: of this or an earlier call.
        """
        self._in_flight.append((first_step, metrics))
        while len(self._in_flight) > CALLS_IN_FLIGHT:
            self._take()

    def settle(self) -> dict[str, list[float]]:
        """Waits for all calls; returns every value that is not averaged yet.

        Raises:
          NonFiniteLossError: see `add`.
        """
        while self._in_flight:
            self._take()
        return {name: list(entries) for name, entries in self._values.items()}

    def mean(self, keep: bool = False) -> dict[str, float]:
        """Waits for all calls; returns the means since the last time.

        Args:
          keep: go on collecting, instead of starting anew.
        """
        values = self.settle()
        self._values = self._values if keep else {}
        return {name: float(np.mean(entries)) for name, entries in values.items()}

    def _take(self) -> None:
        first_step, metrics = self._in_flight.popleft()
        host = devices.fetch(devices.first_device(metrics))
        for offset, loss in enumerate(host["loss"][:, 0]):
            if not np.isfinite(loss):
                raise NonFiniteLossError(first_step + offset + 1, float(loss))
        for name, values_KR in host.items():
            entries = self._values.setdefault(name, [])
            entries.extend(float(value) for value in values_KR[:, 0])
