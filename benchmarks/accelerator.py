"""Measures a machine with one accelerator, the most important things first, within some minutes.

python -m experiments.accelerator_check --minutes=8 [--out=runs/accelerator] [--config=...]

Golden numbers; milliseconds per step by precision, determinism, and steps per call; replicas;
evaluation; candidates for faster steps; at last, larger batches and the other golden cases. What
remains of the time trains the config. Each result is written to DIR/results.json when it is
measured; a second call measures what is missing or failed, and resumes the training in DIR/run.
TensorFlow is not needed: without Omniglot, steps are timed on random images, and training uses
procedural characters.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import suites
from benchmarks.measure import machine
from benchmarks.plan import How, Item, measure, plan
from benchmarks.worker import Worker, WorkerError, end_with_children
from emergent_icl.cli import console, start, tables
from emergent_icl.cli.flags import config_flag
from emergent_icl.config.configs import with_options
from emergent_icl.config.identity import identity
from emergent_icl.data.sources.source import DataUnavailableError, load_bank
from emergent_icl.presets import omniglot
from emergent_icl.runs.provenance import code_commit
from emergent_icl.runs.records import PACKAGES, read_metrics, versions
from emergent_icl.runs.workdir import Workdir, read_object

_CONFIG = config_flag()
_MINUTES = flags.DEFINE_float("minutes", 8.0, "Minutes in all.", lower_bound=0.1)
_OUT = flags.DEFINE_string("out", "runs/accelerator", "Folder for results.json and the run.")
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Seconds per timed block.", lower_bound=0.01)
_CPU = flags.DEFINE_bool("cpu", False, "Accept a CPU, to try this command.")

# Share of the time for measurements; the rest trains.
MEASURING = 0.6
# The longest measurement: one that hangs must not take the time of all others.
MOST_SECONDS = 150.0
# What a training program needs besides: to start, and to save and draw at its end.
STARTING, ENDING = 30.0, 20.0
# The exit status of a run that was stopped on request.
STOPPED = 128 + signal.SIGTERM
DRIVERS = ("jax-cuda12-plugin", "jax-cuda13-plugin")


def main(argv: Sequence[str]) -> None:
    """Measures until the time is over, then trains."""
    with console.command(argv, WorkerError):
        end_with_children()
        config = omniglot.get_config("paper") if _CONFIG.value is None else _CONFIG.value
        out = Path(_OUT.value).expanduser()
        path, ends = out / "results.json", start.STARTED + 60 * _MINUTES.value
        # Only workers use the accelerator.
        with Worker() as worker:
            backend, about = worker.compute(jax.default_backend), worker.compute(machine)
            if backend == "cpu" and not _CPU.value:
                console.fail(
                    "JAX finds no accelerator. Install JAX for it (see docs/howto/install.md), or "
                    "try this command on the CPU with --cpu."
                )
            results = begun(path, about, config)
            how = How(_SECONDS.value, backend)
            measure_missing(worker, plan(config), results, path, how, ends)
        if ends - time.monotonic() > STARTING + ENDING:
            results["training"] = train(config, out, ends)
        else:
            console.say("No time is left for training; another call trains.")
        Workdir.write_json(path, results)
        measured = {name: text(one) for name, one in results["measurements"].items()}
        tables.print_facts(results["machine"], measured | {"training": text(results["training"])})
        console.say(f"Written: {path}")


def begun(path: Path, words: str, config: ConfigDict) -> dict[str, Any]:
    """The results so far, which must be of the same machine, code, and config; none at first."""
    about = {
        "machine": words,
        "versions": versions(("emergent-icl", *PACKAGES, *DRIVERS)),
        "commit": code_commit(),
        "environment": {name: os.environ.get(name, "") for name in ("JAX_PLATFORMS", "XLA_FLAGS")},
        "config": f"{identity(config):08x}",
    }
    results = read_object(path, "record of an accelerator check") if path.exists() else about
    for name, value in about.items():
        if results.get(name) != value:
            console.fail(
                f"{path} has another {name}: {results.get(name)!r} instead of {value!r}. Choose "
                "another folder with --out."
            )
    return {"measurements": {}, "training": {}, **results}


def measure_missing(
    worker: Worker,
    items: Iterable[Item],
    results: dict[str, Any],
    path: Path,
    how: How,
    ends: float,
) -> None:
    """Measures what is missing, and then what failed.

    Args:
      worker: for items without XLA flags.
      items: the most important first.
      results: completed, and written to `path` after each measurement.
      path: of results.json.
      how: all items are measured.
      ends: when all must be over, training included, on the monotonic clock.
    """
    measured, share = results["measurements"], MEASURING * (ends - start.STARTED)
    for item in sorted(items, key=lambda item: item.name in measured):
        if item.name in measured and "failed" not in measured[item.name]:
            continue
        if time.monotonic() > start.STARTED + share:
            console.say("The time for measurements is over; another call continues.")
            break
        limit = min(MOST_SECONDS, ends - time.monotonic())
        with Worker(item.xla_flags) if item.xla_flags else contextlib.nullcontext(worker) as by:
            measured[item.name] = _measured(by, item, how, limit)
        Workdir.write_json(path, results)
        console.say(f"{item.name:40} {text(measured[item.name])}")


def _measured(worker: Worker, item: Item, how: How, limit: float) -> dict[str, Any]:
    """A measurement, or why it failed; the others continue."""
    began = time.monotonic()
    try:
        found = worker.compute(measure, item, how, seconds=limit)
    except WorkerError as error:  # A lack of memory, or a flag that this version does not know.
        found = {"failed": str(error)}
    return {**found, "seconds_in_all": round(time.monotonic() - began, 1)}


def train(config: ConfigDict, out: Path, ends: float) -> dict[str, Any]:
    """Trains the config in DIR/run until shortly before a time; returns how far it came."""
    workdir, log = Workdir(out / "run"), out / "train.log"
    words = [f"--workdir={workdir.path}"]
    if not workdir.config.exists():
        words.append(f"--config={_prepared(config, out)}")
    left = ends - ENDING - time.monotonic()
    words.append(f"--max_minutes={left / 60:.3f}")
    with log.open("ab") as output:
        command = [sys.executable, "-m", "emergent_icl", "train", *words]
        # In a session of its own: a signal to both would reach it twice, which stops it unsaved.
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(left + ENDING / 2)
        finally:  # Also if this process is to end.
            _end(process)
    lines = read_metrics(workdir.metrics)
    rates = [line["steps_per_second"] for line in lines if "steps_per_second" in line]
    last = lines[-1] if lines else {}
    found = {
        "data": workdir.read_config().data.source if workdir.config.exists() else "",
        "status": process.returncode,
        "step": last.get("step", 0),
        "steps_per_second": [min(rates), median(rates), max(rates)] if rates else None,
        "loss": last.get("train/loss"),
    }
    if process.returncode not in (0, STOPPED):
        found["failed"] = log.read_text(errors="replace").strip().rpartition("\n")[2]
    return found


def _prepared(config: ConfigDict, out: Path) -> Path:
    """A file with the config, on procedural characters if its data are unavailable."""
    try:
        load_bank(config.data)
    except DataUnavailableError as error:
        console.say(f"Training on procedural characters instead: {error}")
        config = with_options(config, suites.STAND_IN)
    path = out / "config.json"
    Workdir.write_json(path, json.loads(config.to_json()))
    return path


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that has not ended, if possible after it has saved."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(ENDING / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def text(found: dict[str, Any]) -> str:
    """A measurement in one line; of several rounds, the median and the range."""
    words = []
    for name, value in found.items():
        if isinstance(value, list):
            value = f"{median(value):.4g} ({min(value):.4g} to {max(value):.4g})"
        elif isinstance(value, dict):
            value = ", ".join(f"{key} {one:.2g}" for key, one in value.items())
        elif isinstance(value, float):
            value = f"{value:.4g}"
        words.append(f"{name.replace('_', ' ')} {value}")
    return "; ".join(words)
