"""Recurrent baselines: stacks of vanilla RNN or LSTM cells (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
import jax


class RecurrentStack(hk.Module):
    """Layers of one cell type, each reading the outputs of the one below."""

    def __init__(
        self,
        make_cell: Callable[[int, str], hk.RNNCore],
        num_layers: int,
        hidden_size: int,
        name: str = "recurrent",
    ) -> None:
        super().__init__(name=name)
        self.make_cell, self.num_layers, self.hidden_size = make_cell, num_layers, hidden_size

    def __call__(self, tokens_BTD: jax.Array) -> jax.Array:
        """Maps tokens [B, T, D] to features [B, T, hidden_size]; the first state is zero."""
        cells = [self.make_cell(self.hidden_size, f"layer_{i}") for i in range(self.num_layers)]
        stack = hk.DeepRNN(cells)
        features, _ = hk.dynamic_unroll(
            stack, tokens_BTD, stack.initial_state(tokens_BTD.shape[0]), time_major=False
        )
        return features
