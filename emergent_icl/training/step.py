"""The training step of an experiment, compiled and placed on the devices, with its feed."""

import contextlib
from collections.abc import Generator, Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from emergent_icl.config.configs import named_overrides
from emergent_icl.config.registry import FEEDERS
from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.feed import FeedSpec, resolve_feeder
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.training import devices
from emergent_icl.training.agenda import intervals, resolve_steps_per_call
from emergent_icl.training.build import Experiment, build_network
from emergent_icl.training.optimizers import Hyper, hyper_from_config, optimizer_problems
from emergent_icl.training.update import (
    Metrics,
    StepTest,
    TrainState,
    Update,
    make_update,
    norm_when,
)


class Step(NamedTuple):
    """A training step, compiled and placed, with its feed."""

    layout: devices.Layout
    # (state, hyper, bank, batch) -> (state, metrics), K steps; donates the state.
    train_call: Update
    hyper: Hyper  # placed, as the bank is
    bank: DeviceBank
    feed_spec: FeedSpec
    feeder: str
    has_norm: StepTest | None  # see `norm_steps`

    @property
    def steps_per_call(self) -> int:
        """K."""
        return self.feed_spec.steps_per_call

    def feed(self, first_step: int) -> Generator[SequenceBatch]:
        """Batches [K, R, B, S] from a step on, placed for `call`. Close it after use."""
        with contextlib.closing(FEEDERS[self.feeder](self.feed_spec, first_step)) as batches:
            for batch in batches:
                yield self.layout.shard_batch(batch)

    def call(self, state: TrainState, batch: SequenceBatch) -> tuple[TrainState, Metrics]:
        """K steps from a placed state, which cannot be reused."""
        return self.train_call(state, self.hyper, self.bank, batch)


def make_step(experiment: Experiment, first_step: int = 0, carried_steps_per_call: int = 0) -> Step:
    """Places the data and builds the step from `first_step` on; the first call compiles it.

    `carried_steps_per_call`, K of the previous command, is kept if it still fits.
    """
    config, task, replicas = experiment.config, experiment.task, experiment.replicas
    layout = devices.Layout(len(replicas), is_spread(config, jax.device_count()))
    update = make_update(
        build_network(replicas[0].config, task, layout.mean_over_devices),
        experiment.optimizer,
        experiment.materialize,
        config.training.interim_weight,
        layout.mean_of_gradients,
        layout.rows,
        norm_when(norm_steps(config)),
    )
    spec = FeedSpec(
        samplers=[replica.task.training.sample for replica in replicas],
        seeds=[replica.config.training.seed for replica in replicas],
        batch_size=config.training.batch_size,
        seq_len=task.training.seq_len,
        steps_per_call=resolve_steps_per_call(config, first_step, carried_steps_per_call),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    # No mask is needed if all replicas use all labels.
    masked = any(one.task.used_labels < task.num_labels for one in replicas)
    used = [one.task.used_labels if masked else None for one in replicas]
    hypers = [hyper_from_config(one.config, own) for one, own in zip(replicas, used, strict=True)]
    over_replicas = layout.over_replicas(is_lean=config.training.arithmetic > 1)
    return Step(
        layout,
        devices.make_train_call(update, spec.steps_per_call, over_replicas),
        layout.place(devices.stack_replicas(hypers)),
        devices.place_bank(experiment.arrays()),
        spec,
        resolve_feeder(config.data.feeder, task.shape.kind, spec.process_count),
        norm_steps(config),
    )


def is_spread(config: ConfigDict, num_devices: int) -> bool:
    """Whether replicas lie on different devices, which then share no batch."""
    training, count = config.training, len(named_overrides(config))
    return training.spread_replicas or (
        training.arithmetic > 1 and devices.spreads_by_itself(count, num_devices)
    )


def norm_steps(config: ConfigDict) -> StepTest | None:
    """Steps at which the gradient norm is computed: the last of each line; None: all steps."""
    training = config.training
    if training.arithmetic == 1:
        return None
    return lambda step: (step % training.log_every == 0) | (step == training.num_steps)


def training_problems(config: ConfigDict, num_devices: int) -> Iterator[str]:
    """Contradictions between intervals, devices, and loss; problems of the optimizer.

    Each option of training, evaluation, checkpoints, and model must be valid by itself; the batch
    is spread over `num_devices` on all hosts.
    """
    training, steps = config.training, config.training.steps_per_call
    for name, value in intervals(config):
        if steps is not None and value % steps:
            below = value - value % steps
            near = f"{below} or {below + steps}" if below else f"{steps}"
            yield (
                f"{name} = {value} must be a multiple of training.steps_per_call = {steps} "
                f"(nearest: {near})"
            )
    initial = training.initial
    if not (initial.run or training.replica_overrides):
        for name in ("step", "replica", "modules"):
            if initial[name] not in (None, "", ()):
                yield f"training.initial.{name} = {initial[name]!r} needs training.initial.run"
    count, what = training.batch_size, f"training.batch_size = {training.batch_size}"
    if is_spread(config, num_devices):
        count = len(named_overrides(config))
        what = f"training.spread_replicas: {count} replicas"
    if count % num_devices:
        yield f"{what} must be a multiple of the {num_devices} devices"
    if training.interim_weight > 0 and config.model.tokens != "interleaved":
        yield (
            f"training.interim_weight = {training.interim_weight} needs model.tokens = "
            f"'interleaved': a concatenated token contains the label to predict"
        )
    yield from optimizer_problems(training)


def initial_state(experiment: Experiment) -> TrainState:
    """The state before the first step, [R, ...] on the host."""
    init = experiment.initializer()
    seeds = [np.uint32(replica.config.training.seed) for replica in experiment.replicas]
    return devices.stack_replicas([init(seed) for seed in seeds])
