"""The suites: each builds rivals and times them in turn."""

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

from benchmarks import baseline
from benchmarks.measure import Benchmark, Rival, Trainer, repeated
from benchmarks.worker import SHARED_MEMORY, Worker
from emergent_icl.cli import console
from emergent_icl.config.configs import with_options
from emergent_icl.config.registry import FEEDERS
from emergent_icl.data.bank import NUM_VARIANTS, WHITE, ExampleBank, SourceShape
from emergent_icl.data.feed import resolve_feeder
from emergent_icl.data.sources.source import DataUnavailableError, load_bank
from emergent_icl.presets import omniglot
from emergent_icl.runs.check import check
from emergent_icl.runs.memory import peak_bytes
from emergent_icl.training.build import Experiment, build
from emergent_icl.training.devices import CALLS_IN_FLIGHT
from emergent_icl.training.replicas import shared_config
from emergent_icl.training.step import initial_state, make_step


def load(config: ml_collections.ConfigDict, random_images: bool = False) -> Experiment:
    """Checks and builds a config, with random images if asked for or if its data are unavailable.

    Speed does not depend on what the images show. The latest images stay in memory.
    """
    replicas = check(config, jax.device_count())
    data = shared_config(config, replicas).data
    key = f"{data.to_json_best_effort()} {random_images}"
    if key not in _banks:
        _banks.clear()
        _banks[key] = _load_bank(data, replicas[0].task.shape, random_images)
    return build(config, replicas, _banks[key])


_banks: dict[str, ExampleBank] = {}


def _load_bank(
    data: ml_collections.ConfigDict, shape: SourceShape, random_images: bool
) -> ExampleBank:
    if not random_images:
        with contextlib.suppress(DataUnavailableError):
            return load_bank(data)
    num_classes = shape.num_classes // (NUM_VARIANTS if data.augment else 1)
    size = (num_classes, shape.num_exemplars, *shape.example_shape)
    images = np.random.default_rng(0).integers(0, 2, size, np.uint8)
    images *= WHITE
    return ExampleBank(f"random images in place of {data.source}", images, ())


def our_trainer(experiment: Experiment) -> Trainer:
    """The step of this library, as the training loop calls it."""
    step = make_step(experiment)
    feed = step.feed(0)
    return Trainer(
        step.call,
        step.layout.place(initial_state(experiment)),
        next(feed),
        feed,
        step.steps_per_call,
        CALLS_IN_FLIGHT,
        wait=lambda metrics: jax.block_until_ready(metrics["loss"]),
    )


# The rival of a process that `our_steps` starts.
_rivals: list[Rival] = []


def our_steps(
    stack: contextlib.ExitStack,
    config: ml_collections.ConfigDict,
    xla_flags: str | None = None,
    random_images: bool = False,
) -> Rival:
    """Steps of this library on one batch, in a separate process if there are XLA flags.

    Closing `stack` ends them. If the process fails, this and the rival raise WorkerError.
    """
    if xla_flags is None:
        trainer = our_trainer(load(config, random_images))
        stack.callback(trainer.close)
        return trainer.rival("compute")
    worker = stack.enter_context(Worker(xla_flags))
    steps_per_call = worker.compute(_prepare, config, random_images)
    return Rival(lambda calls: worker.compute(_train, calls), steps_per_call)


def _prepare(config: ml_collections.ConfigDict, random_images: bool) -> float:
    """Builds the rival; returns steps per call."""
    _rivals.append(our_trainer(load(config, random_images)).rival("compute"))
    return _rivals[0].amount


def _train(calls: int) -> None:
    _rivals[0].run(calls)


KINDS = {"compute": "computation alone", "end_to_end": "end to end"}
SPEEDUP = ("speedup", "baseline", "ours")


def _begin(
    bench: Benchmark, subject: str, what: str, config: ml_collections.ConfigDict
) -> tuple[Experiment, bool]:
    """Builds a config; returns it and whether there is a baseline for it."""
    console.say(f"  {subject}: {what} ...")
    experiment, reason = load(config), baseline.why_not(config)
    bench.note(f"{subject}: {experiment.bank.name}")
    if reason is not None:
        bench.note(f"{subject}: no baseline; {reason}")
    return experiment, reason is None


