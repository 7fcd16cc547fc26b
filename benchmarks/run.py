"""Times this library against the original's way of doing the same, in the same process.

python -m experiments.benchmark [--suite=default] [--config=FILE[:preset]] [--out=DIR]

Suites: data, step, startup, eval (together 'default', about ten minutes on 2 cores), replicas,
scaling, or 'all'. --config asks for the step, data and evaluation of that config alone; without
it they are those of omniglot.py's paper and small presets. Prints tables; writes
DIR/results.json and pictures. Both sides run with huge pages: a conservative comparison.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from benchmarks import figures, suites  # noqa: F401  (suites register themselves)
from benchmarks.findings import (
    FIGURES,
    SUITES,
    Findings,
    Settings,
    machine,
    results_json,
    versions,
    write,
)
from benchmarks.processes import ProcessError
from emergent_icl.cli import console, tables
from emergent_icl.cli.flags import config_flag
from emergent_icl.config.registry import unknown_name
from emergent_icl.presets import omniglot
from emergent_icl.runs.check import validate

GROUPS = {"default": ("data", "step", "startup", "eval"), "all": None}

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
    console.refuse_leftovers(argv)
    names = _suite_names(_SUITE.value)
    with console.clear_errors():
        settings = _settings()
        validate(settings.config)
        tables.print_facts("Machine", {"machine": machine(), **versions()})
        findings = Findings()
        for name in names:
            started = time.monotonic()
            try:
                found = SUITES[name](settings)
            except ProcessError as error:
                console.say_error(str(error))
                sys.exit(1)
            for table in found.tables:
                tables.print_columns(table.title, table.headings, table.columns)
            console.say(f"{name}: {time.monotonic() - started:.0f} s\n")
            findings.add(found)
    _finish(findings, settings, Path(_OUT.value))


def _suite_names(asked: str) -> list[str]:
    """The suites behind a name; exits on one that is unknown."""
    if asked in GROUPS:
        return list(GROUPS[asked] or SUITES)
    if asked not in SUITES:
        console.say_error(unknown_name("suite", asked, [*GROUPS, *SUITES]))
        sys.exit(2)
    return [asked]


def _settings() -> Settings:
    if _CONFIG.value is not None:
        return Settings(_CONFIG.value, "config", None, _ROUNDS.value, _SECONDS.value, _progress)
    paper, small = omniglot.get_config("paper"), omniglot.get_config("small")
    return Settings(paper, "paper", small, _ROUNDS.value, _SECONDS.value, _progress)


def _progress(text: str) -> None:
    console.say(f"  {text} ...")


def _finish(findings: Findings, settings: Settings, out: Path) -> None:
    """Notes, numbers and files."""
    for note in findings.notes:
        console.say(f"note: {note}")
    numbers = {name: findings.figures[name] for name in FIGURES if name in findings.figures}
    if numbers:
        tables.print_facts("Figures", {name: f"{value:.3g}" for name, value in numbers.items()})
    written = [out / "results.json"]
    write(written[0], results_json(findings))
    title = f"Measured on {machine()}"
    if figures.draw_overview(findings, title, out / "benchmark.png"):
        written.append(out / "benchmark.png")
    if "growth" in findings.extra:
        figures.draw_growth(findings.extra["growth"], title, out / "scaling.png")
        written.append(out / "scaling.png")
    for path in written:
        console.say(f"Written: {path}")
