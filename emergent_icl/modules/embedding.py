"""From example embeddings and labels to the token sequence that a model reads."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

TOKEN_LAYOUTS = ("interleaved", "concatenated")
LABEL_INIT_STDDEV = 0.02
POSITION_BASE = 30.0


def token_width(embedding_size: int, layout: str) -> int:
    """Width D of a token: concatenated tokens hold an example and its label side by side."""
    return embedding_size * (2 if layout == "concatenated" else 1)


def sinusoidal_positions(length: int, width: int) -> np.ndarray:
    """Sinusoidal position encodings, float32 [length, width]: sines, then cosines.

    Angular frequencies are 1 / 30^(i/width) for i = 0, 2, ... (paper section 2.2;
    the short sequences are why the base is 30 and not 10,000).
    """
    frequencies = POSITION_BASE ** (-np.arange(0, width, 2) / width)
    angles = np.arange(length)[:, None] * frequencies[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class TokenEmbedding(hk.Module):
    """Label embeddings beside example embeddings, plus positions.

    `interleaved` (the paper): x1 y1 x2 y2 ... xS, so T = 2S - 1. `concatenated`:
    (x1, y1) ... (xS, dummy), so T = S and tokens are twice as wide. The query's
    label is never read in either.
    """

    def __init__(
        self, num_labels: int, embedding_size: int, layout: str, name: str = "tokens"
    ) -> None:
        super().__init__(name=name)
        self.num_labels, self.embedding_size, self.layout = num_labels, embedding_size, layout

    def __call__(self, embeddings_BSD: jax.Array, labels_BS: jax.Array) -> jax.Array:
        """Returns tokens [B, T, token_width].

        Args:
          embeddings_BSD: float [B, S, embedding_size]; the query is the last.
          labels_BS: int [B, S], in [0, num_labels); the query's is ignored.
        """
        concatenated = self.layout == "concatenated"
        table = hk.get_parameter(
            "labels",
            (self.num_labels + concatenated, self.embedding_size),
            init=hk.initializers.TruncatedNormal(LABEL_INIT_STDDEV),
        )
        context_labels = labels_BS[:, :-1]
        if concatenated:
            dummy = jnp.full_like(labels_BS[:, -1:], self.num_labels)
            labels = table[jnp.concatenate([context_labels, dummy], axis=1)]
            tokens = jnp.concatenate([embeddings_BSD, labels], axis=-1)
        else:
            batch, length, width = embeddings_BSD.shape
            pairs = jnp.stack([embeddings_BSD[:, :-1], table[context_labels]], axis=2)
            context = jnp.reshape(pairs, (batch, 2 * (length - 1), width))
            tokens = jnp.concatenate([context, embeddings_BSD[:, -1:]], axis=1)
        return tokens + sinusoidal_positions(*tokens.shape[1:])[None]
