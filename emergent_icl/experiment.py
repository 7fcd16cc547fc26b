"""config -> everything that a run, an evaluation or a notebook needs."""

from __future__ import annotations

import os
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from emergent_icl.datasets.bank import DeviceBank, ExampleBank
from emergent_icl.datasets.materialise import Materialise, make_materialise
from emergent_icl.datasets.sources import load_bank
from emergent_icl.evaluation import Evaluator
from emergent_icl.modules.network import BatchStats, Network, Params, make_network
from emergent_icl.plan import Plan, make_plan
from emergent_icl.training.checkpoints import CheckpointStore
from emergent_icl.training.optimizers import Optimizer, make_optimizer
from emergent_icl.training.state import TrainState
from emergent_icl.training.update import init_state
from emergent_icl.validation import ConfigError, validate
from emergent_icl.workdir import Workdir, WorkdirError

# What may differ when a trained run is opened: how it is evaluated, and where its data are.
OVERRIDABLE = (
    "evaluation.",
    "data.data_dir",
    "data.cache_dir",
    "data.features.path",
    "data.noise_scale",
)


class Experiment(NamedTuple):
    """A config, built.

    Attributes:
      config: locked; the user's own, never changed.
      plan: classes, sequences and labels.
      bank: every example, on the host.
      network: for one device (`axis_name=None`).
      materialise: indices -> examples.
      optimizer: with its schedule.
    """

    config: ml_collections.ConfigDict
    plan: Plan
    bank: ExampleBank
    network: Network
    materialise: Materialise
    optimizer: Optimizer

    def init(self, seed: int) -> TrainState:
        """The state before the first step, of one replica."""
        shape = self.plan.shape
        lead = (1, self.plan.training.seq_len)
        channels = (1,) if shape.kind == "image" else ()
        dtype = np.int32 if shape.kind == "integer" else np.float32
        examples = np.zeros((*lead, *shape.example_shape, *channels), dtype)
        labels = np.zeros(lead, np.int32)
        init = jax.jit(lambda: init_state(self.network, self.optimizer, seed, examples, labels))
        return init()

    def arrays(self) -> DeviceBank:
        """What examples are looked up in, as host arrays."""
        if not self.config.data.random_rare_images:
            return DeviceBank(self.bank.examples)
        split = self.plan.space.split
        is_random = np.zeros(self.plan.space.num_bank_classes, bool)
        is_random[split.class_ids[: split.num_rare]] = True
        return DeviceBank(self.bank.examples, is_random)

    def state_template(self) -> TrainState:
        """Shapes of a checkpoint's state, [R, ...] a leaf; computes nothing."""
        shapes = jax.eval_shape(lambda: self.init(self.config.training.seed))
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), shapes)

    def evaluator(self) -> Evaluator:
        """Draws the sequences of every evaluation mode."""
        return Evaluator(self.config, self.plan, self.network, self.materialise)


def build_experiment(config: ml_collections.ConfigDict) -> Experiment:
    """Loads the data and builds the model of a valid config.

    Raises:
      DataUnavailableError: its data are not to be had.
    """
    plan = make_plan(config)
    return Experiment(
        config,
        plan,
        load_bank(config.data),
        make_network(config.model, plan.num_labels, plan.num_positions),
        make_materialise(config.data, plan.shape),
        make_optimizer(config.training),
    )


class Run(NamedTuple):
    """A trained run, opened.

    Attributes:
      experiment: what it is made of: config, bank, network ...
      step: of the checkpoint.
      params: the network's parameters, host arrays.
      batch_stats: BatchNorm's running averages, host arrays.
    """

    experiment: Experiment
    step: int
    params: Params
    batch_stats: BatchStats

    def device_bank(self) -> DeviceBank:
        """The bank on the default device."""
        return jax.device_put(self.experiment.arrays())


def load_run(
    workdir: str | os.PathLike[str],
    step: int | None = None,
    overrides: dict[str, object] | None = None,
) -> Run:
    """Opens a run; needs nothing but its work directory (and its data).

    Args:
      workdir: the folder that `experiments.train` wrote.
      step: of the checkpoint; None is the newest.
      overrides: {'evaluation.num_sequences': 10_000, ...}, options to change, among
        OVERRIDABLE: others would make it another run.

    Raises:
      WorkdirError: no run there, or no such checkpoint.
      ConfigError: an override is not allowed, or the run needs an extension that was not
        imported (docs/extending.md).
      DataUnavailableError: its data are not to be had.
    """
    folder = Workdir(workdir)
    config = folder.read_config()
    validate(config)
    # As it was trained, whatever the overrides ask of it.
    trained = make_plan(config)
    config = config.copy_and_resolve_references().unlock()
    config.model.num_labels = trained.num_labels
    config.model.num_positions = trained.num_positions
    config = _overridden(config.lock(), overrides or {})
    if not folder.checkpoints.is_dir():
        raise WorkdirError(f"{folder.path} has no checkpoints yet")
    with CheckpointStore(folder.checkpoints) as store:
        steps = store.steps()
        if not steps:
            raise WorkdirError(f"{folder.path} has no checkpoints yet")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise WorkdirError(f"{folder.path} has no checkpoint of step {step}, only of {steps}")
        experiment = build_experiment(config)
        state, _ = store.restore(step, experiment.state_template())
    first = jax.tree.map(lambda leaf: leaf[0], state)
    return Run(experiment, step, first.params, first.batch_stats)


def _overridden(
    config: ml_collections.ConfigDict, overrides: dict[str, object]
) -> ml_collections.ConfigDict:
    """A valid, locked copy with some options changed."""
    fixed = [path for path in overrides if not path.startswith(OVERRIDABLE)]
    if fixed:
        may = ", ".join(prefix + "*" * prefix.endswith(".") for prefix in OVERRIDABLE)
        raise ConfigError(
            [f"{path} is part of what was trained (may differ: {may})" for path in fixed]
        )
    changed = config.copy_and_resolve_references().unlock()
    try:
        with changed.ignore_type():
            changed.update_from_flattened_dict(overrides)
    except (KeyError, TypeError) as error:
        raise ConfigError([str(error)]) from error
    validate(changed)
    return changed.lock()
