"""The networks of the suite `small_models` as one hand-written scan, without options or metrics.

It shows what remains of JAX's own speed once a training loop, a feed, and options are added.
Parameters have our names and shapes, so that the tests can compare logits.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.measure import Rival
from emergent_icl.data.bank import Array
from emergent_icl.models.network import Params
from emergent_icl.training.build import Experiment

LAYERS = "transformer/layers/block"


def plain_scan(experiment: Experiment) -> Rival:
    """Steps of Adam on one batch; those of a call are scanned."""
    config, task = experiment.config, experiment.task
    steps, size = config.training.steps_per_call, config.training.batch_size
    batch = task.training.sample(np.random.default_rng(0), steps * size)
    classes, exemplars, labels = (
        jnp.reshape(leaf, (steps, size, task.training.seq_len)) for leaf in batch
    )
    bank, heads = jnp.asarray(experiment.arrays().examples), config.model.num_heads
    optimizer = optax.adam(config.training.optimizer.learning_rate)
    params = experiment.init(0).params

    def loss(params: Params, classes_BS: Array, exemplars_BS: Array, labels_BS: Array) -> jax.Array:
        logits_BL = query_logits(params, bank[classes_BS, exemplars_BS], labels_BS, heads)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits_BL), labels_BS[:, -1:], axis=1)
        return -jnp.mean(picked)

    def step(carry: tuple[Params, Any], one: tuple[Array, ...]) -> tuple[Any, jax.Array]:
        params, opt_state = carry
        value, gradients = jax.value_and_grad(loss)(params, *one)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return (optax.apply_updates(params, updates), opt_state), value

    call: Callable[..., Any] = jax.jit(
        lambda carry, *batches: jax.lax.scan(step, carry, batches), donate_argnums=0
    )
    carry = params, optimizer.init(params)

    def run(calls: int) -> None:
        nonlocal carry
        for _ in range(calls):
            carry, _ = call(carry, classes, exemplars, labels)
        jax.block_until_ready(carry)

    return Rival(run, steps)


def query_logits(params: Params, examples_BSF: Array, labels_BS: Array, heads: int) -> jax.Array:
    """Logits [B, L] of the query; the last layer computes its token alone."""
    embedded = _linear(params["linear_encoder"], examples_BSF)
    context = jnp.stack([embedded[:, :-1], params["tokens"]["labels"][labels_BS[:, :-1]]], 2)
    context = jnp.reshape(context, (len(labels_BS), -1, embedded.shape[-1]))
    x_BTD = jnp.concatenate([context, embedded[:, -1:]], 1)
    layers = {name: own for name, own in params.items() if name.startswith(LAYERS)}
    count = len(layers[f"{LAYERS}/attention_norm"]["scale"])
    for index in range(count):
        own = jax.tree.map(lambda leaf, index=index: leaf[index], layers)
        x_BTD = _layer(own, x_BTD, heads, x_BTD.shape[1] - 1 if index == count - 1 else 0)
    return _linear(params["head"], _norm(params["transformer/final_norm"], x_BTD[:, -1]))


def _layer(own: Mapping[str, Any], x_BTD: jax.Array, heads: int, first: int) -> jax.Array:
    x = x_BTD[:, first:]
    x += _attend(own, _norm(own[f"{LAYERS}/attention_norm"], x_BTD), heads, first)
    if f"{LAYERS}/mlp_norm" not in own:
        return x
    hidden = _linear(own[f"{LAYERS}/mlp_widen"], _norm(own[f"{LAYERS}/mlp_norm"], x))
    return x + _linear(own[f"{LAYERS}/mlp_narrow"], jax.nn.gelu(hidden))


def _attend(own: Mapping[str, Any], x_BTD: jax.Array, heads: int, first: int) -> jax.Array:
    batch, length, width = x_BTD.shape

    def project(name: str, x: jax.Array) -> jax.Array:
        projected = _linear(own[f"{LAYERS}/attention/{name}"], x)
        return jnp.reshape(projected, (batch, -1, heads, width // heads))

    query, key = project("query", x_BTD[:, first:]), project("key", x_BTD)
    scores = jnp.einsum("btah,bsah->bats", _rotate(query, first), _rotate(key, 0))
    seen = np.tril(np.ones((length, length), bool))[first:]
    scores = jnp.where(seen, scores / np.sqrt(width // heads), -jnp.inf)
    mixed = jnp.einsum("bats,bsah->btah", jax.nn.softmax(scores), project("value", x_BTD))
    return _linear(own[f"{LAYERS}/attention/output"], jnp.reshape(mixed, (batch, -1, width)))


def _rotate(x_BTAH: jax.Array, first: int) -> jax.Array:
    length, half = x_BTAH.shape[1], x_BTAH.shape[-1] // 2
    frequencies = 10_000.0 ** (-np.arange(half) / half)
    angles = (np.arange(first, first + length)[:, None] * frequencies)[:, None]
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    left, right = jnp.split(x_BTAH, 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def _linear(own: Mapping[str, jax.Array], x: Array) -> jax.Array:
    # All tokens as one matrix, as in models/transformer.py.
    flat = jnp.reshape(x, (-1, x.shape[-1])) @ own["w"] + own["b"]
    return jnp.reshape(flat, (*x.shape[:-1], -1))


def _norm(own: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
    return centered * jax.lax.rsqrt(variance + 1e-5) * own["scale"] + own["offset"]
