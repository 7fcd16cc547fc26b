"""What is asked of the suites and what they measure: timing of rivals in turn, and results.json.

After a warm-up rivals are run in turn, so that noise of the machine hits all of them.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from emergent_icl.cli import console, tables
from emergent_icl.runs import records

# Single numbers of results.json, and the measurements that they come from.
SPEEDUPS = {
    "step_paper_compute": "step_paper_compute_speedup",
    "step_paper_end_to_end": "step_paper_end_to_end_speedup",
    "step_small_end_to_end": "step_small_end_to_end_speedup",
    "eval_fewshot_holdout_paper": "eval_fewshot_holdout_paper_speedup",
    "eval_no_support_paper": "eval_no_support_paper_speedup",
}
FIGURES = {
    "feed_share_small": "feed_share_small",
    "startup_paper_cold_s": "startup_paper_cold",
    "startup_paper_warm_s": "startup_paper_warm",
    "replicas_small_8_over_1": "replicas_small_8_over_1_end_to_end",
    "paper_step_over_floor": "step_paper_over_floor",
}
# Of what takes half a minute.
FEW_ROUNDS = 3
PACKAGES = ("jax", "jaxlib", "dm-haiku", "optax", "numpy", "tensorflow-cpu", "tensorflow")


Clock = Callable[[], float]
MOST_REPETITIONS = 5000


class Measurement(NamedTuple):
    """What was measured, as results.json holds it; `median` to `max` are in `unit`, over runs."""

    name: str
    median: float
    min: float
    max: float
    unit: str
    runs: int


class Rival(NamedTuple):
    """One way of doing something.

    Attributes:
      run: does it that many times, and waits until it is done: a dispatched computation is not.
      amount: of what is counted, as steps or sequences, in one repetition.
      at_least: repetitions at a time.
    """

    run: Callable[[int], object]
    amount: float = 1
    at_least: int = 1


def repeated(once: Callable[[], object], amount: float = 1, at_least: int = 1) -> Rival:
    """A rival whose repetitions are calls, each of which waits."""

    def run(count: int) -> None:
        for _ in range(count):
            once()

    return Rival(run, amount, at_least)


def time_in_turn(
    rivals: Mapping[str, Rival], rounds: int, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of one step or sequence (see `Rival.amount`) of each rival, a sample a round.

    In a round, each rival runs a block of repetitions, as many as last about `seconds`; where that
    is 0, it is one repetition, not tried out before.
    """
    counts = {name: repetitions(rival, seconds, clock) for name, rival in rivals.items()}
    samples: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, rival in rivals.items():
            took = _time(rival, counts[name], clock)
            samples[name].append(took / (counts[name] * rival.amount))
    return samples


def repetitions(rival: Rival, seconds: float, clock: Clock = time.perf_counter) -> int:
    """How many last about `seconds`, found by trying, after a warm-up."""
    count = rival.at_least
    if not seconds:
        return count
    rival.run(1)
    # A few repetitions can be deceptively fast: what a feed had ready is soon used up.
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
    """What is asked of the suites, and what they measured.

    Attributes:
      configs: whose steps are timed, by their names in measurements: 'paper' and 'small', or
        'config' where another was asked for. The first is looked at most closely.
      rounds: of every comparison.
      seconds: that a block of repetitions should last.
      by_name: every measurement, with its spread.
      ratios: of medians, by the name of the measurement that has the ratios of the rounds.
      extra: further top-level entries of results.json.
      notes: sentences, about the data or about what could not be measured.
    """

    configs: Mapping[str, ml_collections.ConfigDict]
    rounds: int
    seconds: float
    by_name: dict[str, Measurement] = dataclasses.field(default_factory=dict)
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def first(self) -> tuple[str, ml_collections.ConfigDict]:
        """The first config, after its name."""
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
        """Times rivals in turn, records them and prints a table.

        Args:
          title: of the table; '' for none.
          name: of the measurements, '{}' stands for the rival or the ratio.
          rivals: by name.
          unit: 's', milliseconds of something, or something a second.
          ratio: its name, the rival that takes so many times as long, and the other one.
          share: of `seconds`, for a block of repetitions; 0 for a single one, in a few rounds.
        """
        rounds = self.rounds if share else min(self.rounds, FEW_ROUNDS)
        samples = time_in_turn(rivals, rounds, share * self.seconds)
        measured, factor = {}, 1 if unit == "s" else 1e3
        for rival, taken in samples.items():
            values = [1 / one if unit.endswith("/s") else factor * one for one in taken]
            measured[rival] = self.record(name.format(rival), values, unit)
        if ratio is not None and set(ratio[1:]) <= set(samples):
            slow, fast = (samples[rival] for rival in ratio[1:])
            key = name.format(ratio[0])
            self.ratios[key] = statistics.median(slow) / statistics.median(fast)
            ratios = [one / other for one, other in zip(slow, fast, strict=True)]
            measured[ratio[0]] = self.record(key, ratios, "x")
        if title:
            texts = {row: text_of(one) for row, one in measured.items()}
            tables.print_facts(f"{title}, {unit}", texts)

    def record(self, name: str, samples: Sequence[float], unit: str) -> Measurement:
        """Keeps a measurement of at least one sample."""
        median = statistics.median(samples)
        measured = Measurement(name, median, min(samples), max(samples), unit, len(samples))
        self.by_name[name] = measured
        return measured

    def note(self, text: str) -> None:
        """Prints and keeps a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)
            console.say(f"note: {text}")

    def results_json(self) -> dict[str, Any]:
        """The content of results.json: every speedup and figure is there, None if not measured."""
        medians = {name: one.median for name, one in self.by_name.items()} | self.ratios
        return {
            "machine": "; ".join([machine(), *self.notes]),
            "versions": versions(),
            "measurements": [one._asdict() for one in self.by_name.values()],
            "speedups": {name: medians.get(source) for name, source in SPEEDUPS.items()},
            "figures": {name: medians.get(source) for name, source in FIGURES.items()},
            **self.extra,
        }


def text_of(measured: Measurement) -> str:
    """Median and range, in words."""
    unit = " x" if measured.unit == "x" else ""
    low, high = number(measured.min), number(measured.max)
    return f"{number(measured.median)}{unit} ({low} to {high})"


def number(value: float) -> str:
    """Three or four digits, and no powers of ten."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def machine() -> str:
    """Processor, cores, memory and devices, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{records.processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}; "
        f"{len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
    )


def versions() -> dict[str, str]:
    """Python and the packages that matter."""
    return {"python": platform.python_version(), **records.versions(PACKAGES)}
