"""Alternating timing of rivals, and the collected measurements.

After a warm-up, rivals run in turn, so that noise of the machine affects all of them.
"""

import contextlib
import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from emergent_icl.cli import console, tables
from emergent_icl.runs import records
from emergent_icl.training.update import Metrics

# Single numbers of results.json. A speedup is the ratio of that name with the suffix `_speedup`.
SPEEDUPS = (
    "step_paper_compute", "step_paper_end_to_end", "step_small_end_to_end",
    "eval_fewshot_holdout_paper", "eval_no_support_paper",
)  # fmt: skip
FIGURES = {
    "feed_share_small": "feed_share_small",
    "startup_paper_cold_s": "startup_paper_cold",
    "startup_paper_warm_s": "startup_paper_warm",
    "replicas_small_8_over_1": "replicas_small_8_over_1_end_to_end",
    "paper_step_over_floor": "step_paper_over_floor",
}
# For rivals whose single repetition takes half a minute.
FEW_ROUNDS = 3
PACKAGES = ("jax", "jaxlib", "dm-haiku", "optax", "numpy", "tensorflow-cpu", "tensorflow")
MOST_REPETITIONS = 5000

Clock = Callable[[], float]


class Measurement(NamedTuple):
    """A measurement as in results.json; `median`, `min`, and `max` over `runs`, in `unit`.

    The median of a ratio is the ratio of both medians.
    """

    name: str
    median: float
    min: float
    max: float
    unit: str
    runs: int

    def __str__(self) -> str:
        unit = " x" if self.unit == "x" else ""
        return f"{number(self.median)}{unit} ({number(self.min)} to {number(self.max)})"


class Rival(NamedTuple):
    """One implementation of a task."""

    run: Callable[[int], object]  # runs this many repetitions, and waits until all are done
    amount: float = 1  # of what is counted, such as steps or sequences, per repetition
    at_least: int = 1  # repetitions per block


def repeated(once: Callable[[], object], amount: float = 1, at_least: int = 1) -> Rival:
    """A rival whose repetitions are calls, each of which waits for its result."""

    def run(count: int) -> None:
        for _ in range(count):
            once()

    return Rival(run, amount, at_least)


@dataclasses.dataclass
class Trainer:
    """A training step with its feed; close it after use."""

    call: Callable[[Any, Any], tuple[Any, Metrics]]  # (state, batch) -> (state, metrics)
    state: Any
    batch: Any
    feed: Generator[Any]
    steps_per_call: int
    calls_in_flight: int  # calls that need not have ended when the next one starts
    wait: Callable[[Metrics], object]  # waits until the call with these metrics has ended
    # For each call of `run`: seconds per step spent waiting for batches, and their share of the
    # total time.
    waits: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def close(self) -> None:
        """Closes the feed, whose threads call back into Python."""
        self.feed.close()

    def rival(self, kind: str) -> Rival:
        """Steps on one batch ('compute') or with their feed ('end_to_end')."""
        run, at_least = (self.compute, 1) if kind == "compute" else (self.run, 2)
        return Rival(run, self.steps_per_call, at_least)

    def compute(self, calls: int) -> None:
        """Calls on one batch."""
        for _ in range(calls):
            self._step(self.batch)
        jax.block_until_ready(self.state)

    def run(self, calls: int) -> None:
        """Calls as a training loop makes them: fed, with all metrics fetched at the end."""
        start, waited, line = time.perf_counter(), 0.0, []
        for call in range(calls):
            asked = time.perf_counter()
            batch = next(self.feed)
            waited += time.perf_counter() - asked
            line.append(self._step(batch))
            if call >= self.calls_in_flight:
                self.wait(line[call - self.calls_in_flight])
        jax.device_get(line)
        jax.block_until_ready(self.state)
        share = waited / (time.perf_counter() - start)
        self.waits.append((waited / (calls * self.steps_per_call), share))

    def _step(self, batch: Any) -> Metrics:
        self.state, metrics = self.call(self.state, batch)
        return metrics


