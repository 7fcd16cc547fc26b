"""Recurrent baselines: stacks of vanilla RNN, GRU or LSTM cells (paper section 3.3)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from emergent_icl.config.registry import SEQUENCE_MODELS
from emergent_icl.models import check
from emergent_icl.models.dropout import dropout, of_layer


class _Layer(hk.RNNCore):
    """A cell that reads its input through a mask."""

    def __init__(self, cell: hk.RNNCore, mask_BD: jax.Array) -> None:
        super().__init__(name=f"{cell.name}_masked")
        self.cell, self.mask_BD = cell, mask_BD

    def __call__(self, inputs: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.cell(inputs * self.mask_BD, state)

    def initial_state(self, batch_size: int | None) -> jax.Array:
        return self.cell.initial_state(batch_size)


class RecurrentStack(hk.Module):
    """Layers of one cell type, each reading the outputs of the one below.

    Dropout applies to the inputs of every layer but the first, with the same mask at
    every token of a sequence (Gal and Ghahramani 2016).
    """

    def __init__(
        self,
        make_cell: Callable[..., hk.RNNCore],
        model: ml_collections.ConfigDict,
        name: str = "recurrent",
    ) -> None:
        """Takes a kind of cell, and config.model: num_layers, rnn_size, dropout."""
        super().__init__(name=name)
        self.make_cell, self.model = make_cell, model

    def __call__(self, tokens_BTD: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Maps tokens [B, T, D] to features [B, T, rnn_size]; the first state is zero.

        `keys`, [B, 2], one a sequence, are for dropout; None drops nothing.
        """
        model, batch_size = self.model, tokens_BTD.shape[0]
        names = [f"layer_{i}" for i in range(model.num_layers)]
        cells = [self.make_cell(model.rnn_size, name=name) for name in names]
        if keys is not None and model.dropout > 0:
            ones = jnp.ones((batch_size, model.rnn_size), tokens_BTD.dtype)
            for i in range(1, model.num_layers):
                mask = dropout(ones, model.dropout, of_layer(keys, i), "recurrent")
                cells[i] = _Layer(cells[i], mask)
        stack = hk.DeepRNN(cells)
        state = jax.tree.map(
            lambda leaf: leaf.astype(tokens_BTD.dtype), stack.initial_state(batch_size)
        )
        features, _ = hk.dynamic_unroll(stack, tokens_BTD, state, time_major=False)
        return features


# 'rnn' is 'vanilla_rnn' in the original.
for _name, _cell in (("lstm", hk.LSTM), ("gru", hk.GRU), ("rnn", hk.VanillaRNN)):
    SEQUENCE_MODELS.register(_name, problems=check.recurrent_problems)(
        functools.partial(RecurrentStack, _cell)
    )
