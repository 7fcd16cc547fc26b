"""Losses and predictions: pure functions of logits and labels."""

import jax
import jax.numpy as jnp
import optax

from emergent_icl.data.bank import Array, Scalar


def only_used(logits: jax.Array, count: Scalar | None) -> jax.Array:
    """Logits [..., L] with -inf for labels from `count` on; unchanged if it is None.

    This excludes labels that only other replicas use from loss, gradients, and predictions.
    """
    if count is None:
        return logits
    return jnp.where(jnp.arange(logits.shape[-1]) < count, logits, -jnp.inf)


def query_loss(logits_BL: jax.Array, labels_BS: Array) -> jax.Array:
    """Softmax cross-entropy of the query's label in nats, float [B] (paper section 2.1)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits_BL, labels_BS[:, -1])


def interim_loss(logits_BSL: jax.Array, labels_BS: Array, weight: float) -> jax.Array:
    """Loss in nats, float [B], that includes predictions of the context's labels.

    The S - 1 examples of the context share `weight` evenly; the query has weight 1 - `weight`
    (reference implementation: w_interim_predictions).
    """
    losses_BS = optax.softmax_cross_entropy_with_integer_labels(logits_BSL, labels_BS)
    context = jnp.mean(losses_BS[:, :-1], axis=1)
    return weight * context + (1 - weight) * losses_BS[:, -1]


def greatest(logits_BL: jax.Array) -> jax.Array:
    """`jnp.argmax` over labels, int [B].

    XLA for CPU does not vectorize argmax: 1.8 ms instead of 0.2 ms for 32 x 12,880 logits.
    """
    count = logits_BL.shape[-1]
    is_greatest = logits_BL == jnp.max(logits_BL, axis=-1, keepdims=True)
    # If a logit is NaN, none is the greatest; the result must still be a label.
    return jnp.min(jnp.where(is_greatest, jnp.arange(count), count - 1), axis=-1)
