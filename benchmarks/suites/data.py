"""Sequences a second: our sampler and feeders, and the original's generator."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np

from benchmarks.baseline.sequences import SequenceMaker, training_feed, why_not
from benchmarks.records import Measurements, Settings
from benchmarks.suites.compare import Subject
from benchmarks.timing import Rival
from benchmarks.workloads import load
from emergent_icl.config.registry import FEEDERS
from emergent_icl.data.feed import resolve_feeder
from emergent_icl.training.build import Experiment
from emergent_icl.training.step import make_step

SAMPLER_SEQUENCES = 1024
ROWS = {
    "sampler": "our sampler (indices), one thread",
    "feed_python": "our feeder 'python'",
    "feed_tfdata": "our feeder 'tfdata'",
    "baseline_generator": "baseline: Python generator of images",
    "baseline_feed": "baseline: the same through tf.data",
}


def subjects(settings: Settings, found: Measurements) -> Generator[Subject]:
    """What makes the training sequences of the config and of the small preset."""
    for subject, config in settings.configs.items():
        settings.progress(f"{subject}: sampler, feeders, generator")
        experiment, source = load(config)
        found.note(f"{subject}: {source}")
        with contextlib.ExitStack() as stack:
            rivals = _ours(experiment, stack)
            reason = why_not(config)
            if reason is None:
                rivals |= _theirs(experiment, stack)
            else:
                found.note(f"{subject}: no baseline generator, {reason}")
            yield Subject(subject, f"data_{subject}_{{}}", rivals)


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed."""
    return resolve_feeder("auto") == "tfdata"


def _ours(experiment: Experiment, stack: contextlib.ExitStack) -> dict[str, Rival]:
    rng = np.random.default_rng(0)
    sample = experiment.task.training.sample
    batches = (sample(rng, SAMPLER_SEQUENCES) for _ in itertools.count())
    rivals = {"sampler": Rival(_draw(batches), SAMPLER_SEQUENCES, at_least=4)}
    spec = make_step(experiment).feed_spec
    for name, make_feed in FEEDERS.items():
        if name == "python" or has_tensorflow():
            feed = stack.enter_context(contextlib.closing(make_feed(spec, 0)))
            sequences = spec.batch_size * spec.steps_per_call
            rivals[f"feed_{name}"] = Rival(_draw(feed), sequences, at_least=4)
    return rivals


def _theirs(experiment: Experiment, stack: contextlib.ExitStack) -> dict[str, Rival]:
    generator = iter(SequenceMaker(experiment).bursty, None)
    rivals = {"baseline_generator": Rival(_draw(generator), at_least=4)}
    if has_tensorflow():
        feed = stack.enter_context(contextlib.closing(training_feed(experiment)))
        batch_size = experiment.config.training.batch_size
        rivals["baseline_feed"] = Rival(_draw(feed), batch_size, at_least=4)
    return rivals


def _draw(feed: Iterator[Any]) -> Callable[[int], None]:
    """A function that takes some from a feed."""

    def run(count: int) -> None:
        for _ in itertools.islice(feed, count):
            pass

    return run
