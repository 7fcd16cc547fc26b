"""One step of training, as a pure function of state and batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from emergent_icl.data.bank import Array, DeviceBank, Scalar
from emergent_icl.data.materialize import Materialize
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.models.losses import greatest, interim_loss, only_used, query_loss
from emergent_icl.models.network import BatchStats, Network, Params
from emergent_icl.models.normalization import MeanOverDevices, one_device
from emergent_icl.randomness import sequence_keys
from emergent_icl.training.optimizers import Hyper, Optimizer


class TrainState(NamedTuple):
    """Everything that a checkpoint restores, of one replica unless stated otherwise."""

    step: Array  # int32 [], completed updates
    key: Array  # uint32 [2]; constant, steps are folded into it
    params: Params
    batch_stats: BatchStats  # BatchNorm's running averages
    opt_state: Any


Metrics = dict[str, Array]
# (kind, module, name) -> array; see `named_weights`.
Weights = dict[tuple[str, str, str], Any]
Update = Callable[[TrainState, Hyper, DeviceBank, SequenceBatch], tuple[TrainState, Metrics]]
# (steps, arrays of the host or of a device) -> bool, of the same shape
StepTest = Callable[[Array], Array]
# (gradients, step) -> their norm
GradientNorm = Callable[[Params, Array], jax.Array]


def named_weights(params: Params, batch_stats: BatchStats) -> Weights:
    """{('params' or 'batch_stats', Haiku module, name): leaf}."""
    return {
        (kind, module, name): leaf
        for kind, tree in (("params", params), ("batch_stats", batch_stats))
        for module, leaves in tree.items()
        for name, leaf in leaves.items()
    }


def init_state(
    network: Network, optimizer: Optimizer, seed: int | Scalar, examples: Array, labels: Array
) -> TrainState:
    """The state before the first step of a run with a seed in [0, 2^32).

    Only shapes and types of examples [B, S, ...] and labels [B, S] matter.
    """
    init_key, run_key = jax.random.split(jax.random.PRNGKey(seed))
    params, batch_stats = network.init(init_key, examples, labels)
    return TrainState(jnp.int32(0), run_key, params, batch_stats, optimizer.init(params))


def make_update(
    network: Network,
    optimizer: Optimizer,
    materialize: Materialize,
    interim_weight: float = 0.0,
    mean_over_devices: MeanOverDevices = one_device,
    rows: Callable[[int], jax.Array] = jnp.arange,
    gradient_norm: GradientNorm = lambda gradients, step: optax.tree.norm(gradients),
) -> Update:
    """Builds the update of one replica on this device's share of the batch, [B/D, S].

    Its metrics are scalars, averaged over devices: loss, accuracy, grad_norm, learning_rate.

    Args:
      network: its BatchNorm averages over the same devices.
      optimizer: with its schedule.
      materialize: indices -> examples.
      interim_weight: see `interim_loss`; with 0, only the query's logits are computed.
      mean_over_devices: for gradients, loss, and accuracy.
      rows: number of this device's sequences -> their rows in the global batch.
      gradient_norm: see `norm_when`.
    """
    loss_and_gradients = jax.value_and_grad(_make_loss(network, interim_weight), has_aux=True)

    def update(
        state: TrainState, hyper: Hyper, bank: DeviceBank, batch: SequenceBatch
    ) -> tuple[TrainState, Metrics]:
        rows_B = rows(batch.labels.shape[0])
        keys = sequence_keys(jax.random.fold_in(state.key, state.step), rows_B)
        examples = materialize(bank, batch.class_ids, batch.exemplar_ids, keys, hyper.noise_scale)
        (loss, (batch_stats, logits_BL)), gradients = loss_and_gradients(
            state.params, state.batch_stats, keys, examples, batch.labels, hyper.used_labels
        )
        accuracy = jnp.mean(greatest(logits_BL) == batch.labels[:, -1], dtype=float)
        gradients, loss, accuracy = mean_over_devices((gradients, loss, accuracy))
        updates, opt_state = optimizer.update(
            gradients, state.opt_state, state.params, hyper, state.step
        )
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "grad_norm": gradient_norm(gradients, state.step + 1),
            "learning_rate": optimizer.learning_rate(hyper, state.step),
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, state.key, params, batch_stats, opt_state), metrics

    return update


def norm_when(is_due: StepTest | None) -> GradientNorm:
    """The norm of all gradients at steps that are due, counted from 1, else 0; None: at every step.

    On CPU, a norm that is not due is not computed: up to 9% of a small model's step. On an
    accelerator, the host might have to wait for the device at every step.
    """
    if is_due is None:
        return lambda gradients, step: optax.tree.norm(gradients)
    if jax.default_backend() == "cpu":
        return norm_in_a_condition(is_due)
    return lambda gradients, step: jnp.where(is_due(step), optax.tree.norm(gradients), 0.0)


def norm_in_a_condition(is_due: StepTest) -> GradientNorm:
    """The norm at steps that are due, which alone compute it."""
    zero = jnp.zeros((), jnp.result_type(float))
    return lambda gradients, step: jax.lax.cond(
        is_due(step), optax.tree.norm, lambda _: zero, gradients
    )


def _make_loss(network: Network, interim_weight: float) -> Callable[..., Any]:
    """(params, stats, keys, examples, labels, used) -> (loss, (stats, query's logits))."""
    at = "examples" if interim_weight else "query"

    def mean_loss(
        params: Params,
        batch_stats: BatchStats,
        keys: jax.Array,
        examples: Array,
        labels_BS: Array,
        used_labels: Scalar | None,
    ) -> tuple[jax.Array, tuple[BatchStats, jax.Array]]:
        logits, stats = network.apply(params, batch_stats, keys, examples, labels_BS, True, at)
        logits = only_used(logits, used_labels)
        if interim_weight:
            loss_B = interim_loss(logits, labels_BS, interim_weight)
            return loss_B.mean(), (stats, logits[:, -1])
        return query_loss(logits, labels_BS).mean(), (stats, logits)

    return mean_loss
