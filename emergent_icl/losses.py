"""Losses: pure functions of logits and labels."""

from __future__ import annotations

import jax
import optax


def query_loss(logits_BL: jax.Array, labels_BS: jax.Array) -> jax.Array:
    """Softmax cross-entropy on the query's label, in nats; float [B] (paper section 2.1)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits_BL, labels_BS[:, -1])
