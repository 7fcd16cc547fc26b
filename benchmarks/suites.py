"""The suites: each makes what is timed, and has its rivals timed in turn."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from benchmarks import explain
from benchmarks.baseline import (
    SequenceMaker,
    baseline_evaluation,
    baseline_trainer,
    training_feed,
    why_not,
)
from benchmarks.measure import Benchmark, repeated
from benchmarks.workloads import SHARED_MEMORY, load, our_steps, our_trainer
from emergent_icl.cli import console
from emergent_icl.config.configs import with_options
from emergent_icl.config.registry import FEEDERS
from emergent_icl.data.feed import resolve_feeder
from emergent_icl.data.sources.source import DataUnavailableError, load_bank
from emergent_icl.presets import omniglot
from emergent_icl.training.build import Experiment
from emergent_icl.training.step import make_step

# Of a trainer: on one batch, and with what feeds it.
KINDS = {"compute": "computed alone", "end_to_end": "fed"}
SPEEDUP = ("speedup", "baseline", "ours")


def _begin(
    bench: Benchmark, subject: str, what: str, config: ml_collections.ConfigDict
) -> tuple[Experiment, bool]:
    """Builds a config; and whether the original's way is written for it, which is noted."""
    console.say(f"  {subject}: {what} ...")
    experiment, reason = load(config), why_not(config)
    bench.note(f"{subject}: {experiment.bank.name}")
    if reason is not None:
        bench.note(f"{subject}: no baseline, {reason}")
    return experiment, reason is None


def _has_tensorflow() -> bool:
    return resolve_feeder("auto") == "tfdata"


# --------------------------------------------------------------------------------- data

SAMPLER_SEQUENCES = 1024


def data(bench: Benchmark) -> None:
    """What makes training sequences: our sampler and feeders, and the original's generator."""
    for subject, config in bench.configs.items():
        experiment, has_baseline = _begin(bench, subject, "sampler, feeders, generator", config)
        feeds = _feeds(experiment, has_baseline)
        with contextlib.ExitStack() as stack:
            for feed, _ in feeds.values():
                stack.callback(feed.close)
            rivals = {
                name: repeated(functools.partial(next, feed), amount, at_least=4)
                for name, (feed, amount) in feeds.items()
            }
            title = f"Training sequences, {subject}"
            bench.compare(title, f"data_{subject}_{{}}", rivals, "sequences/s", share=0.25)


def _feeds(experiment: Experiment, has_baseline: bool) -> dict[str, tuple[Generator, int]]:
    """What makes sequences, and how many at a time."""
    spec, rng = make_step(experiment).feed_spec, np.random.default_rng(0)
    sample = experiment.task.training.sample
    batches = (sample(rng, SAMPLER_SEQUENCES) for _ in itertools.count())
    feeds: dict[str, tuple[Generator, int]] = {"sampler": (batches, SAMPLER_SEQUENCES)}
    for name, make_feed in FEEDERS.items():
        if name == "python" or _has_tensorflow():
            feeds[f"feed_{name}"] = make_feed(spec, 0), spec.batch_size * spec.steps_per_call
    if has_baseline:
        maker = SequenceMaker(experiment)
        feeds["baseline_generator"] = (maker.bursty() for _ in itertools.count()), 1
        if _has_tensorflow():
            feeds["baseline_feed"] = training_feed(experiment), spec.batch_size
    return feeds


# --------------------------------------------------------------------------------- step


def step(bench: Benchmark) -> None:
    """Training steps, computed alone and fed; the floor of the first, and where its time goes."""
    for subject, config in bench.configs.items():
        experiment, has_baseline = _begin(bench, subject, "steps", config)
        with contextlib.ExitStack() as stack:
            trainers = {"ours": our_trainer(experiment)}
            if has_baseline:
                trainers["baseline"] = baseline_trainer(experiment)
            for trainer in trainers.values():
                stack.callback(trainer.close)
            for kind, words in KINDS.items():
                if kind == "end_to_end" and not _has_tensorflow():
                    trainers.pop("baseline", None)
                rivals = {name: trainer.rival(kind) for name, trainer in trainers.items()}
                title = f"A step of {config.training.batch_size} sequences, {subject}, {words}"
                bench.compare(title, f"step_{subject}_{kind}_{{}}", rivals, ratio=SPEEDUP)
            # What was waited before was to try out the blocks.
            seconds, shares = zip(*trainers["ours"].waits[-bench.rounds :], strict=True)
        if subject == "small":
            bench.record("feed_share_small", shares, "1")
        if subject == bench.first[0]:
            console.say(f"  {subject}: floor, and parts of a step ...")
            explain.find_floor(bench, experiment)
            explain.find_parts(bench, experiment, seconds)


def replicas(bench: Benchmark) -> None:
    """Steps of 1 and of 8 replicas of the small preset."""
    with contextlib.ExitStack() as stack:
        trainers = {}
        for count in (1, 8):
            config = with_options(omniglot.get_config("small"), {"training.replicas": count})
            experiment, _ = _begin(bench, "small", f"steps of {count} replicas", config)
            trainers[str(count)] = our_trainer(experiment)
            stack.callback(trainers[str(count)].close)
        for kind, words in KINDS.items():
            rivals = {count: trainer.rival(kind) for count, trainer in trainers.items()}
            title, ratio = f"Replicas in one program, {words}", ("8_over_1", "8", "1")
            bench.compare(title, f"replicas_small_{{}}_{kind}", rivals, ratio=ratio)


