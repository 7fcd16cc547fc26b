"""A causal pre-LayerNorm transformer (paper section 2.2)."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np


def _linear(size: int, name: str) -> hk.Linear:
    # Variance scaling 1.0 over the fan-in, truncated normal: the original's choice.
    return hk.Linear(size, w_init=hk.initializers.VarianceScaling(1.0), name=name)


def _layer_norm(name: str) -> hk.LayerNorm:
    return hk.LayerNorm(axis=-1, create_scale=True, create_offset=True, name=name)


class CausalSelfAttention(hk.Module):
    """Multi-head self-attention in which a token sees itself and what came before."""

    def __init__(self, num_heads: int, name: str = "attention") -> None:
        super().__init__(name=name)
        self.num_heads = num_heads

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Maps [B, T, D] to [B, T, D]; D is divided evenly among the heads."""
        batch, length, width = x_BTD.shape
        head_size = width // self.num_heads

        def heads(name: str) -> jax.Array:
            projected = _linear(width, name)(x_BTD)
            return jnp.reshape(projected, (batch, length, self.num_heads, head_size))

        query, key, value = heads("query"), heads("key"), heads("value")
        scores_BATT = jnp.einsum("btah,bsah->bats", query, key) / np.sqrt(head_size)
        causal = np.tril(np.ones((length, length), dtype=bool))
        scores_BATT = jnp.where(causal[None, None], scores_BATT, jnp.finfo(scores_BATT.dtype).min)
        weights_BATT = jax.nn.softmax(scores_BATT, axis=-1)
        mixed = jnp.einsum("bats,bsah->btah", weights_BATT, value)
        return _linear(width, "output")(jnp.reshape(mixed, (batch, length, width)))


class TransformerBlock(hk.Module):
    """Attention and a GELU MLP, each on a normalised copy of the residual stream."""

    def __init__(self, num_heads: int, mlp_ratio: int, name: str = "block") -> None:
        super().__init__(name=name)
        self.num_heads, self.mlp_ratio = num_heads, mlp_ratio

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        """Maps [B, T, D] to [B, T, D]."""
        width = x_BTD.shape[-1]
        x = x_BTD + CausalSelfAttention(self.num_heads)(_layer_norm("attention_norm")(x_BTD))
        hidden = _linear(self.mlp_ratio * width, "mlp_widen")(_layer_norm("mlp_norm")(x))
        return x + _linear(width, "mlp_narrow")(jax.nn.gelu(hidden, approximate=True))


class Transformer(hk.Module):
    """A stack of blocks and a final LayerNorm, without the label head.

    The layers' parameters are stored stacked, [layers, ...] per leaf: a twelfth of
    the arrays to update, save and replicate. Whether the stack runs unrolled or as
    a scan changes speed and compile time, never the parameters.
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        mlp_ratio: int,
        scan_layers: bool,
        name: str = "transformer",
    ) -> None:
        super().__init__(name=name)
        self.num_layers, self.num_heads, self.mlp_ratio = num_layers, num_heads, mlp_ratio
        self.unroll = 1 if scan_layers else num_layers

    def __call__(self, tokens_BTD: jax.Array) -> jax.Array:
        """Maps tokens [B, T, D] to features [B, T, D]."""
        stack = hk.experimental.layer_stack(self.num_layers, unroll=self.unroll, name="layers")
        features = stack(lambda x: TransformerBlock(self.num_heads, self.mlp_ratio)(x))(tokens_BTD)
        return _layer_norm("final_norm")(features)
