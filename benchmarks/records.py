"""What the suites share and what they measured, and results.json."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from benchmarks.timing import Measurement, spread
from emergent_icl.runs import records

SPEEDUPS = (
    "step_paper_compute",
    "step_paper_end_to_end",
    "step_small_end_to_end",
    "eval_fewshot_holdout_paper",
    "eval_no_support_paper",
)
FIGURES = (
    "feed_share_small",
    "startup_paper_cold_s",
    "startup_paper_warm_s",
    "replicas_small_8_over_1",
    "paper_step_over_floor",
)
PACKAGES = ("jax", "jaxlib", "dm-haiku", "optax", "numpy", "tensorflow-cpu", "tensorflow")


class Settings(NamedTuple):
    """What the suites share.

    Attributes:
      config: whose step is timed.
      subject: its name in measurements: 'paper' for the default, 'config' for another.
      small: the small preset; None where --config asked for another config alone.
      rounds: of every comparison.
      seconds: that a block of repetitions should last.
      progress: is told what is measured next.
    """

    config: ml_collections.ConfigDict
    subject: str
    small: ml_collections.ConfigDict | None
    rounds: int
    seconds: float
    progress: Callable[[str], None]

    @property
    def configs(self) -> dict[str, ml_collections.ConfigDict]:
        """The config, and the small preset where it is asked for, by their names."""
        return {self.subject: self.config} | ({"small": self.small} if self.small else {})


class Table(NamedTuple):
    """A table as `tables.print_columns` takes it."""

    title: str
    headings: list[str]
    columns: dict[str, list[str]]


@dataclasses.dataclass
class Measurements:
    """What the suites measured.

    Attributes:
      by_name: every measurement, with its spread.
      ratios: of medians, by the name of the measurement that has the ratios of the rounds.
      figures: single numbers.
      extra: further top-level entries of results.json.
      tables: to be printed.
      notes: sentences, about the data or about what could not be measured.
    """

    by_name: dict[str, Measurement] = dataclasses.field(default_factory=dict)
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    tables: list[Table] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def record(self, name: str, samples: Sequence[float], unit: str) -> Measurement:
        """Keeps a measurement of at least one sample."""
        self.by_name[name] = spread(name, samples, unit)
        return self.by_name[name]

    def note(self, text: str) -> None:
        """Keeps a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)

    def results_json(self) -> dict[str, Any]:
        """The content of results.json: every speedup and figure is there, None if not measured."""
        return {
            "machine": "; ".join([machine(), *self.notes]),
            "versions": versions(),
            "measurements": [one._asdict() for one in self.by_name.values()],
            "speedups": {name: self.ratios.get(f"{name}_speedup") for name in SPEEDUPS},
            "figures": {name: self.figures.get(name) for name in FIGURES},
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
