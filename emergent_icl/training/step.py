"""The training step of an experiment, compiled and placed on the devices, with its feed."""

import contextlib
import math
from collections.abc import Generator, Iterator
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from emergent_icl.config.configs import named_overrides
from emergent_icl.config.registry import ENCODERS, FEEDERS
from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.feed import FeedSpec, resolve_feeder
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.training import devices
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

# Maximum number of updates per device call.
MOST_STEPS_ON_CPU, MOST_STEPS = 10, 25


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
        host_index=jax.process_index(),
        host_count=jax.process_count(),
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
        resolve_feeder(config.data.feeder, task.shape.kind, spec.host_count),
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


def intervals(config: ConfigDict) -> list[tuple[str, int]]:
    """(option, steps) after which a call must end; K divides them."""
    sections = {"evaluation": config.evaluation, "checkpoints": config.checkpoints}
    return [
        ("training.num_steps", config.training.num_steps),
        ("training.log_every", config.training.log_every),
        *((f"{name}.every", section.every) for name, section in sections.items()),
        *((f"{name}.at", step) for name, section in sections.items() for step in _listed(section)),
    ]


class Agenda(NamedTuple):
    """The steps after which a run is evaluated or saved; the last step always is."""

    every: int
    listed: tuple[int, ...]  # in order

    def has(self, step: int) -> bool:
        """Whether a step is due; step 0 only if listed."""
        return step in self.listed or (step > 0 and step % self.every == 0)


def agendas(config: ConfigDict, steps_per_call: int) -> tuple[Agenda, Agenda]:
    """When a run of a valid config is evaluated, and when it is saved: two agendas.

    Log-spaced steps are rounded to multiples of `steps_per_call`; none exceeds the last step.
    """
    limits = steps_per_call, config.training.num_steps
    return _agenda(config.evaluation, *limits), _agenda(config.checkpoints, *limits)


def _agenda(section: ConfigDict, steps_per_call: int, num_steps: int) -> Agenda:
    listed = set(_listed(section))
    for spacing in set(section.at) - listed:
        per_decade = int(spacing.removeprefix("log:"))
        count = math.floor(per_decade * math.log10(num_steps)) + 1
        exact = (10 ** (index / per_decade) for index in range(count))
        listed |= {max(round(step / steps_per_call), 1) * steps_per_call for step in exact}
    return Agenda(section.every, tuple(sorted(step for step in listed if step <= num_steps)))


def _listed(section: ConfigDict) -> list[int]:
    return [step for step in section.at if isinstance(step, int)]


def resolve_steps_per_call(
    config: ConfigDict, first_step: int = 0, carried: int = 0, backend: str | None = None
) -> int:
    """K: `training.steps_per_call`, or the largest suitable divisor of every interval.

    It also divides the first step, so that calls end where a line or checkpoint is due. `carried`,
    K of the previous command, is kept if it still divides all, so that an extended run computes the
    same bits. `backend` is 'cpu', 'gpu', or 'tpu'; None: JAX's default.
    """
    training = config.training
    if training.steps_per_call is not None:
        return training.steps_per_call
    most = MOST_STEPS
    if (backend or jax.default_backend()) == "cpu":
        most = 1 if ENCODERS.about(config.model.encoder).has_convolutions else MOST_STEPS_ON_CPU
    common = math.gcd(first_step, *(step for _, step in intervals(config)))
    if carried and common % carried == 0:
        return carried
    return max(steps for steps in range(1, most + 1) if common % steps == 0)


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
