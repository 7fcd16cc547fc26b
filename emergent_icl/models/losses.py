"""Losses: pure functions of logits and labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def query_loss(logits_BL: jax.Array, labels_BS: jax.Array) -> jax.Array:
    """Softmax cross-entropy on the query's label, in nats; float [B] (paper section 2.1)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits_BL, labels_BS[:, -1])


def interim_loss(logits_BSL: jax.Array, labels_BS: jax.Array, weight: float) -> jax.Array:
    """Loss with predictions of the context's labels, each from what stands before it.

    `weight` is spread evenly over the S - 1 examples of the context, 1 - weight is on the
    query (original: w_interim_predictions); float [B], in nats.
    """
    losses_BS = optax.softmax_cross_entropy_with_integer_labels(logits_BSL, labels_BS)
    context = jnp.mean(losses_BS[:, :-1], axis=1)
    return weight * context + (1 - weight) * losses_BS[:, -1]
