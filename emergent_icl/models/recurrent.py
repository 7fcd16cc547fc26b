"""Recurrent baselines: stacks of vanilla RNN, GRU, or LSTM cells (paper section 3.3)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from emergent_icl.config.registry import SEQUENCE_MODELS
from emergent_icl.models import check
from emergent_icl.models.dropout import Keys, dropout, of_layer


@dataclasses.dataclass
class RecurrentStack(hk.Module):
    """Layers of one cell type.

    Dropout applies to the inputs of all layers but the first, with the same mask for all tokens of
    a sequence (Gal and Ghahramani 2016).
    """

    make_cell: Callable[..., hk.RNNCore]
    model: ml_collections.ConfigDict
    name: str = "recurrent"

    def __call__(self, tokens_BTD: jax.Array, keys: Keys) -> jax.Array:
        """Maps tokens [B, T, D] to features [B, T, rnn_size], from a zero initial state."""
        model, batch_size = self.model, tokens_BTD.shape[0]
        layers = []
        for i in range(model.num_layers):
            if i and keys is not None and model.dropout > 0:
                ones = jnp.ones((batch_size, model.rnn_size), tokens_BTD.dtype)
                mask_BD = dropout(ones, model.dropout, of_layer(keys, i), "recurrent")
                layers.append(lambda x_BD, mask_BD=mask_BD: x_BD * mask_BD)
            layers.append(self.make_cell(model.rnn_size, name=f"layer_{i}"))
        stack = hk.DeepRNN(layers)
        state = jax.tree.map(lambda x: x.astype(tokens_BTD.dtype), stack.initial_state(batch_size))
        features: Any = hk.dynamic_unroll(stack, tokens_BTD, state, time_major=False)[0]
        return features


# 'rnn' is 'vanilla_rnn' in the reference implementation.
for _name, _cell in (("lstm", hk.LSTM), ("gru", hk.GRU), ("rnn", hk.VanillaRNN)):
    SEQUENCE_MODELS.register(_name, problems=check.recurrent_problems)(
        functools.partial(RecurrentStack, _cell)
    )
