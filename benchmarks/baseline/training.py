"""Training and evaluation as the original does them: whole batches of numbers, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.baseline.network import make_baseline_network
from benchmarks.baseline.sequences import Sequence, training_batch, training_feed
from benchmarks.timing import Rival
from emergent_icl.training.build import Experiment

AXIS = "batch"


class State(NamedTuple):
    """Parameters, BatchNorm averages and the optimizer's state, [D, ...] a leaf."""

    params: hk.Params
    stats: hk.State
    opt_state: Any


class BaselineTrainer:
    """A training step on a batch of images, mapped over the devices; to be closed."""

    def __init__(self, experiment: Experiment) -> None:
        """Builds the step, and the state before the first one."""
        config, task = experiment.config, experiment.task
        self._experiment, self._feed = experiment, None
        self._network = make_baseline_network(config.model, task.num_labels)
        settings = config.training.optimizer
        warmup = max(settings.warmup_steps, 1)

        def learning_rate(count: jax.Array) -> jax.Array:
            step = count + 1
            return settings.learning_rate * jnp.minimum(step / warmup, jnp.sqrt(warmup / step))

        self._optimizer = optax.adam(learning_rate)
        # Neither donated nor fused with anything.
        self._step = jax.pmap(self._update, axis_name=AXIS)
        shape = (task.training.seq_len, *task.shape.example_shape, 1)
        images, labels = np.zeros(shape, np.float32), np.zeros(shape[0], np.int32)
        params, stats = _initial(self._network, (images, labels))
        state = State(params, stats, self._optimizer.init(params))
        count = jax.local_device_count()
        self._state: State = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), state)

    def _update(self, state: State, images: jax.Array, labels: jax.Array) -> tuple[State, Any]:
        def loss_fn(params: hk.Params) -> tuple[jax.Array, tuple[hk.State, jax.Array]]:
            logits, stats = self._network.apply(params, state.stats, None, images, labels, True)
            loss, accuracy = query_scores(logits, labels)
            return loss, (stats, accuracy)

        gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (stats, accuracy)), gradients = gradient_fn(state.params)
        gradients = jax.lax.pmean(gradients, AXIS)
        updates, opt_state = self._optimizer.update(gradients, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        metrics = jax.lax.pmean({"loss": loss, "accuracy": accuracy}, AXIS)
        return State(params, stats, opt_state), metrics

    def rival(self, kind: str) -> Rival:
        """Steps on one batch ('compute') or with their feed ('end_to_end')."""
        if kind == "end_to_end":
            self._feed = training_feed(self._experiment)
            return Rival(self._run, at_least=2)
        place = jax.pmap(lambda images, labels: (images, labels))
        placed = place(*_shard(training_batch(self._experiment)))
        return Rival(lambda count: self._compute(placed, count))

    def close(self) -> None:
        """Ends the feed, if there is one: its threads call back into Python."""
        if self._feed is not None:
            self._feed.close()

    def _compute(self, placed: Sequence, count: int) -> None:
        """Some steps on one batch that lies on the devices; waits for them."""
        for _ in range(count):
            self._state, _ = self._step(self._state, *placed)
        jax.block_until_ready(self._state)

    def _run(self, count: int) -> None:
        """Some steps, fed, each of which waits for its metrics."""
        for _ in range(count):
            self._state, metrics = self._step(self._state, *_shard(next(self._feed)))
            jax.device_get(metrics)
        jax.block_until_ready(self._state)


class BaselineEvaluator:
    """Evaluates freshly initialized parameters, a sequence at a time.

    Its sequences come straight from the generator, without tf.data: in its favor.
    """

    def __init__(self, experiment: Experiment, make: Callable[[], Sequence]) -> None:
        """Takes what makes one sequence; compiles nothing yet."""
        network = make_baseline_network(experiment.config.model, experiment.task.num_labels)
        self._make, self._variables = make, _initial(network, make())

        def forward(params: hk.Params, stats: hk.State, images: Any, labels: Any) -> Any:
            logits, _ = network.apply(params, stats, None, images, labels, False)
            return query_scores(logits, labels)

        self._forward = jax.jit(forward)

    def run(self, count: int) -> float:
        """Evaluates some sequences; returns the accuracy."""
        accuracies = []
        for _ in range(count):
            images, labels = self._make()
            scores = self._forward(*self._variables, images[None], labels[None])
            accuracies.append(float(jax.device_get(scores)[1]))
        return float(np.mean(accuracies))


def _initial(
    network: hk.TransformedWithState, sequence: Sequence
) -> tuple[hk.MutableParams, hk.MutableState]:
    """Parameters and BatchNorm averages before the first step."""
    images, labels = sequence
    init = jax.jit(lambda key: network.init(key, images[None], labels[None], True))
    return init(jax.random.PRNGKey(0))


def _shard(batch: Sequence) -> Sequence:
    """[B, ...] -> [D, B/D, ...], still on the host."""
    count = jax.local_device_count()
    images, labels = (leaf.reshape(count, -1, *leaf.shape[1:]) for leaf in batch)
    return images, labels


def query_scores(logits_BTL: jax.Array, labels_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy on the query.

    As the original has it, whose loss is on every token, weighted by what interim predictions
    are worth: nothing by default (docs/fidelity.md).
    """
    # A label's token predicts nothing; its target only fills the place.
    targets_BT = jnp.repeat(labels_BS, 2, axis=1)[:, :-1]
    one_hot_BTL = jax.nn.one_hot(targets_BT, logits_BTL.shape[-1])
    losses_BT = -jnp.sum(one_hot_BTL * jax.nn.log_softmax(logits_BTL), axis=-1)
    weights_T = jnp.zeros(losses_BT.shape[1]).at[-1].set(1.0)
    accuracy_BT = jnp.argmax(logits_BTL, axis=-1) == targets_BT
    return jnp.sum(losses_BT * weights_T, axis=1).mean(), jnp.mean(accuracy_BT @ weights_T)
