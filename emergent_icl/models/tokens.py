"""Example embeddings and labels -> the token sequence that a model reads."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from emergent_icl.data.bank import Array
from emergent_icl.models.dropout import Keys, dropout

TABLE_INIT_STDDEV = 0.02
POSITION_BASE = 30.0


def token_width(embedding_size: int, layout: str) -> int:
    """Width D of a token; concatenated tokens contain an example and its label."""
    return embedding_size * (2 if layout == "concatenated" else 1)


def num_tokens(seq_len: int, layout: str) -> int:
    """Number T of tokens of a sequence of S examples."""
    return seq_len if layout == "concatenated" else 2 * seq_len - 1


def position_capacity(model: ml_collections.ConfigDict, seq_len: int) -> int:
    """`model.num_positions`; by default, the tokens of a sequence of `seq_len` examples."""
    given = model.num_positions
    return num_tokens(seq_len, model.tokens) if given is None else given


def sinusoidal_positions(length: int, width: int) -> np.ndarray:
    """Sinusoidal position encodings, float32 [length, width]: sines, then cosines.

    Angular frequencies are 1 / 30^(i/width) for i = 0, 2, ... (paper section 2.2; sequences are too
    short for the usual base, 10,000).
    """
    frequencies = POSITION_BASE ** (-np.arange(0, width, 2) / width)
    angles = np.arange(length)[:, None] * frequencies[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


@dataclasses.dataclass
class TokenEmbedding(hk.Module):
    """Embeds labels, combines them with example embeddings, and adds positions.

    `interleaved` (the paper): x1 y1 x2 y2 ... xS, so T = 2S - 1. `concatenated`: (x1, y1) ... (xS,
    dummy), so T = S, and tokens are twice as wide. The query's label is never read.
    """

    model: ml_collections.ConfigDict
    num_labels: int
    num_positions: int  # rows of the table of learned positions
    name: str = "tokens"

    def __call__(
        self, embeddings_BSD: Array, labels_BS: Array, keys: Keys, is_training: bool
    ) -> jax.Array:
        """Embeddings and labels, with the query last -> tokens [B, T, token_width].

        Positional dropout applies in training only. Example dropout also applies in evaluation, as
        noise on the input (reference implementation: example_dropout_prob).
        """
        model, concatenated = self.model, self.model.tokens == "concatenated"
        embeddings_BSD = dropout(embeddings_BSD, model.example_dropout, keys, "examples")
        shape = (self.num_labels + concatenated, model.embedding_size)
        init = hk.initializers.TruncatedNormal(TABLE_INIT_STDDEV)
        table = hk.get_parameter("labels", shape, init=init)
        context_labels = labels_BS[:, :-1]
        if concatenated:
            dummy = jnp.full_like(labels_BS[:, -1:], self.num_labels)
            labels = table[jnp.concatenate([context_labels, dummy], axis=1)]
            tokens_BTD = jnp.concatenate([embeddings_BSD, labels], axis=-1)
        else:
            batch, length, width = embeddings_BSD.shape
            pairs = jnp.stack([embeddings_BSD[:, :-1], table[context_labels]], axis=2)
            context = jnp.reshape(pairs, (batch, 2 * (length - 1), width))
            tokens_BTD = jnp.concatenate([context, embeddings_BSD[:, -1:]], axis=1)

        length, width = tokens_BTD.shape[1:]
        if model.positions == "sinusoidal":
            positions_TD = sinusoidal_positions(length, width)
        elif model.positions == "learned":
            shape = (self.num_positions, width)
            positions_TD = hk.get_parameter("positions", shape, init=init)[:length]
        else:
            return tokens_BTD
        positions_BTD = jnp.broadcast_to(positions_TD.astype(tokens_BTD.dtype), tokens_BTD.shape)
        keys = keys if is_training else None
        return tokens_BTD + dropout(positions_BTD, model.positional_dropout, keys, "positions")
