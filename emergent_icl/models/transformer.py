"""A causal pre-LayerNorm transformer (paper section 2.2)."""

import dataclasses
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from emergent_icl.config.registry import SEQUENCE_MODELS
from emergent_icl.models import check
from emergent_icl.models.dropout import Keys, dropout, of_layer
from emergent_icl.models.normalization import layer_norm, widened

ROTARY_BASE = 10_000.0


def _linear(x_BTD: jax.Array, size: int, name: str) -> jax.Array:
    """A linear layer for every token."""
    # Initialized as in the reference implementation. Tokens form one matrix, because XLA for CPU
    # takes twice as long for a weight gradient that is a sum over two axes.
    layer = hk.Linear(size, w_init=hk.initializers.VarianceScaling(1.0), name=name)
    flat = layer(jnp.reshape(x_BTD, (-1, x_BTD.shape[-1])))
    return jnp.reshape(flat, (*x_BTD.shape[:-1], size))


def rotate(x_BTAH: jax.Array, first: int = 0) -> jax.Array:
    """Rotates queries or keys by their positions, which begin at `first` (Su et al. 2021).

    Coordinates i of both halves of a head of even size H are rotated together by position /
    10,000^(2i/H), so that products depend only on distances.
    """
    length, half = x_BTAH.shape[1], x_BTAH.shape[-1] // 2
    angles_TH = np.arange(first, first + length)[:, None] * ROTARY_BASE ** (-np.arange(half) / half)
    cos = jnp.asarray(np.cos(angles_TH), x_BTAH.dtype)[None, :, None]
    sin = jnp.asarray(np.sin(angles_TH), x_BTAH.dtype)[None, :, None]
    left, right = x_BTAH[..., :half], x_BTAH[..., half:]
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


@dataclasses.dataclass
class CausalSelfAttention(hk.Module):
    """Multi-head causal self-attention."""

    num_heads: int
    rotary: bool
    name: str = "attention"

    def __call__(self, x_BTD: jax.Array, first: int = 0) -> tuple[jax.Array, jax.Array]:
        """[B, T, D] -> ([B, U, D], attention weights [B, A, U, T]) of tokens from `first` on."""
        batch, length, width = x_BTD.shape
        head_size = width // self.num_heads

        def heads(x: jax.Array, name: str) -> jax.Array:
            projected = _linear(x, width, name)
            return jnp.reshape(projected, (batch, -1, self.num_heads, head_size))

        query = heads(x_BTD[:, first:], "query")
        key, value = heads(x_BTD, "key"), heads(x_BTD, "value")
        if self.rotary:
            query, key = rotate(query, first), rotate(key)
        scores_BATT = widened(jnp.einsum("btah,bsah->bats", query, key) / np.sqrt(head_size))
        causal = np.tril(np.ones((length, length), dtype=bool))[first:]
        scores_BATT = jnp.where(causal[None, None], scores_BATT, jnp.finfo(scores_BATT.dtype).min)
        weights_BATT = jax.nn.softmax(scores_BATT, axis=-1)
        mixed = jnp.einsum("bats,bsah->btah", weights_BATT.astype(value.dtype), value)
        output = _linear(jnp.reshape(mixed, (batch, -1, width)), width, "output")
        return output, weights_BATT


@dataclasses.dataclass
class TransformerBlock(hk.Module):
    """Attention and a GELU MLP, each on a normalized copy of the residual stream."""

    model: ml_collections.ConfigDict
    name: str = "block"

    def __call__(self, x_BTD: jax.Array, keys: Keys, first: int = 0) -> tuple[jax.Array, jax.Array]:
        """[B, T, D] -> ([B, U, D], attention weights [B, A, U, T]) of tokens from `first` on."""
        model, width = self.model, x_BTD.shape[-1]
        attention = CausalSelfAttention(model.num_heads, model.positions == "rotary")
        mixed, weights = attention(layer_norm("attention_norm")(x_BTD), first)
        x = x_BTD[:, first:] + dropout(mixed, model.dropout, keys, "attention")
        if model.attention_only:
            return x, weights
        hidden = _linear(layer_norm("mlp_norm")(x), model.mlp_ratio * width, "mlp_widen")
        narrow = _linear(jax.nn.gelu(hidden, approximate=True), width, "mlp_narrow")
        return x + dropout(narrow, model.dropout, keys, "mlp"), weights


@SEQUENCE_MODELS.register("transformer", problems=check.attention_problems)
@dataclasses.dataclass
class Transformer(hk.Module):
    """A stack of blocks and a final LayerNorm, without the label head.

    Parameters of layers are stacked, [layers, ...] per leaf, so that there are fewer arrays to
    update, save, and replicate. They are the same whether the stack is unrolled or scanned.
    """

    # Read by the network; see SequenceModel.
    has_attention = True
    has_query_alone = True

    model: ml_collections.ConfigDict
    name: str = "transformer"

    def __call__(
        self,
        tokens_BTD: jax.Array,
        keys: Keys,
        with_attention: bool = False,
        query_alone: bool = False,
    ) -> jax.Array | tuple[jax.Array, jax.Array | None]:
        """Maps tokens [B, T, D] to features [B, T, D].

        `with_attention` also returns weights [layers, B, A, T, T]. `query_alone` returns features
        [B, 1, D] of the last token, and omits the last layer's computation for the others.
        """
        model = self.model
        # A dropout mask drawn for one token differs from the last row of a mask for all tokens.
        last_alone = query_alone and (keys is None or model.dropout == 0)
        block = hk.without_apply_rng(
            hk.transform(lambda x, keys, first=0: TransformerBlock(model)(x, keys, first))
        )

        def init_layers(key: Any, x: jax.Array) -> hk.Params:
            def init_layer(key: jax.Array, _: None) -> tuple[jax.Array, hk.Params]:
                init_key, next_key, _ = jax.random.split(key, 3)
                return next_key, block.init(init_key, x, None)

            return jax.lax.scan(init_layer, key, None, length=model.num_layers)[1]

        stacked = hk.lift(init_layers, name="layers")(hk.maybe_next_rng_key(), tokens_BTD)
        # Skip a key, as `hk.experimental.layer_stack` does: initial parameters are the same.
        hk.maybe_next_rng_key()

        def layer(
            x: jax.Array, own: tuple[hk.Params, jax.Array]
        ) -> tuple[jax.Array, jax.Array | None]:
            params, index = own
            x, weights = block.apply(params, x, of_layer(keys, index))
            return x, weights if with_attention else None

        count = model.num_layers - last_alone
        rows = (jax.tree.map(lambda leaf: leaf[:count], stacked), jnp.arange(count))
        unroll = 1 if model.scan_layers else max(count, 1)
        features, weights = jax.lax.scan(layer, tokens_BTD, rows, length=count, unroll=unroll)
        if last_alone:
            params = jax.tree.map(lambda leaf: leaf[count], stacked)
            features, _ = block.apply(params, features, None, tokens_BTD.shape[1] - 1)
        features = layer_norm("final_norm")(features[:, -1:] if query_alone else features)
        return (features, weights) if with_attention else features
