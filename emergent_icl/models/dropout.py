"""Dropout with a key per sequence, so that masks do not depend on the number of devices."""

import jax
import jax.numpy as jnp

from emergent_icl.data.bank import Array
from emergent_icl.randomness import named_keys

# [B, 2], one per sequence; None drops nothing.
Keys = Array | None


def dropout(x: Array, rate: float, keys: Keys, name: str) -> Array:
    """Zeroes each number of [B, ...] with probability `rate` in [0, 1) and scales up the rest.

    Masks of different `name`s, the places in the model, are independent.
    """
    if rate == 0 or keys is None:
        return x
    masks = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))
    return jnp.where(masks(named_keys(keys, name)), x / (1 - rate), 0)


def of_layer(keys: Keys, layer: jax.Array | int) -> Keys:
    """Keys of one layer of a stack."""
    if keys is None:
        return None
    return jax.vmap(lambda key: jax.random.fold_in(key, layer))(keys)
