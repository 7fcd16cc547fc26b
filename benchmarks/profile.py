"""Where the time of a step goes: its parts, each compiled and timed apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.timing import Measurement, alternate, fit_block, summarise
from emergent_icl.models.losses import query_loss
from emergent_icl.training.build import Experiment
from emergent_icl.training.optimizers import hyper_from_config

PARTS = {
    "look_up": "look up and scale the examples",
    "encoder_forward": "encoder, forward",
    "encoder_backward": "encoder, backward",
    "sequence_model": "sequence model, forward and backward",
    "optimizer": "optimizer",
    "feed": "feed: wait for a batch and lay it out",
}


def measure_parts(
    experiment: Experiment, feed: list[float], rounds: int, seconds: float
) -> dict[str, Measurement]:
    """Milliseconds of each of PARTS, a step.

    The backward pass of the encoder is the time of both passes less that of the forward pass.
    Parts compiled apart are not fused with one another: their sum need not be the step's time.

    Args:
      experiment: whose step.
      feed: seconds a step for which the training loop waited, while the device computed.
      rounds: of the other parts.
      seconds: that a block of repetitions should last.
    """
    runs = _compiled_parts(experiment)
    samples = alternate({name: fit_block(run, seconds) for name, run in runs.items()}, rounds)
    both = samples.pop("encoder_both")
    samples["encoder_backward"] = [
        max(whole - forward, 0.0)
        for whole, forward in zip(both, samples["encoder_forward"], strict=True)
    ]
    samples["feed"] = feed
    return {name: summarise(f"part_{name}", samples[name], "ms/step", 1e3) for name in PARTS}


def _compiled_parts(experiment: Experiment) -> dict[str, Callable[[int], object]]:
    """Every part as a function that runs it some times."""
    network, config = experiment.network, experiment.config
    state, bank = experiment.init(0), jax.device_put(experiment.arrays())
    batch = experiment.task.training.sample(np.random.default_rng(0), config.training.batch_size)
    keys = jnp.zeros((config.training.batch_size, 2), jnp.uint32)
    params, stats = state.params, state.batch_stats
    hyper = hyper_from_config(config)

    look_up = jax.jit(experiment.materialise)
    ids = (bank, batch.class_ids, batch.exemplar_ids, keys, hyper.noise_scale)
    examples = look_up(*ids)
    flat = jnp.reshape(examples, (-1, *examples.shape[2:]))

    @jax.jit
    def forward(params: Any, flat: jax.Array) -> Any:
        return network.encode(params, stats, flat, True)

    @jax.jit
    def both(params: Any, flat: jax.Array) -> Any:
        return jax.grad(lambda p: jnp.sum(network.encode(p, stats, flat, True)[0]))(params)

    @jax.jit
    def sequence_model(params: Any, embeddings: jax.Array) -> Any:
        def loss(params: Any, embeddings: jax.Array) -> jax.Array:
            logits = network.predict(params, keys, embeddings, batch.labels, True)
            return jnp.mean(query_loss(logits, batch.labels))

        return jax.value_and_grad(loss, argnums=(0, 1))(params, embeddings)

    embeddings = jnp.reshape(forward(params, flat)[0], (*batch.labels.shape, -1))
    return {
        "look_up": _times(look_up, *ids),
        "encoder_forward": _times(forward, params, flat),
        "encoder_both": _times(both, params, flat),
        "sequence_model": _times(sequence_model, params, embeddings),
        "optimizer": _optimizer_run(experiment),
    }


def _times(function: Callable[..., Any], *arguments: Any) -> Callable[[int], object]:
    def run(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(function(*arguments))

    return run


def _optimizer_run(experiment: Experiment) -> Callable[[int], object]:
    optimizer, hyper = experiment.optimizer, hyper_from_config(experiment.config)
    state = experiment.init(0)
    gradients = jax.tree.map(jnp.ones_like, state.params)

    def update(params: Any, opt_state: Any) -> Any:
        updates, opt_state = optimizer.update(gradients, opt_state, params, hyper, state.step)
        return optax.apply_updates(params, updates), opt_state

    donating = jax.jit(update, donate_argnums=(0, 1))
    current = [(state.params, state.opt_state)]

    def run(count: int) -> None:
        for _ in range(count):
            current[0] = donating(*current[0])
        jax.block_until_ready(current[0])

    return run
