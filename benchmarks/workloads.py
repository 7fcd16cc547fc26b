"""What is timed: experiments with their data or a stand-in, and training steps with their feed."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import ml_collections
import numpy as np

from benchmarks.measure import Rival
from emergent_icl.data.bank import NUM_VARIANTS, WHITE, ExampleBank
from emergent_icl.data.materialize import make_materialize
from emergent_icl.data.sources.source import DataUnavailableError
from emergent_icl.runs.check import check
from emergent_icl.training.build import Experiment, build, build_network
from emergent_icl.training.devices import CALLS_IN_FLIGHT
from emergent_icl.training.optimizers import make_optimizer
from emergent_icl.training.step import initial_state, make_step
from emergent_icl.training.update import Metrics


def load(config: ml_collections.ConfigDict, random_images: bool = False) -> Experiment:
    """Checks a config and builds it, on random images where its own are not to be had.

    With `random_images` those are not even asked for: no speed depends on what images show.
    """
    replicas = check(config, jax.device_count())
    if not random_images:
        with contextlib.suppress(DataUnavailableError):
            return build(config, replicas)
    data, task = config.data, replicas[0].task
    num_classes = task.shape.num_classes // (NUM_VARIANTS if data.augment else 1)
    size = (num_classes, task.shape.num_exemplars, *task.shape.example_shape)
    images = np.random.default_rng(0).integers(0, 2, size, np.uint8)
    images *= WHITE
    return Experiment(
        config,
        replicas,
        ExampleBank(f"random images in place of {data.source}", images, ()),
        build_network(config, task),
        make_materialize(data, task.shape),
        make_optimizer(config.training),
    )


@dataclasses.dataclass
class Trainer:
    """A training step, alone and with what feeds it; to be closed.

    Attributes:
      call: (state, batch) -> (state, metrics), some steps.
      batch: one that lies ready.
      calls_in_flight: that may be under way when the loop goes on.
      wait: for a call, given its metrics.
      waits: of each `run`: seconds a step spent waiting for a batch and laying it out, and
        which share of all its time that was.
    """

    call: Callable[[Any, Any], tuple[Any, Metrics]]
    state: Any
    batch: Any
    feed: Generator[Any]
    steps_per_call: int
    calls_in_flight: int
    wait: Callable[[Metrics], object]
    waits: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def close(self) -> None:
        """Ends the feed: its threads call back into Python."""
        self.feed.close()

    def rival(self, kind: str) -> Rival:
        """Steps on one batch ('compute') or with their feed ('end_to_end')."""
        if kind == "compute":
            return Rival(self.compute, self.steps_per_call)
        return Rival(self.run, self.steps_per_call, at_least=2)

    def compute(self, calls: int) -> None:
        """Calls on one batch; waits for them."""
        for _ in range(calls):
            self._step(self.batch)
        jax.block_until_ready(self.state)

    def run(self, calls: int) -> None:
        """Calls as a training loop makes them: fed, metrics fetched at the end, for a line."""
        start, waited = time.perf_counter(), 0.0
        line: list[Metrics] = []
        for call in range(calls):
            asked = time.perf_counter()
            batch = next(self.feed)
            waited += time.perf_counter() - asked
            line.append(self._step(batch))
            if call >= self.calls_in_flight:
                self.wait(line[call - self.calls_in_flight])
        jax.device_get(line)
        jax.block_until_ready(self.state)
        share = waited / (time.perf_counter() - start)
        self.waits.append((waited / (calls * self.steps_per_call), share))

    def _step(self, batch: Any) -> Metrics:
        self.state, metrics = self.call(self.state, batch)
        return metrics


def our_trainer(experiment: Experiment) -> Trainer:
    """Our step, as the training loop calls it; compiles when it is first called."""
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


# This process has taken most of an accelerator's memory already, when it starts another.
SHARED_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
# What the other process trains.
_rivals: list[Rival] = []


@contextlib.contextmanager
def our_steps(
    config: ml_collections.ConfigDict, xla_flags: str | None = None, random_images: bool = False
) -> Iterator[Rival]:
    """Our steps on one batch; see `load`. XLA flags are given to a process of their own.

    Raises:
      BrokenProcessPool: that was killed.
    """
    if xla_flags is None:
        with contextlib.closing(our_trainer(load(config, random_images))) as trainer:
            yield trainer.rival("compute")
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        steps_per_call = pool.submit(_prepare, config, xla_flags, random_images).result()
        yield Rival(lambda calls: pool.submit(_train, calls).result(), steps_per_call)


def _prepare(config: ml_collections.ConfigDict, xla_flags: str, random_images: bool) -> int:
    """Makes the rival, before anything else asks for devices; returns its steps a call."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags}".strip()
    os.environ.update(SHARED_MEMORY, XLA_FLAGS=flags)
    _rivals.append(our_trainer(load(config, random_images)).rival("compute"))
    return int(_rivals[0].amount)


def _train(calls: int) -> None:
    _rivals[0].run(calls)
