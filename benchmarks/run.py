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
import multiprocessing
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import FrameType

import jax
from absl import flags

from benchmarks import figures
from benchmarks.measure import Benchmark, machine, versions
from benchmarks.suites import GROUPS, SUITES
from emergent_icl.cli import console, tables
from emergent_icl.cli.flags import config_flag
from emergent_icl.config.registry import unknown_name
from emergent_icl.presets import omniglot
from emergent_icl.runs.workdir import write_whole

_CONFIG = config_flag()
_SUITE = flags.DEFINE_string("suite", "default", "What to measure; see above.")
_OUT = flags.DEFINE_string("out", "runs/benchmark", "Folder of results.json and the pictures.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Of every comparison.", lower_bound=1, upper_bound=100)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Of a rival's repetitions, a round.", 0.01, 600.0)


def main(argv: Sequence[str]) -> None:
    """Measures, prints, draws, writes."""
    names = _suite_names(_SUITE.value)
    end_with_children()
    configs = {"config": _CONFIG.value}
    if _CONFIG.value is None:
        configs = {preset: omniglot.get_config(preset) for preset in ("paper", "small")}
    bench = Benchmark(configs, _ROUNDS.value, _SECONDS.value)
    with console.command(argv, BrokenProcessPool):
        tables.print_facts("Machine", {"machine": machine(), **versions()})
        for name in names:
            started = time.monotonic()
            SUITES[name](bench)
            console.say(f"{name}: {time.monotonic() - started:.0f} s\n")
        results, out = bench.results_json(), Path(_OUT.value).expanduser()
        numbers = {**results["speedups"], **results["figures"]}
        known = {name: f"{number:.3g}" for name, number in numbers.items() if number is not None}
        if known:
            tables.print_facts("Speedups and figures", known)
        content = json.dumps(results, indent=2, allow_nan=False)
        write_whole(out / "results.json", f"{content}\n")
        for path in (out / "results.json", *figures.draw(bench, f"Measured on {machine()}", out)):
            console.say(f"Written: {path}")


def end_with_children() -> None:
    """From now on Ctrl-C and SIGTERM end what this process has started, too."""

    def end(number: int, frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            child.kill()
        # On the way out a launcher that is being timed is killed, and its folder removed.
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _suite_names(asked: str) -> list[str]:
    """The suites behind a name; exits on one that is unknown."""
    if asked not in (*GROUPS, *SUITES):
        console.fail(unknown_name("suite", asked, [*GROUPS, *SUITES]), 2)
    names = list(GROUPS.get(asked, (asked,)))
    if "step" in names and jax.default_backend() != "cpu":
        names.insert(names.index("step") + 1, "accelerator")
    return names
