"""Times this library against the approach of the reference implementation, in the same process.

python -m experiments.benchmark [--suite=default] [--config=FILE[:preset]] [--out=DIR]

Suites: data, step, startup, eval (together 'default', about ten minutes on 2 cores), replicas,
scaling, and small_models (with the others 'all'). On an accelerator, the suite accelerator follows
step. --config times the data, steps, and evaluation of one config instead of the paper and small
presets of omniglot.py. Prints tables; writes DIR/results.json and figures.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from benchmarks import explain, figures, small_models, suites
from benchmarks.measure import Benchmark, machine
from benchmarks.worker import SHARED_MEMORY, WorkerError, end_with_children
from emergent_icl.cli import console, tables
from emergent_icl.cli.flags import config_flag
from emergent_icl.config.registry import unknown_name
from emergent_icl.presets import omniglot
from emergent_icl.runs.workdir import write_whole

SUITES = {
    "data": suites.data,
    "step": explain.step,
    "startup": suites.startup,
    "eval": suites.evaluation,
    "replicas": suites.replicas,
    "scaling": explain.scaling,
    "small_models": small_models.small_models,
    "accelerator": suites.accelerator,
}
GROUPS = {
    "default": ("data", "step", "startup", "eval"),
    "all": ("data", "step", "startup", "eval", "replicas", "scaling", "small_models"),
}

_CONFIG = config_flag()
_SUITE = flags.DEFINE_string("suite", "default", "What to measure; see above.")
_OUT = flags.DEFINE_string("out", "runs/benchmark", "Folder for results.json and the figures.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds per comparison.", 1, 100)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Seconds per rival and round.", 0.01, 600.0)


def main(argv: Sequence[str]) -> None:
    """Measures, prints, writes, and draws."""
    os.environ.update(SHARED_MEMORY)
    if _SUITE.value not in (*GROUPS, *SUITES):
        console.fail(unknown_name("suite", _SUITE.value, [*GROUPS, *SUITES]), 2)
    names = list(GROUPS.get(_SUITE.value, (_SUITE.value,)))
    if "step" in names and jax.default_backend() != "cpu":
        names.insert(names.index("step") + 1, "accelerator")
    end_with_children()
    configs = {"config": _CONFIG.value}
    if _CONFIG.value is None:
        configs = {preset: omniglot.get_config(preset) for preset in ("paper", "small")}
    bench = Benchmark(configs, _ROUNDS.value, _SECONDS.value)
    with console.command(argv, WorkerError):
        about = bench.results_json()
        tables.print_facts("Machine", {"machine": about["machine"], **about["versions"]})
        for name in names:
            started = time.monotonic()
            with bench.stack:
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