def time_in_turn(
    rivals: Mapping[str, Rival], rounds: int, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds per unit of `Rival.amount` of each rival, one sample per round.

    In a round, each rival runs a block of repetitions of about `seconds`, or a single repetition
    without a warm-up if `seconds` is 0.
    """
    counts = {name: repetitions(rival, seconds, clock) for name, rival in rivals.items()}
    samples: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, rival in rivals.items():
            took = _time(rival, counts[name], clock)
            samples[name].append(took / (counts[name] * rival.amount))
    return samples


def repetitions(rival: Rival, seconds: float, clock: Clock = time.perf_counter) -> int:
    """The number of repetitions that take about `seconds`, determined after a warm-up."""
    count = rival.at_least
    if not seconds:
        return count
    rival.run(1)
    # A few repetitions can be deceptively fast, as long as a feed has batches in its buffer.
    took = _time(rival, count, clock)
    while took < seconds / 4 and count < MOST_REPETITIONS:
        count = min(4 * count, MOST_REPETITIONS)
        took = _time(rival, count, clock)
    fitting = round(count * seconds / took) if took > 0 else MOST_REPETITIONS
    return max(rival.at_least, min(fitting, MOST_REPETITIONS))


def _time(rival: Rival, count: int, clock: Clock) -> float:
    start = clock()
    rival.run(count)
    return clock() - start


@dataclasses.dataclass
class Benchmark:
    """What the suites measure, and their results."""

    # By name in measurements: 'paper' and 'small', or 'config' with --config. Only the first is
    # analyzed in detail.
    configs: Mapping[str, ml_collections.ConfigDict]
    rounds: int  # per comparison
    seconds: float  # per block of repetitions
    by_name: dict[str, Measurement] = dataclasses.field(default_factory=dict)
    # Ratios of medians; `by_name` has the spread of each over rounds.
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)  # other results.json entries
    notes: list[str] = dataclasses.field(default_factory=list)
    # Ends the feeds and processes of a suite.
    stack: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)

    @property
    def first(self) -> tuple[str, ml_collections.ConfigDict]:
        """The name of the first config, and the config."""
        return next(iter(self.configs.items()))

    def compare(
        self,
        title: str,
        name: str,
        rivals: Mapping[str, Rival],
        unit: str = "ms/step",
        ratio: tuple[str, str, str] | None = None,
        share: float = 1.0,
    ) -> None:
        """Times rivals in turn, records the results, and prints a table.

        Args:
          title: of the table; '' prints none.
          name: of the measurements; '{}' is replaced by the name of the rival or ratio.
          rivals: by name.
          unit: 's', milliseconds per something, or something per second.
          ratio: its name, numerator, and denominator; omitted if a rival is missing.
          share: of `seconds` per block; 0 for single repetitions in a few rounds.
        """
        rounds = self.rounds if share else min(self.rounds, FEW_ROUNDS)
        samples = time_in_turn(rivals, rounds, share * self.seconds)
        measured, factor = {}, 1 if unit == "s" else 1e3
        for rival, taken in samples.items():
            values = [1 / one if unit.endswith("/s") else factor * one for one in taken]
            measured[rival] = self.record(name.format(rival), values, unit)
        if ratio is not None and set(ratio[1:]) <= set(samples):
            slow, fast = (np.array(samples[rival]) for rival in ratio[1:])
            key = name.format(ratio[0])
            self.ratios[key] = float(np.median(slow) / np.median(fast))
            found = self.record(key, (slow / fast).tolist(), "x")
            measured[ratio[0]] = self.by_name[key] = found._replace(median=self.ratios[key])
        if title:
            tables.print_facts(f"{title}, {unit}", {row: str(x) for row, x in measured.items()})

    def record(self, name: str, samples: Sequence[float], unit: str) -> Measurement:
        """Stores a measurement of at least one sample."""
        median = statistics.median(samples)
        measured = Measurement(name, median, min(samples), max(samples), unit, len(samples))
        self.by_name[name] = measured
        return measured

    def note(self, text: str) -> None:
        """Prints and stores a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)
            console.say(f"note: {text}")

    def results_json(self) -> dict[str, Any]:
        """The content of results.json; speedups and figures that were not measured are None."""
        medians = {name: one.median for name, one in self.by_name.items()} | self.ratios
        return {
            "machine": "; ".join([machine(), *self.notes]),
            "versions": {"python": platform.python_version(), **records.versions(PACKAGES)},
            "measurements": [one._asdict() for one in self.by_name.values()],
            "speedups": {name: medians.get(f"{name}_speedup") for name in SPEEDUPS},
            "figures": {name: medians.get(source) for name, source in FIGURES.items()},
            **self.extra,
        }


def number(value: float) -> str:
    """Three or four digits, without an exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def machine() -> str:
    """Processor, cores, memory, and devices, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{records.processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}; "
        f"{len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
    )
