"""What is timed: experiments with their data or a stand-in, and our own training step."""

from __future__ import annotations

import time

import jax
import ml_collections
import numpy as np

from benchmarks.timing import Rival
from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sources.source import DataSource, DataUnavailableError
from emergent_icl.runs.check import check
from emergent_icl.training.build import Experiment, build
from emergent_icl.training.devices import CALLS_IN_FLIGHT
from emergent_icl.training.step import initial_state, make_step
from emergent_icl.training.update import Metrics

STAND_IN = "stand_in"


def load(config: ml_collections.ConfigDict) -> tuple[Experiment, str]:
    """Builds a config, on random images where its own are not to be had; says which."""
    try:
        experiment = build(config)
    except DataUnavailableError:
        shape = DATA_SOURCES[config.data.source].shape(config.data)
        experiment = build(with_stand_in(config, shape))
        return experiment, f"random images in place of {config.data.source}"
    return experiment, experiment.bank.name


def with_stand_in(
    config: ml_collections.ConfigDict, shape: SourceShape
) -> ml_collections.ConfigDict:
    """A config that shows random images of a shape: no speed depends on what they show."""
    register_stand_in()
    changed = config.copy_and_resolve_references().unlock()
    changed.data.source = STAND_IN
    changed.data.image_size = shape.example_shape[0]
    # The options of glyphs say what else there is to say.
    changed.data.glyphs.num_classes = shape.num_classes
    changed.data.glyphs.num_exemplars = shape.num_exemplars
    return changed.lock()


def register_stand_in() -> None:
    """Makes the source known, which is none for training."""
    if STAND_IN not in DATA_SOURCES:
        DATA_SOURCES.register(STAND_IN)(DataSource(_stand_in_shape, _load_stand_in))


def _stand_in_shape(data: ml_collections.ConfigDict) -> SourceShape:
    size = (data.image_size, data.image_size)
    return SourceShape(data.glyphs.num_classes, data.glyphs.num_exemplars, size, "image")


def _load_stand_in(data: ml_collections.ConfigDict) -> ExampleBank:
    shape = _stand_in_shape(data)
    size = (shape.num_classes, shape.num_exemplars, *shape.example_shape)
    pixels = np.frombuffer(np.random.default_rng(0).bytes(int(np.prod(size))), np.uint8)
    images = np.where(pixels < 128, np.uint8(0), np.uint8(255)).reshape(size)
    return ExampleBank(STAND_IN, images, tuple(f"class {i}" for i in range(len(images))))


def changed(config: ml_collections.ConfigDict, **options: object) -> ml_collections.ConfigDict:
    """A valid copy with other options, 'model__num_layers' for model.num_layers."""
    copy = config.copy_and_resolve_references().unlock()
    paths = {name.replace("__", "."): value for name, value in options.items()}
    copy.update_from_flattened_dict(paths)
    check(copy, jax.device_count())
    return copy.lock()


class OurTrainer:
    """Our training step, with and without what feeds it; to be closed.

    Attributes:
      waits: of each `run`: seconds a step spent waiting for a batch and laying it out, and
        which share of all its time that was.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Compiles nothing yet."""
        self._step = make_step(experiment)
        self._state = self._step.layout.place(initial_state(experiment))
        self._feed = self._step.feed(0)
        self._batch = next(self._feed)
        self.waits: list[tuple[float, float]] = []

    def close(self) -> None:
        """Ends the feed."""
        self._feed.close()

    def rival(self, kind: str) -> Rival:
        """Steps on one batch ('compute') or with their feed ('end_to_end')."""
        if kind == "compute":
            return Rival(self.compute, self._step.steps_per_call)
        return Rival(self.run, self._step.steps_per_call, at_least=2)

    def compute(self, calls: int) -> None:
        """Calls on one batch; waits for them."""
        for _ in range(calls):
            self._call(self._batch)
        jax.block_until_ready(self._state)

    def run(self, calls: int) -> None:
        """Calls as the training loop makes them: fed, metrics fetched at the end, for a line."""
        start, waited = time.perf_counter(), 0.0
        line: list[Metrics] = []
        for call in range(calls):
            asked = time.perf_counter()
            batch = next(self._feed)
            waited += time.perf_counter() - asked
            line.append(self._call(batch))
            if call >= CALLS_IN_FLIGHT:
                jax.block_until_ready(line[call - CALLS_IN_FLIGHT]["loss"])
        jax.device_get(line)
        jax.block_until_ready(self._state)
        share = waited / (time.perf_counter() - start)
        self.waits.append((waited / (calls * self._step.steps_per_call), share))

    def _call(self, batch: SequenceBatch) -> Metrics:
        self._state, metrics = self._step.call(self._state, batch)
        return metrics
