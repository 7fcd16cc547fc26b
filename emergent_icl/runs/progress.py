"""Progress of a run: what a checkpoint stores besides the state, and metrics not yet logged."""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from emergent_icl.data.bank import Array
from emergent_icl.training.devices import calls_in_flight
from emergent_icl.training.replicas import Replica
from emergent_icl.training.step import Step

# Calls whose metrics may stay on the devices until a line is due.
MOST_CALLS = 1000

# Device arrays -> host arrays.
Fetch = Callable[[Any], Any]
# Per replica: {metric: values}.
Window = list[dict[str, list[float]]]


class Progress(NamedTuple):
    """What a run needs besides its state to resume as if it had not stopped."""

    wall_seconds: float = 0.0  # of all commands
    train_seconds: float = 0.0  # of all commands, in timed updates
    train_steps: int = 0  # number of timed updates
    # Metrics of steps that are not logged yet. These defaults are never mutated.
    window: Window = []  # noqa: RUF012
    # Replica name -> step at which divergence was found.
    diverged: dict[str, int] = {}  # noqa: RUF012
    steps_per_call: int = 0  # K; 0 if nothing was computed yet
    # Replica name -> newest finite training loss.
    last_losses: dict[str, float] = {}  # noqa: RUF012
    started: str = ""  # when step 0 began, see `utc_now`; '' if an older version did not store it


def utc_now() -> str:
    """The time as '2026-11-28T18:50:00Z', whose alphabetical order is chronological."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def duration_text(seconds: float) -> str:
    """'40 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


class NonFiniteLossError(FloatingPointError):
    """A run diverged: a number in training or evaluation became NaN or infinite."""

    def __init__(self, step: int, what: str, replicas: int = 1) -> None:
        self.step = step
        who = "" if replicas == 1 else f"All {replicas} replicas have diverged; the last: "
        super().__init__(
            f"{who}{what}. This state was not saved. To avoid divergence, lower "
            f"training.optimizer.learning_rate, increase warmup_steps, or set max_grad_norm."
        )


