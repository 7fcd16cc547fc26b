"""Builds everything that a run, an evaluation, or a notebook needs from a config."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from emergent_icl.data.bank import DeviceBank, ExampleBank, Scalar
from emergent_icl.data.materialize import Materialize, make_materialize
from emergent_icl.data.sources.source import load_bank
from emergent_icl.data.task import Task
from emergent_icl.evaluation.evaluate import Evaluator, compile_evaluation
from emergent_icl.models.network import BatchStats, Network, Params, make_network
from emergent_icl.models.normalization import MeanOverDevices, one_device
from emergent_icl.models.tokens import position_capacity
from emergent_icl.training.optimizers import Optimizer, make_optimizer
from emergent_icl.training.replicas import Replica, make_replicas, shared_config
from emergent_icl.training.settings import device_count
from emergent_icl.training.update import TrainState, init_state


class Experiment(NamedTuple):
    """A config with its data, model, and optimizer."""

    config: ConfigDict  # locked, as the user gave it
    replicas: tuple[Replica, ...]  # trained together; a single run is one replica without a name
    bank: ExampleBank
    network: Network  # for one device
    materialize: Materialize
    optimizer: Optimizer

    @property
    def task(self) -> Task:
        """Classes, sequences, and labels of the first replica; shapes are common to all."""
        return self.replicas[0].task

    def init(self, seed: int) -> TrainState:
        """The state of one replica before the first step."""
        return self.initializer()(np.uint32(seed))

    def initializer(self) -> Callable[[Scalar], TrainState]:
        """`init`, compiled once for many seeds."""
        inputs = blank_inputs(self.task)
        return jax.jit(lambda seed: init_state(self.network, self.optimizer, seed, *inputs))

    def arrays(self) -> DeviceBank:
        """The bank, on the host, as a step and an evaluation read it."""
        if not self.config.data.random_rare_images:
            return DeviceBank(self.bank.examples)
        space = self.task.space
        rare = space.split.class_ids[: space.split.num_rare]
        return DeviceBank(self.bank.examples, np.isin(np.arange(space.num_bank_classes), rare))

    def state_template(self, num_replicas: int | None = None) -> TrainState:
        """Shapes of a checkpoint's state, leaves [R, ...]; computes nothing."""
        count = num_replicas or len(self.replicas)
        shapes = jax.eval_shape(self.initializer(), np.uint32(0))
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), shapes)

    def evaluator(self) -> Evaluator:
        """The evaluator of the first replica, with drawn sequences of every mode."""
        return self.evaluators()[0]

    def evaluators(self) -> list[Evaluator]:
        """The evaluator of each replica; they share compiled programs."""
        compiled = compile_evaluation(self.network, self.materialize)
        return [Evaluator(replica.config, replica.task, compiled) for replica in self.replicas]


def blank_inputs(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Zeros for examples [1, S, ...] and labels [1, S], in the types that a network reads."""
    shape, lead = task.shape, (1, task.training.seq_len)
    channels = (1,) if shape.kind == "image" else ()
    dtype = np.int32 if shape.kind == "integer" else np.float32
    return np.zeros((*lead, *shape.example_shape, *channels), dtype), np.zeros(lead, np.int32)


def build_network(
    config: ConfigDict, task: Task, mean_over_devices: MeanOverDevices = one_device
) -> Network:
    """The network of one replica's config, sized for its task; see `make_network`."""
    num_positions = position_capacity(config.model, task.longest_seq_len)
    return make_network(config.model, task.num_labels, num_positions, mean_over_devices)


def weight_shapes(config: ConfigDict, task: Task) -> tuple[Params, BatchStats]:
    """Shapes of the parameters and BatchNorm statistics of a model; computes nothing."""
    init = build_network(config, task).init
    return jax.eval_shape(init, jax.random.PRNGKey(0), *blank_inputs(task))


def build(
    config: ConfigDict, replicas: tuple[Replica, ...] | None = None, bank: ExampleBank | None = None
) -> Experiment:
    """Loads the data and builds the model of a valid config.

    Args:
      config: valid.
      replicas: from its check; None derives them.
      bank: examples that replace the config's data.

    Raises:
      SettingError: JAX has no device.
      DataUnavailableError: the data are not available.
    """
    device_count()  # Fails before the data are loaded.
    replicas = replicas or make_replicas(config)
    data, task = shared_config(config, replicas).data, replicas[0].task
    return Experiment(
        config,
        replicas,
        bank or load_bank(data),
        build_network(replicas[0].config, task),
        make_materialize(data, task.shape),
        make_optimizer(config.training),
    )
