"""What a suite found, and results.json."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections

from benchmarks.timing import Measurement
from emergent_icl.config.registry import Registry

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


class Table(NamedTuple):
    """A table as `tables.print_columns` takes it."""

    title: str
    headings: list[str]
    columns: dict[str, list[str]]


@dataclasses.dataclass
class Findings:
    """What a suite found.

    Attributes:
      measurements: with their spread.
      speedups: baseline time over ours.
      figures: single numbers.
      extra: further top-level entries of results.json.
      tables: to be printed.
      notes: sentences, about the data or about what could not be measured.
    """

    measurements: list[Measurement] = dataclasses.field(default_factory=list)
    speedups: dict[str, float] = dataclasses.field(default_factory=dict)
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    tables: list[Table] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Takes over what another suite found."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, dict):
                mine.update(theirs)
            else:
                mine.extend(entry for entry in theirs if entry not in mine)


Suite = Callable[[Settings], Findings]
SUITES: Registry[Suite] = Registry("suite")


def machine() -> str:
    """Processor, cores, memory and devices, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}; "
        f"{len(devices)} x {devices[0].device_kind} ({jax.default_backend()})"
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Python and the packages that matter."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def results_json(findings: Findings) -> dict[str, Any]:
    """The content of results.json: every speedup and figure is there, None if not measured."""
    return {
        "machine": "; ".join([machine(), *findings.notes]),
        "versions": versions(),
        "measurements": [one._asdict() for one in findings.measurements],
        "speedups": _all(SPEEDUPS, findings.speedups),
        "figures": _all(FIGURES, findings.figures),
        **findings.extra,
    }


def _all(names: Iterable[str], values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: values.get(name) for name in names}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