def _has_tensorflow() -> bool:
    return resolve_feeder("auto") == "tfdata"


SAMPLER_SEQUENCES = 1024


def data(bench: Benchmark) -> None:
    """Training sequences per second of the sampler, the feeders, and the baseline's generator."""
    for subject, config in bench.configs.items():
        experiment, has_baseline = _begin(bench, subject, "sampler, feeders, generator", config)
        rivals = {}
        for name, (feed, amount) in _feeds(experiment, has_baseline).items():
            bench.stack.callback(feed.close)
            rivals[name] = repeated(functools.partial(next, feed), amount, at_least=4)
        title = f"Training sequences, {subject}"
        bench.compare(title, f"data_{subject}_{{}}", rivals, "sequences/s", share=0.25)


def _feeds(experiment: Experiment, has_baseline: bool) -> dict[str, tuple[Generator, int]]:
    """Generators, and how many sequences each yields at a time."""
    spec, rng = make_step(experiment).feed_spec, np.random.default_rng(0)
    sample = experiment.task.training.sample
    batches = (sample(rng, SAMPLER_SEQUENCES) for _ in itertools.count())
    feeds: dict[str, tuple[Generator, int]] = {"sampler": (batches, SAMPLER_SEQUENCES)}
    for name, make_feed in FEEDERS.items():
        if name == "python" or _has_tensorflow():
            feeds[f"feed_{name}"] = make_feed(spec, 0), spec.batch_size * spec.steps_per_call
    if has_baseline:
        feeds["baseline_generator"] = baseline.sequences(experiment), 1
        if _has_tensorflow():
            feeds["baseline_feed"] = baseline.training_feed(experiment), spec.batch_size
    return feeds


def step(bench: Benchmark) -> tuple[Experiment, Sequence[float]]:
    """Training steps, alone and with their feed.

    Returns the first config's experiment, and the seconds per step that it waited for its feed.
    """
    measured = []
    for subject, config in bench.configs.items():
        experiment, has_baseline = _begin(bench, subject, "steps", config)
        trainers = {"ours": our_trainer(experiment)}
        if has_baseline:
            trainers["baseline"] = baseline.baseline_trainer(experiment)
        title = f"A step of {config.training.batch_size} sequences, {subject}"
        _compare_kinds(bench, trainers, title, f"step_{subject}_{{kind}}_{{rival}}", SPEEDUP)
        # Earlier calls determined the number of repetitions.
        seconds, shares = zip(*trainers["ours"].waits[-bench.rounds :], strict=True)
        if subject == "small":
            bench.record("feed_share_small", shares, "1")
        measured.append((experiment, seconds))
    return measured[0]


def replicas(bench: Benchmark) -> None:
    """Steps of 1 and of 8 replicas of the small preset."""
    trainers = {}
    for count in (1, 8):
        config = with_options(omniglot.get_config("small"), {"training.replicas": count})
        experiment, _ = _begin(bench, "small", f"steps of {count} replicas", config)
        trainers[str(count)] = our_trainer(experiment)
    title, ratio = "Replicas in one program", ("8_over_1", "8", "1")
    _compare_kinds(bench, trainers, title, "replicas_small_{rival}_{kind}", ratio)


def _compare_kinds(
    bench: Benchmark,
    trainers: dict[str, Trainer],
    title: str,
    name: str,
    ratio: tuple[str, str, str],
) -> None:
    for trainer in trainers.values():
        bench.stack.callback(trainer.close)
    for kind, words in KINDS.items():
        if kind == "end_to_end" and not _has_tensorflow():
            trainers = {rival: one for rival, one in trainers.items() if rival != "baseline"}
        rivals = {rival: trainer.rival(kind) for rival, trainer in trainers.items()}
        names = name.format(kind=kind, rival="{}")
        bench.compare(f"{title}, {words}", names, rivals, ratio=ratio)


