"""Sequences a second: our sampler and feeders, and the original's generator."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import ml_collections
import numpy as np

from benchmarks import timing
from benchmarks.baseline import sequences as baseline
from benchmarks.findings import SUITES, Findings, Settings, Table
from benchmarks.workloads import changed, load
from emergent_icl.data.feed import FEEDERS, resolve_feeder
from emergent_icl.training.build import Experiment
from emergent_icl.training.step import make_step

SAMPLER_SEQUENCES = 1024


@SUITES.register("data")
def data(settings: Settings) -> Findings:
    """Times what makes sequences, for the config and the small preset."""
    findings = Findings()
    columns = {}
    for subject, config in subjects(settings):
        settings.progress(f"{subject}: sampler, feeders, generator")
        experiment, source = load(config)
        findings.notes.append(f"{subject}: {source}")
        rates, reason = _rates(experiment, settings)
        if reason is not None:
            findings.notes.append(f"{subject}: no baseline generator, {reason}")
        measured = {
            name: timing.summarise(f"data_{subject}_{name}", samples, "sequences/s")
            for name, samples in rates.items()
        }
        findings.measurements += measured.values()
        columns[subject] = [_cell(measured.get(name)) for name in ROWS]
    findings.tables.append(Table("Sequences a second", list(ROWS.values()), columns))
    return findings


ROWS = {
    "sampler": "our sampler (indices), one thread",
    "feed_python": "our feeder 'python'",
    "feed_tfdata": "our feeder 'tfdata'",
    "baseline_generator": "baseline: Python generator of images",
    "baseline_feed": "baseline: the same through tf.data",
}


def subjects(settings: Settings) -> Iterator[tuple[str, ml_collections.ConfigDict]]:
    """The config, and the small preset where it is asked for."""
    yield settings.subject, settings.config
    if settings.small is not None:
        yield "small", settings.small


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed."""
    return resolve_feeder("auto") == "tfdata"


def _rates(experiment: Experiment, settings: Settings) -> tuple[dict[str, list[float]], str | None]:
    """Sequences a second by what makes them, and why the baseline is missing."""
    config, batch_size = experiment.config, experiment.config.training.batch_size
    rng = np.random.default_rng(0)
    with contextlib.ExitStack() as stack:
        kinds: dict[str, tuple[Callable[[int], object], int]] = {
            "sampler": (_sampler(experiment, rng), SAMPLER_SEQUENCES)
        }
        for name in FEEDERS:
            if name == "tfdata" and not has_tensorflow():
                continue
            step = make_step(_with_feeder(experiment, name))
            feed = stack.enter_context(contextlib.closing(step.feed(0)))
            kinds[f"feed_{name}"] = (_draw(feed), batch_size * step.steps_per_call)
        reason = baseline.why_not(config)
        if reason is None:
            maker = baseline.SequenceMaker(experiment, seed=0)
            kinds["baseline_generator"] = (_draw(iter(maker.bursty, None)), 1)
            if has_tensorflow():
                theirs = stack.enter_context(contextlib.closing(baseline.training_feed(experiment)))
                kinds["baseline_feed"] = (_draw(theirs), batch_size)
        blocks = {
            name: timing.fit_block(run, settings.seconds / 4, at_least=4)
            for name, (run, _) in kinds.items()
        }
        seconds = timing.alternate(blocks, settings.rounds)
    return {
        name: [kinds[name][1] / sample for sample in samples] for name, samples in seconds.items()
    }, reason


def _with_feeder(experiment: Experiment, name: str) -> Experiment:
    return experiment._replace(config=changed(experiment.config, data__feeder=name))


def _sampler(experiment: Experiment, rng: np.random.Generator) -> Callable[[int], object]:
    def run(count: int) -> None:
        for _ in range(count):
            experiment.task.training.sample(rng, SAMPLER_SEQUENCES)

    return run


def _draw(feed: Iterator[Any]) -> Callable[[int], object]:
    def run(count: int) -> None:
        for _ in itertools.islice(feed, count):
            pass

    return run


def _cell(measured: timing.Measurement | None) -> str:
    if measured is None:
        return "-"
    return f"{measured.median:,.0f} ({measured.min:,.0f} to {measured.max:,.0f})"
