"""Measures a machine with one accelerator, the most important things first, within some minutes.

python -m experiments.accelerator_check --minutes=8 [--out=runs/accelerator] [--config=...]

Golden numbers; milliseconds per step by precision, batch, steps per call, and determinism;
candidates for faster steps; replicas; evaluation. What remains of the time trains the config. Each
result is written to DIR/results.json when it is measured; a second call measures what is missing,
and resumes the training in DIR/run. Needs JAX alone: without Omniglot, steps are timed on random
images.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import candidates, golden, suites
from benchmarks.candidates import CANDIDATES, PLAIN, Candidate
from benchmarks.measure import Rival, machine, repeated, time_in_turn
from emergent_icl.cli import console, start, tables
from emergent_icl.cli.flags import config_flag
from emergent_icl.config.configs import with_options
from emergent_icl.presets import omniglot
from emergent_icl.runs.records import PACKAGES, read_metrics, versions
from emergent_icl.runs.workdir import Workdir, read_object

_CONFIG = config_flag()
_MINUTES = flags.DEFINE_float("minutes", 8.0, "Minutes in all.", lower_bound=0.1)
_OUT = flags.DEFINE_string("out", "runs/accelerator", "Folder for results.json and the run.")
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Seconds per timed block.", lower_bound=0.01)

# Share of the time for measurements; the rest trains.
MEASURING = 0.6
ROUNDS = 3
DETERMINISTIC = "--xla_gpu_deterministic_ops="
# Of float32 products: exact, or the fast kind of this accelerator (TF32 on NVIDIA's).
PRECISIONS = {"float32": "highest", "tf32": "default", "bfloat16": "default"}


class Item(NamedTuple):
    """One entry of the plan."""

    name: str  # in results.json
    measure: Callable[[], dict[str, Any]]


def main(argv: Sequence[str]) -> None:
    """Measures until the time is over, then trains."""
    with console.command(argv):
        start.use_compilation_cache()
        config = omniglot.get_config("paper") if _CONFIG.value is None else _CONFIG.value
        out = Path(_OUT.value).expanduser()
        seconds, path = 60 * _MINUTES.value, out / "results.json"
        results = read_object(path, "record of an accelerator check") if path.exists() else {}
        results |= {"machine": machine(), "versions": versions(PACKAGES)}
        measured = results.setdefault("measurements", {})
        for item in plan(config):
            if item.name in measured:
                continue
            if time.monotonic() - start.STARTED > MEASURING * seconds:
                console.say("The time for measurements is over; another call continues.")
                break
            measured[item.name] = _measured(item)
            Workdir.write_json(path, results)
            console.say(f"{item.name:40} {text(measured[item.name])}")
        results["training"] = train(config, out, seconds - (time.monotonic() - start.STARTED))
        Workdir.write_json(path, results)
        facts = {name: text(one) for name, one in measured.items()}
        tables.print_facts(results["machine"], {**facts, "training": text(results["training"])})
        console.say(f"Written: {path}")


def plan(config: ConfigDict) -> Iterator[Item]:
    """All measurements, the most important first."""
    for precision in ("highest", "default"):
        for case in golden.CASES:
            yield Item(f"golden_{case}_{precision}", functools.partial(_golden, case, precision))
    for batch in (32, 128, 512):
        for precision in PRECISIONS:
            options = {"training.batch_size": batch, "training.steps_per_call": 10}
            yield _step(f"step_batch_{batch}_{precision}", config, precision, options)
    for count in (1, 50):
        yield _step(f"step_per_call_{count}", config, options={"training.steps_per_call": count})
    for value in ("true", "false"):
        determinism = Candidate(xla_flags=DETERMINISTIC + value)
        yield _step(f"step_deterministic_{value}", config, candidate=determinism)
    for name, candidate in CANDIDATES.items():
        yield _step(f"candidate_{name}", config, candidate=candidate)
    for count in (1, 8, 32):
        small = with_options(omniglot.get_config("small"), {"training.replicas": count})
        yield _step(f"replicas_small_{count}", small)
    for mode in config.evaluation.modes:
        yield Item(f"evaluation_{mode}", functools.partial(_evaluation, config, mode))


def _step(
    name: str,
    config: ConfigDict,
    precision: str = "tf32",
    options: dict[str, Any] | None = None,
    candidate: Candidate = PLAIN,
) -> Item:
    """Milliseconds per step, and sequences per second."""
    kind = "bfloat16" if precision == "bfloat16" else "float32"
    own = {"training.steps_per_call": 10, "model.precision": kind, **(options or {})}
    whole = with_options(config, {**own, **_fitting(own["training.steps_per_call"])})

    def measure() -> dict[str, Any]:
        with contextlib.ExitStack() as stack:
            if candidate.xla_flags is not None:
                rival = suites.our_steps(stack, whole, candidate.xla_flags)
            else:
                trainer = candidates.trainer(suites.load(whole), candidate)
                stack.callback(trainer.close)
                rival = trainer.rival("compute")
            # The first call compiles.
            with jax.default_matmul_precision(PRECISIONS[precision]):
                seconds = _times(rival)
        sequences = whole.training.batch_size * max(whole.training.replicas, 1)
        return {
            "ms_per_step": [1e3 * one for one in seconds],
            "sequences_per_second": sequences / sorted(seconds)[len(seconds) // 2],
        }

    return Item(name, measure)


def _fitting(steps_per_call: int) -> dict[str, int]:
    """Intervals that a number of steps per call divides."""
    every = 1000 * steps_per_call
    names = ("training.num_steps", "training.log_every", "evaluation.every", "checkpoints.every")
    return dict.fromkeys(names, every)


def _golden(case: str, precision: str) -> dict[str, Any]:
    """Greatest differences from the reference implementation."""
    return {"greatest_difference": golden.differences(case, precision)}


def _evaluation(config: ConfigDict, mode: str) -> dict[str, Any]:
    experiment = suites.load(with_options(config, {"evaluation.modes": (mode,)}))
    evaluator, bank = experiment.evaluator(), jax.device_put(experiment.arrays())
    state = experiment.init(0)
    once = functools.partial(evaluator, state.params, state.batch_stats, bank)
    seconds = _times(repeated(once, config.evaluation.num_sequences))
    return {"ms_per_sequence": [1e3 * one for one in seconds]}


def _times(rival: Rival) -> list[float]:
    """Seconds per step or sequence, one per round."""
    return time_in_turn({"": rival}, ROUNDS, _SECONDS.value)[""]


def _measured(item: Item) -> dict[str, Any]:
    """A measurement, or why it failed; the others continue."""
    began = time.monotonic()
    try:
        found = item.measure()
    except Exception as error:  # A lack of memory, or a flag that this version does not know.
        found = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"}
    return {**found, "seconds_in_all": round(time.monotonic() - began, 1)}


def train(config: ConfigDict, out: Path, seconds: float) -> dict[str, Any]:
    """Trains the config in DIR/run for the rest of the time; returns how far it came."""
    workdir = Workdir(out / "run")
    if not workdir.config.exists():
        workdir.make()
        Workdir.write_json(out / "config.json", json.loads(config.to_json()))
    words = [f"--workdir={workdir.path}", f"--max_minutes={max(seconds, 0) / 60:.3f}"]
    if not workdir.config.exists():
        words.append(f"--config={out / 'config.json'}")
    command = [sys.executable, "-m", "emergent_icl", "train", *words]
    with (out / "train.log").open("ab") as log:
        environment = {**os.environ, **suites.SHARED_MEMORY}
        status = subprocess.run(command, stdout=log, stderr=log, env=environment).returncode
    lines = read_metrics(workdir.metrics)
    rates = [line["steps_per_second"] for line in lines if "steps_per_second" in line]
    last = lines[-1] if lines else {}
    return {
        "status": status,
        "step": last.get("step", 0),
        "steps_per_second": rates[-1] if rates else None,
        "loss": last.get("train/loss"),
    }


def text(found: dict[str, Any]) -> str:
    """A measurement in one line; of several rounds, the median and the range."""
    words = []
    for name, value in found.items():
        if isinstance(value, list):
            low, *_, high = ordered = sorted(value)
            value = f"{ordered[len(ordered) // 2]:.4g} ({low:.4g} to {high:.4g})"
        elif isinstance(value, dict):
            value = ", ".join(f"{key} {one:.2g}" for key, one in value.items())
        elif isinstance(value, float):
            value = f"{value:.4g}"
        words.append(f"{name.replace('_', ' ')} {value}")
    return "; ".join(words)
