"""Metrics of the steps since the last line, copied to the host when the line is written."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from emergent_icl.runs.checkpoints import Progress
from emergent_icl.training.devices import Layout, calls_in_flight

# Calls whose metrics may wait on the devices for a line that is far away.
MOST_CALLS = 1000

# Device arrays -> host arrays.
Fetch = Callable[[Any], Any]
# {metric: values, one a step}, of one replica.
Values = dict[str, list[float]]


class NonFiniteLossError(FloatingPointError):
    """A run diverged: a number became NaN or infinite, in training or in an evaluation."""

    def __init__(self, step: int, what: str, replicas: int = 1) -> None:
        """Says what happened.

        Args:
          step: at which it was seen.
          what: 'The loss is nan', say.
          replicas: how many have diverged by now, of as many.
        """
        self.step = step
        who = "" if replicas == 1 else f"All {replicas} replicas have diverged; the last: "
        super().__init__(
            f"{who}{what}. Nothing of it was saved. A lower training.optimizer.learning_rate, a "
            f"longer warmup_steps or a max_grad_norm may help."
        )


class MetricsWindow:
    """Collects the metrics of every step until they are averaged into a line.

    Knows which replicas have diverged: their metrics are no longer collected. A run that is
    alone, or the last replica, raises instead.
    """

    def __init__(
        self, layout: Layout, names: Sequence[str], carried: Progress, fetch: Fetch
    ) -> None:
        """Goes on from what a checkpoint carried over.

        Args:
          layout: of the replicas on the devices.
          names: of the replicas.
          carried: from the checkpoint.
          fetch: the one way of metrics to the host; called once a line.
        """
        self._layout, self._names, self._fetch = layout, tuple(names), fetch
        window = carried.window or [{} for _ in names]
        self._values = [{name: list(own) for name, own in one.items()} for one in window]
        self._diverged = dict(carried.diverged)
        self._in_flight: list[tuple[int, dict[str, jax.Array]]] = []
        self._recent: collections.deque[jax.Array] = collections.deque()
        self._most_recent = calls_in_flight()

    @property
    def diverged(self) -> dict[str, int]:
        """Name of each replica that diverged -> the step at which it was seen."""
        return dict(self._diverged)

    def add(self, first_step: int, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics of a call whose first step is `first_step`; copies nothing."""
        self._in_flight.append((first_step, metrics))
        self._recent.append(metrics["loss"])
        if len(self._recent) > self._most_recent:
            jax.block_until_ready(self._recent.popleft())
        if len(self._in_flight) == MOST_CALLS:
            self.settle()

    def settle(self) -> list[Values]:
        """Waits for all calls; returns every value that is not averaged yet, by replica.

        Raises:
          NonFiniteLossError: no replica is left whose numbers are finite.
        """
        if self._in_flight:
            needed = [self._layout.needed(metrics) for _, metrics in self._in_flight]
            fetched = [self._layout.metrics_on_host(host) for host in self._fetch(needed)]
            for (first_step, _), host in zip(self._in_flight, fetched, strict=True):
                self._take(first_step, host)
            self._in_flight, self._recent = [], collections.deque()
        return [{name: list(own) for name, own in one.items()} for one in self._values]

    def means(self, keep: bool = False) -> list[dict[str, float]]:
        """Waits for all calls; returns the means since the last time, {} of the diverged.

        Args:
          keep: go on collecting, instead of starting anew.

        Raises:
          NonFiniteLossError: see `settle`.
        """
        values = self.settle()
        if not keep:
            self._values = [{} for _ in self._names]
        return [{name: float(np.mean(own)) for name, own in one.items()} for one in values]

    def mark(self, replica: int, step: int, what: str) -> None:
        """Notes that a replica diverged.

        Args:
          replica: its number.
          step: at which it was seen.
          what: was seen; see NonFiniteLossError.

        Raises:
          NonFiniteLossError: it was the last one, or a run that is alone.
        """
        self._diverged.setdefault(self._names[replica], step)
        self._values[replica] = {}
        if len(self._diverged) == len(self._names):
            raise NonFiniteLossError(step, what, len(self._names))

    def _take(self, first_step: int, host: dict[str, np.ndarray]) -> None:
        for replica, name in enumerate(self._names):
            # The loss first: it is what people look at.
            for metric in sorted(host, key=lambda metric: metric != "loss"):
                bad = np.flatnonzero(~np.isfinite(host[metric][:, replica]))
                if len(bad) and name not in self._diverged:
                    step = first_step + int(bad[0]) + 1
                    value = float(host[metric][bad[0], replica])
                    self.mark(replica, step, f"The {metric} at step {step} is {value}")
            if name not in self._diverged:
                for metric, values_KR in host.items():
                    own = self._values[replica].setdefault(metric, [])
                    own.extend(float(value) for value in values_KR[:, replica])
