"""Dropout by keys of sequences, so that no mask depends on how sequences are spread."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from emergent_icl.randomness import named_keys


def dropout(x: jax.Array, rate: float, keys: jax.Array | None, name: str) -> jax.Array:
    """Zeroes each number of [B, ...] with probability `rate` in [0, 1), and scales up the rest.

    By keys [B, 2], one a sequence, and the name of the place in the model: other places drop
    other numbers. Without keys nothing changes, nor at a rate of 0, which reads none.
    """
    if rate == 0 or keys is None:
        return x
    masks = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))
    return jnp.where(masks(named_keys(keys, name)), x / (1 - rate), 0)


def of_layer(keys: jax.Array | None, layer: jax.Array | int) -> jax.Array | None:
    """Keys of one layer of a stack, [B, 2]; None stays None."""
    if keys is None:
        return None
    return jax.vmap(lambda key: jax.random.fold_in(key, layer))(keys)
