"""Times this library against the original's way of doing the same, in the same process.

python -m experiments.benchmark [--suite=default] [--config=FILE[:preset]] [--out=DIR]

Suites: data, step, startup, eval (together 'default', about ten minutes on 2 cores), replicas,
scaling (with the others 'all'), and accelerator, which comes after the steps where there is one.
--config asks for the step, data and evaluation of that config alone; without it they are those
of omniglot.py's paper and small presets. Prints tables; writes DIR/results.json and pictures.
Both sides run with huge pages: a conservative comparison.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import jax
from absl import flags

from benchmarks import figures
from benchmarks.processes import ProcessError
from benchmarks.records import FIGURES, Measurements, Settings, machine, versions
from benchmarks.suites import GROUPS, SUITES
from benchmarks.suites.compare import measure
from emergent_icl.cli import console, tables
from emergent_icl.cli.flags import config_flag
from emergent_icl.config.registry import unknown_name
from emergent_icl.presets import omniglot
from emergent_icl.runs.check import check
from emergent_icl.runs.workdir import write_whole

_CONFIG = config_flag()
_SUITE = flags.DEFINE_string("suite", "default", "What to measure; see above.")
_OUT = flags.DEFINE_string("out", "runs/benchmark", "Folder of results.json and the pictures.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Of every comparison.", lower_bound=1, upper_bound=100)
_SECONDS = flags.DEFINE_float(
    "seconds", 2.0, "Length of a block of repetitions, of which a round runs one of each rival.",
    lower_bound=0.01, upper_bound=600.0,
)  # fmt: skip


def main(argv: Sequence[str]) -> None:
    """Measures, prints, draws, writes."""
    names = _suite_names(_SUITE.value)
    with console.command(argv, ProcessError, BrokenProcessPool):
        settings = _settings()
        check(settings.config)
        tables.print_facts("Machine", {"machine": machine(), **versions()})
        found = Measurements()
        for name in names:
            started = time.monotonic()
            measure(SUITES[name], settings, found)
            for table in found.tables:
                tables.print_columns(*table)
            found.tables.clear()
            console.say(f"{name}: {time.monotonic() - started:.0f} s\n")
    _finish(found, Path(_OUT.value))


def _suite_names(asked: str) -> list[str]:
    """The suites behind a name; exits on one that is unknown."""
    if asked not in (*GROUPS, *SUITES):
        console.say_error(unknown_name("suite", asked, [*GROUPS, *SUITES]))
        sys.exit(2)
    names = list(GROUPS.get(asked, (asked,)))
    if "step" in names and jax.default_backend() != "cpu":
        names.insert(names.index("step") + 1, "accelerator")
    return names


def _settings() -> Settings:
    config, subject, small = _CONFIG.value, "config", None
    if config is None:
        config, subject = omniglot.get_config("paper"), "paper"
        small = omniglot.get_config("small")
    return Settings(
        config, subject, small, _ROUNDS.value, _SECONDS.value,
        progress=lambda text: console.say(f"  {text} ..."),
    )  # fmt: skip


def _finish(found: Measurements, out: Path) -> None:
    """Notes, numbers and files."""
    for note in found.notes:
        console.say(f"note: {note}")
    numbers = {name: f"{found.figures[name]:.3g}" for name in FIGURES if name in found.figures}
    if numbers:
        tables.print_facts("Figures", numbers)
    content = json.dumps(found.results_json(), indent=2, allow_nan=False)
    write_whole(out / "results.json", f"{content}\n")
    written = [out / "results.json", *figures.draw(found, f"Measured on {machine()}", out)]
    for path in written:
        console.say(f"Written: {path}")
