"""Sequences a second: our sampler and feeders, and the original's generator."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Generator, Iterator
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
        reason = why_not(config)
        if reason is not None:
            found.note(f"{subject}: no baseline generator, {reason}")
        feeds = _feeds(experiment, with_baseline=reason is None)
        rivals = {
            name: Rival(functools.partial(_draw, feed), amount, at_least=4)
            for name, (feed, amount) in feeds.items()
        }
        with contextlib.ExitStack() as stack:
            for feed, _ in feeds.values():
                stack.callback(feed.close)
            yield Subject(subject, f"data_{subject}_{{}}", rivals)


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed."""
    return resolve_feeder("auto") == "tfdata"


def _feeds(experiment: Experiment, with_baseline: bool) -> dict[str, tuple[Generator, int]]:
    """What makes sequences, and how many at a time."""
    spec, rng = make_step(experiment).feed_spec, np.random.default_rng(0)
    sample = experiment.task.training.sample
    batches = (sample(rng, SAMPLER_SEQUENCES) for _ in itertools.count())
    feeds = {"sampler": (batches, SAMPLER_SEQUENCES)}
    for name, make_feed in FEEDERS.items():
        if name == "python" or has_tensorflow():
            feeds[f"feed_{name}"] = make_feed(spec, 0), spec.batch_size * spec.steps_per_call
    if with_baseline:
        maker = SequenceMaker(experiment)
        feeds["baseline_generator"] = (maker.bursty() for _ in itertools.count()), 1
        if has_tensorflow():
            feeds["baseline_feed"] = training_feed(experiment), spec.batch_size
    return feeds


def _draw(feed: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(feed, count):
        pass
