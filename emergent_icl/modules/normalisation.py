"""Normalisation layers; they compute in float32 whatever the precision around them."""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp


def layer_norm(name: str) -> Callable[[jax.Array], jax.Array]:
    """LayerNorm over the last axis, with scale and offset."""
    norm = hk.LayerNorm(axis=-1, create_scale=True, create_offset=True, name=name)
    return lambda x: norm(x.astype(jnp.float32)).astype(x.dtype)


def batch_norm(
    name: str, axis_name: str | None, *, zero_scale: bool = False
) -> Callable[[jax.Array, bool], jax.Array]:
    """BatchNorm with the paper's constants, synchronised over `axis_name`.

    Args:
      name: module name.
      axis_name: the mapped axis whose members share their statistics; None
        outside `pmap`.
      zero_scale: start with scale 0, so that a residual branch starts silent.
    """
    norm = hk.BatchNorm(
        create_scale=True,
        create_offset=True,
        decay_rate=0.9,
        eps=1e-5,
        scale_init=jnp.zeros if zero_scale else None,
        cross_replica_axis=axis_name,
        name=name,
    )
    return lambda x, is_training: norm(x.astype(jnp.float32), is_training).astype(x.dtype)


def is_normalisation(module: str) -> bool:
    """Whether a Haiku module path is that of a normalisation layer, ours or Haiku's own."""
    return "norm" in module.rsplit("/", 1)[-1]