# Printed by experiments.train when the first step was dispatched.
FIRST_STEP = "compiled"
LAUNCH = ("--config=experiments/configs/omniglot.py:paper", "--config.training.num_steps=2")
# If Omniglot is missing: characters of the same size, fewer drawings of each.
STAND_IN = {
    "data.source": "glyphs",
    "data.glyphs.num_classes": 1623,
    "data.glyphs.num_exemplars": 1,
}


def startup(bench: Benchmark) -> None:
    """Launches of the paper preset, with an empty ('cold') or filled ('warm') compilation cache."""
    if "small" not in bench.configs:
        bench.note("startup is that of the paper preset, regardless of --config")
    flags, config = list(LAUNCH), omniglot.get_config("paper")
    # The examples must be in the user's cache before anything is timed.
    try:
        load_bank(config.data)
    except DataUnavailableError:
        bench.note("startup: glyphs in place of omniglot")
        load_bank(with_options(config, STAND_IN).data)
        flags += [f"--config.{path}={value}" for path, value in STAND_IN.items()]
    console.say("  launches with an empty cache, and with a filled one ...")
    folder = Path(bench.stack.enter_context(tempfile.TemporaryDirectory()))
    cache, runs = folder / "compiled", itertools.count()

    def warm() -> None:
        train_to_first_step([*flags, f"--workdir={folder}/run_{next(runs)}"], cache)

    def cold() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        warm()

    # A warm launch finds what the preceding cold one has compiled.
    rivals = {"cold": repeated(cold), "warm": repeated(warm)}
    title = "From launch to the first step, paper preset, by compilation cache"
    bench.compare(title, "startup_paper_{}", rivals, "s", share=0)


def train_to_first_step(flags: Sequence[str], cache: Path) -> float:
    """Starts a training launcher, and ends it when it reports its first step.

    Returns the peak of its resident memory in MB, 0 if it is unknown.
    """
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
            return peak_bytes(process.pid) / 1e6
        finally:
            process.kill()


# Mode -> its name in measurements.
MODES = {"fewshot_holdout": "eval_fewshot_holdout", "no_support_zipfian": "eval_no_support"}


def evaluation(bench: Benchmark) -> None:
    """The paper's two modes, with initial parameters: batched, or one sequence at a time."""
    subject, config = bench.first
    for mode, name in MODES.items():
        config = with_options(config, {"evaluation.modes": (mode,)})
        experiment, has_baseline = _begin(bench, subject, mode, config)
        evaluator, bank = experiment.evaluator(), jax.device_put(experiment.arrays())
        state = experiment.init(0)
        evaluate = functools.partial(evaluator, state.params, state.batch_stats, bank)
        rivals = {"ours": repeated(evaluate, config.evaluation.num_sequences)}
        if has_baseline:
            rivals["baseline"] = baseline.baseline_evaluation(experiment, mode)
        title = f"Evaluation, {mode} (ours: {config.evaluation.num_sequences:,} per call)"
        bench.compare(title, f"{name}_{subject}_{{}}", rivals, "ms/sequence", SPEEDUP)


DETERMINISTIC = "--xla_gpu_deterministic_ops="
# Measurements -> rivals: options, and XLA flags of their processes.
ACCELERATOR_CASES: dict[str, dict[str, tuple[dict[str, Any], str | None]]] = {
    **{
        f"{{}}_batch_{batch}": {
            precision: ({"training.batch_size": batch, "model.precision": precision}, None)
            for precision in ("float32", "bfloat16")
        }
        for batch in (32, 128, 512)
    },
    "steps_per_call_10": {"float32": ({"training.steps_per_call": 10}, None)},
    "deterministic_{}": {value: ({}, DETERMINISTIC + value) for value in ("true", "false")},
}


def accelerator(bench: Benchmark) -> None:
    """Precisions, batches, steps per call, and determinism; steps without their feed."""
    subject, config = bench.first
    _begin(bench, subject, "precisions, batches, steps per call, determinism", config)
    for case, variants in ACCELERATOR_CASES.items():
        name = f"accelerator_{subject}_{case}"
        with bench.stack:
            rivals = {
                rival: our_steps(bench.stack, with_options(config, options), flags)
                for rival, (options, flags) in variants.items()
            }
            bench.compare(name.format("*"), name, rivals)
