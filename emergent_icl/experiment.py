"""config -> everything that a run, an evaluation or a notebook needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from emergent_icl.datasets.bank import DeviceBank, ExampleBank
from emergent_icl.datasets.materialise import Materialise, make_materialise
from emergent_icl.datasets.sources import load_bank
from emergent_icl.evaluation import Evaluator, compile_evaluation
from emergent_icl.modules.network import BatchStats, Network, Params, make_network
from emergent_icl.plan import Plan
from emergent_icl.replicas import (
    Replica,
    make_replicas,
    named_overrides,
    shared_config,
    with_options,
)
from emergent_icl.training.checkpoints import CheckpointStore
from emergent_icl.training.optimizers import Optimizer, make_optimizer
from emergent_icl.training.state import TrainState
from emergent_icl.training.update import init_state
from emergent_icl.validation import ConfigError, validate
from emergent_icl.workdir import DivergedError, Workdir, WorkdirError

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
      replicas: the runs that are trained together, each with its config and plan; a single
        one without a name, where nothing is replicated.
      bank: every example, on the host.
      network: for one device (`axis_name=None`).
      materialise: indices -> examples.
      optimizer: with its schedule.
    """

    config: ml_collections.ConfigDict
    replicas: tuple[Replica, ...]
    bank: ExampleBank
    network: Network
    materialise: Materialise
    optimizer: Optimizer

    @property
    def plan(self) -> Plan:
        """Classes, sequences and labels: of the first replica, shapes are common to all."""
        return self.replicas[0].plan

    def init(self, seed: int) -> TrainState:
        """The state before the first step, of one replica."""
        return self.initialiser()(np.uint32(seed))

    def initialiser(self) -> Callable[[np.uint32], TrainState]:
        """`init`, compiled once for many seeds."""
        shape = self.plan.shape
        lead = (1, self.plan.training.seq_len)
        channels = (1,) if shape.kind == "image" else ()
        dtype = np.int32 if shape.kind == "integer" else np.float32
        examples = np.zeros((*lead, *shape.example_shape, *channels), dtype)
        labels = np.zeros(lead, np.int32)
        return jax.jit(
            lambda seed: init_state(self.network, self.optimizer, seed, examples, labels)
        )

    def arrays(self) -> DeviceBank:
        """What examples are looked up in, as host arrays."""
        if not self.config.data.random_rare_images:
            return DeviceBank(self.bank.examples)
        split = self.plan.space.split
        is_random = np.zeros(self.plan.space.num_bank_classes, bool)
        is_random[split.class_ids[: split.num_rare]] = True
        return DeviceBank(self.bank.examples, is_random)

    def state_template(self, num_replicas: int | None = None) -> TrainState:
        """Shapes of a checkpoint's state, [R, ...] a leaf; computes nothing."""
        count = len(self.replicas) if num_replicas is None else num_replicas
        shapes = jax.eval_shape(lambda: self.init(self.config.training.seed))
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), shapes
        )

    def evaluator(self) -> Evaluator:
        """Draws the sequences of every evaluation mode, of the first replica."""
        return self.evaluators()[0]

    def evaluators(self) -> list[Evaluator]:
        """The same of each replica; they compile together."""
        compiled = compile_evaluation(self.network, self.materialise)
        return [Evaluator(replica.config, replica.plan, compiled) for replica in self.replicas]


def build_experiment(config: ml_collections.ConfigDict) -> Experiment:
    """Loads the data and builds the model of a valid config.

    Raises:
      DataUnavailableError: its data are not to be had.
    """
    replicas = make_replicas(config)
    data, plan = shared_config(config, replicas).data, replicas[0].plan
    return Experiment(
        config,
        replicas,
        load_bank(data),
        make_network(config.model, plan.num_labels, plan.num_positions),
        make_materialise(data, plan.shape),
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
    replica: str | None = None,
) -> Run:
    """Opens a run; needs nothing but its work directory (and its data).

    Args:
      workdir: the folder that `experiments.train` wrote.
      step: of the checkpoint; None is the newest.
      overrides: {'evaluation.num_sequences': 10_000, ...}, options to change, among
        OVERRIDABLE: others would make it another run.
      replica: name of the one to open, where several were trained together; it then is the
        run that it would be alone.

    Raises:
      WorkdirError: no run there, no such checkpoint or replica; DivergedError, one of these,
        if the replica diverged.
      ConfigError: an override is not allowed, or the run needs an extension that was not
        imported (docs/extending.md).
      DataUnavailableError: its data are not to be had.
    """
    folder = Workdir(workdir)
    written = folder.read_config()
    validate(written)
    together = make_replicas(written)
    index = _index(folder, [one.name for one in together], replica)
    # As it was trained, whatever the overrides ask of it.
    trained = together[index]
    capacity = {
        "model.num_labels": trained.plan.num_labels,
        "model.num_positions": trained.plan.num_positions,
    }
    config = _overridden(with_options(trained.config, capacity), overrides or {})
    if not folder.checkpoints.is_dir():
        raise WorkdirError(f"{folder.path} has no checkpoints yet")
    with CheckpointStore(folder.checkpoints, config=written) as store:
        steps = store.steps()
        if not steps:
            raise WorkdirError(f"{folder.path} has no checkpoints yet")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise WorkdirError(f"{folder.path} has no checkpoint of step {step}, only of {steps}")
        experiment = build_experiment(config)
        state, progress = store.restore(step, experiment.state_template(len(together)))
    if trained.name in progress.diverged:
        raise DivergedError(
            f"replica '{trained.name}' of {folder.path} diverged at step "
            f"{progress.diverged[trained.name]}; its checkpoint of step {step} holds nothing of use"
        )
    own = jax.tree.map(lambda leaf: leaf[index], state)
    return Run(experiment, step, own.params, own.batch_stats)


def replica_names(workdir: str | os.PathLike[str]) -> list[str]:
    """Names of the replicas that were trained there; [''] for a run that was alone.

    Raises:
      WorkdirError, ConfigError: see `load_run`.
    """
    config = Workdir(workdir).read_config()
    validate(config)
    return [name for name, _ in named_overrides(config)]


def _index(folder: Workdir, names: list[str], replica: str | None) -> int:
    """Which of the replicas of a folder is asked for."""
    if replica is None and len(names) == 1:
        return 0
    if replica in names and replica:
        return names.index(replica)
    if names == [""]:
        raise WorkdirError(f"{folder.path} holds a single run, without replicas")
    hint = "" if replica is None else f", none of the name '{replica}'"
    raise WorkdirError(f"{folder.path} holds the replicas {', '.join(names)}{hint}: name one")


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
    try:
        changed = with_options(config, overrides)
    except (KeyError, TypeError) as error:
        raise ConfigError([str(error.args[0])]) from error
    validate(changed)
    return changed