# ------------------------------------------------------------------------------ startup

# Printed by experiments.train when the first step was dispatched.
FIRST_STEP = "compiled"
LAUNCH = ("--config=experiments/configs/omniglot.py:paper", "--config.training.num_steps=2")
# Where Omniglot is missing: characters of the same size, fewer drawings of each.
STAND_IN = {
    "data.source": "glyphs",
    "data.glyphs.num_classes": 1623,
    "data.glyphs.num_exemplars": 1,
}


def startup(bench: Benchmark) -> None:
    """Launches of the paper preset: 'cold' has an empty compilation cache, 'warm' a filled one."""
    if "small" not in bench.configs:
        bench.note("startup is that of the paper preset, whatever --config")
    flags = [*LAUNCH, *_data_flags(bench)]
    console.say("  launches with an empty cache, and with a filled one ...")
    with tempfile.TemporaryDirectory() as folder:
        cache, runs = Path(folder) / "compiled", itertools.count()

        def warm() -> None:
            workdir = f"--workdir={folder}/run_{next(runs)}"
            train_to_first_step([*flags, workdir], cache)

        def cold() -> None:
            shutil.rmtree(cache, ignore_errors=True)
            warm()

        # A warm launch finds what the cold one before it has compiled.
        rivals = {"cold": repeated(cold), "warm": repeated(warm)}
        title = "From launch to the first step, paper preset, by compilation cache"
        bench.compare(title, "startup_paper_{}", rivals, "s", share=0)


def train_to_first_step(flags: Sequence[str], cache: Path) -> None:
    """Starts a training launcher, and ends it when it says that its first step was out."""
    environment = {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *flags],
        env={**os.environ, **SHARED_MEMORY, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if not any(line.strip().startswith(FIRST_STEP) for line in process.stdout):
                console.fail(f"experiments.train: {process.stderr.read().strip()[-500:]}")
        finally:
            process.kill()


def _data_flags(bench: Benchmark) -> list[str]:
    """Overrides where Omniglot is missing; whatever is shown is ready in the user's cache."""
    config = omniglot.get_config("paper")
    try:
        load_bank(config.data)
    except DataUnavailableError:
        bench.note("startup: glyphs in place of omniglot")
        load_bank(with_options(config, STAND_IN).data)
        return [f"--config.{path}={value}" for path, value in STAND_IN.items()]
    return []


# --------------------------------------------------------------------------- evaluation

# Mode -> its name in measurements.
MODES = {"fewshot_holdout": "eval_fewshot_holdout", "no_support_zipfian": "eval_no_support"}


def evaluation(bench: Benchmark) -> None:
    """The paper's two modes, on fresh parameters: many sequences at once, or one by one."""
    subject, config = bench.first
    for mode, name in MODES.items():
        config = with_options(config, {"evaluation.modes": (mode,)})
        experiment, has_baseline = _begin(bench, subject, mode, config)
        evaluator, bank = experiment.evaluator(), jax.device_put(experiment.arrays())
        state = experiment.init(0)
        evaluate = functools.partial(evaluator, state.params, state.batch_stats, bank)
        rivals = {"ours": repeated(evaluate, config.evaluation.num_sequences)}
        if has_baseline:
            make = getattr(SequenceMaker(experiment), mode)
            rivals["baseline"] = baseline_evaluation(experiment, make)
        title = f"Evaluation, {mode} ({config.evaluation.num_sequences:,} of ours at once)"
        bench.compare(title, f"{name}_{subject}_{{}}", rivals, "ms/sequence", SPEEDUP)


# -------------------------------------------------------------------------- accelerator

PRECISIONS = ("float32", "bfloat16")
BATCHES = (32, 128, 512)
STEPS_PER_CALL = 10
DETERMINISTIC = "--xla_gpu_deterministic_ops="


def accelerator(bench: Benchmark) -> None:
    """Precisions, batches, steps a call and determinism; steps without their feed."""
    subject, config = bench.first
    _begin(bench, subject, "precisions, batches, steps a call, determinism", config)
    # What stands in the names of measurements -> rivals: their options and XLA flags.
    cases: dict[str, dict[str, tuple[dict[str, Any], str | None]]] = {
        f"{{}}_batch_{batch}": {
            precision: ({"training.batch_size": batch, "model.precision": precision}, None)
            for precision in PRECISIONS
        }
        for batch in BATCHES
    }
    several = {"training.steps_per_call": STEPS_PER_CALL}
    cases[f"steps_per_call_{STEPS_PER_CALL}"] = {"float32": (several, None)}
    cases["deterministic_{}"] = {flag: ({}, DETERMINISTIC + flag) for flag in ("true", "false")}
    for name, variants in cases.items():
        with contextlib.ExitStack() as stack:
            rivals = {
                rival: stack.enter_context(our_steps(with_options(config, options), flags))
                for rival, (options, flags) in variants.items()
            }
            name = f"accelerator_{subject}_{name}"
            bench.compare(name.format("*"), name, rivals)


SUITES = {
    "data": data,
    "step": step,
    "startup": startup,
    "eval": evaluation,
    "replicas": replicas,
    "scaling": explain.scaling,
    "accelerator": accelerator,
}
GROUPS = {
    "default": ("data", "step", "startup", "eval"),
    "all": ("data", "step", "startup", "eval", "replicas", "scaling"),
}