class Tracker:
    """Tracks a run from call to call: its clock, metrics not yet logged, diverged replicas.

    Metrics stay on the devices until a line is due; on the host, every number is checked. A
    diverged replica is no longer tracked; a single run, or the last replica, raises an error
    instead. The clock excludes compilation and pauses.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        step: Step,
        carried: Progress,
        started: float,
        fetch: Fetch,
    ) -> None:
        """Continues from `carried`, the progress in a checkpoint.

        `started` is the start of the command in `time.monotonic()`; `fetch` copies metrics to the
        host, once per line.
        """
        self.names, self.fetch = tuple(replica.name for replica in replicas), fetch
        self.diverged, self._reported = dict(carried.diverged), set(carried.diverged)
        self._step, self._started = step, started - carried.wall_seconds
        self.begun, self.last_losses = carried.started, dict(carried.last_losses)
        # A checkpoint of step 0 has K, too.
        self.is_resumed = carried.steps_per_call > 0
        self._window = copy.deepcopy(carried.window) or [{} for _ in replicas]
        # (step before the call, its metrics on the devices).
        self._in_flight: list[tuple[int, Mapping[str, Array]]] = []
        self._most_in_flight = calls_in_flight()
        # Timed updates of all commands; the same at the last line.
        self._seconds, self._steps = carried.train_seconds, carried.train_steps
        self._lap = (self._seconds, self._steps)
        self._since: float | None = None

    def add(self, first_step: int, metrics: Mapping[str, Array]) -> None:
        """Adds a call of K steps after `first_step`; may wait for an earlier call."""
        self._in_flight.append((first_step, metrics))
        if self._since is None:  # The clock starts after the first call.
            jax.block_until_ready(metrics["loss"])
        if len(self._in_flight) > self._most_in_flight:
            _, earlier = self._in_flight[-1 - self._most_in_flight]
            jax.block_until_ready(earlier["loss"])
        if len(self._in_flight) == MOST_CALLS:
            self._settle()
        self._advance(self._step.steps_per_call)

    def line(self, keep: bool) -> dict[str, dict[str, float]]:
        """Waits for all calls; returns mean training metrics since the last line, by replica.

        Diverged replicas are excluded. With `keep`, the next line includes the same steps.

        Raises:
          NonFiniteLossError: all replicas have diverged.
        """
        self._settle()
        self._advance(0)
        seconds, steps = self._seconds - self._lap[0], self._steps - self._lap[1]
        self._lap = (self._seconds, self._steps)
        rates = {}
        if steps and seconds > 0:
            batch_size = self._step.feed_spec.batch_size
            rates["steps_per_second"] = steps / seconds
            rates["sequences_per_second"] = steps / seconds * batch_size
        # A norm that was not due at the step where the run now ends is unknown.
        means = [
            {f"train/{metric}": float(np.mean(own)) for metric, own in window.items() if own}
            for window in self._window
        ]
        lines = {name: own | rates for name, own in zip(self.names, means, strict=True) if own}
        if not keep:
            self._window = [{} for _ in self.names]
        return lines

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Waits for all calls, then stops the clock inside the context; raises like `line`."""
        self._settle()
        self._advance(0)
        before = time.monotonic()
        yield
        if self._since is not None:
            self._since += time.monotonic() - before

    def progress(self) -> Progress:
        """Waits for all calls; returns the progress to store in a checkpoint."""
        self._settle()
        return Progress(
            time.monotonic() - self._started,
            self._seconds,
            self._steps,
            # A copy, because it may be written while steps are added.
            copy.deepcopy(self._window),
            dict(self.diverged),
            self._step.steps_per_call,
            dict(self.last_losses),
            self.begun,
        )

    def mark(self, replica: int, step: int, what: str) -> None:
        """Records that a replica diverged at a step; `what` names the number that is not finite.

        Raises:
          NonFiniteLossError: it was the last replica, or a single run.
        """
        name = self.names[replica]
        self.diverged.setdefault(name, step)
        self._window[replica] = {}
        if name in self.last_losses:
            what += f"; the last finite loss was {self.last_losses[name]:.4g}"
        if len(self.diverged) == len(self.names):
            raise NonFiniteLossError(step, what, len(self.names))

    def newly_diverged(self) -> Iterator[tuple[str, int, float | None]]:
        """(name, step, last finite loss) of replicas that diverged since the last call."""
        for name in [name for name in self.diverged if name not in self._reported]:
            self._reported.add(name)
            yield name, self.diverged[name], self.last_losses.get(name)

    def _advance(self, steps: int) -> None:
        """Counts updates; the first call, which compiles, only starts the clock."""
        now = time.monotonic()
        if self._since is not None:
            self._seconds += now - self._since
            self._steps += steps
        if steps or self._since is not None:
            self._since = now

    def _settle(self) -> None:
        """Waits for all calls and copies their metrics to the host."""
        if not self._in_flight:
            return
        layout = self._step.layout
        copied = self.fetch([layout.needed(metrics) for _, metrics in self._in_flight])
        for (first_step, _), metrics in zip(self._in_flight, copied, strict=True):
            host = layout.metrics_on_host(metrics)
            for replica, name in enumerate(self.names):
                if name not in self.diverged:
                    self._take(replica, first_step, host)
        self._in_flight = []

    def _take(self, replica: int, first_step: int, host: dict[str, np.ndarray]) -> None:
        """Adds a replica's metrics of a call, each [K, R], if all are finite."""
        name, losses_K = self.names[replica], host["loss"][:, replica]
        # The loss first: it is the most informative in an error.
        for metric in sorted(host, key=lambda metric: metric != "loss"):
            values_K = host[metric][:, replica]
            if len(bad := np.flatnonzero(~np.isfinite(values_K))):
                step, value = first_step + int(bad[0]) + 1, float(values_K[bad[0]])
                finite = bad[0] if metric == "loss" else bad[0] + 1
                if finite:
                    self.last_losses[name] = float(losses_K[finite - 1])
                self.mark(replica, step, f"The {metric} at step {step} is {value}")
                return
        self.last_losses[name] = float(losses_K[-1])
        window, has_norm = self._window[replica], self._step.has_norm
        for metric, values_KR in host.items():
            values_K = values_KR[:, replica]
            if metric == "grad_norm" and has_norm is not None:
                # Only the last one counts, also if the line began in an earlier command.
                due = values_K[has_norm(first_step + 1 + np.arange(len(values_K)))]
                window[metric] = due[-1:].tolist() or window.get(metric, [])
            else:
                window.setdefault(metric, []).extend(values_K.tolist())
