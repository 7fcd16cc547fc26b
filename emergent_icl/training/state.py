"""What a run carries from step to step, and what steers it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from emergent_icl.models.network import BatchStats, Params

Array = jax.Array | np.ndarray


class TrainState(NamedTuple):
    """Everything that training changes; of one replica, unless said otherwise.

    Attributes:
      step: int32 [], updates done.
      key: uint32 [2], the run's random key; never changes, steps are folded into it.
      params: the network's parameters.
      batch_stats: BatchNorm's running averages.
      opt_state: the optimizer's state.
    """

    step: Array
    key: Array
    params: Params
    batch_stats: BatchStats
    opt_state: Any


class Hyper(NamedTuple):
    """Settings that are traced, so that replicas may differ in them; float32 [] each.

    Attributes:
      learning_rate: peak of the schedule.
      warmup_steps: length of the linear warm-up, in steps.
      weight_decay: decoupled weight decay.
      noise_scale: standard deviation of pixel noise.
    """

    learning_rate: Array
    warmup_steps: Array
    weight_decay: Array
    noise_scale: Array


def hyper_from_config(config: ml_collections.ConfigDict) -> Hyper:
    """Reads the traced settings from the config."""
    optimizer = config.training.optimizer
    values = (
        optimizer.learning_rate,
        optimizer.warmup_steps,
        optimizer.weight_decay,
        config.data.noise_scale,
    )
    return Hyper(*(np.float32(value) for value in values))
