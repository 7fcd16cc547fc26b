"""config.model -> the network, as pure functions of (parameters, BatchNorm state, key)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from emergent_icl.modules.embedding import TokenEmbedding
from emergent_icl.modules.encoders import ENCODERS
from emergent_icl.modules.recurrent import RecurrentStack
from emergent_icl.modules.transformer import Transformer
from emergent_icl.registry import Registry

Params = Any
BatchStats = Any

# tokens [B, T, D] -> features [B, T, F], causal
SequenceModel = Callable[[jax.Array], jax.Array]
SequenceModelFactory = Callable[[ml_collections.ConfigDict], SequenceModel]
SEQUENCE_MODELS: Registry[SequenceModelFactory] = Registry("sequence model")


@SEQUENCE_MODELS.register("transformer")
def transformer(model: ml_collections.ConfigDict) -> SequenceModel:
    """The paper's causal transformer."""
    return Transformer(model.num_layers, model.num_heads, model.mlp_ratio, model.scan_layers)


@SEQUENCE_MODELS.register("lstm")
def lstm(model: ml_collections.ConfigDict) -> SequenceModel:
    """A stack of LSTMs (original: seq_model 'lstm')."""
    return RecurrentStack(lambda size, name: hk.LSTM(size, name), model.num_layers, model.rnn_size)


@SEQUENCE_MODELS.register("rnn")
def rnn(model: ml_collections.ConfigDict) -> SequenceModel:
    """A stack of vanilla RNNs (original: seq_model 'vanilla_rnn')."""
    return RecurrentStack(
        lambda size, name: hk.VanillaRNN(size, name=name), model.num_layers, model.rnn_size
    )


class Network(NamedTuple):
    """The model as pure functions.

    Attributes:
      init: (key, examples [B, S, ...], labels [B, S]) -> (params, batch_stats).
      encode: (params, batch_stats, key, examples [N, ...], is_training) ->
        (embeddings [N, D], batch_stats). Every example on its own, but for the
        BatchNorm statistics in training.
      predict: (params, key, embeddings [B, S, D], labels [B, S], every_token=False) ->
        logits [B, L] of the query, or [B, T, L] of every token. The query's label
        is not read.
      apply: (params, batch_stats, key, examples [B, S, ...], labels [B, S],
        is_training, every_token=False) -> (logits, batch_stats): predict after encode.
    """

    init: Callable[..., tuple[Params, BatchStats]]
    encode: Callable[..., tuple[jax.Array, BatchStats]]
    predict: Callable[..., jax.Array]
    apply: Callable[..., tuple[jax.Array, BatchStats]]


def make_network(
    model: ml_collections.ConfigDict, num_labels: int, axis_name: str | None = None
) -> Network:
    """Builds the network of `config.model`.

    Args:
      model: the model section of the config.
      num_labels: L, the capacity of label table and head.
      axis_name: the mapped axis over which BatchNorm is synchronised in training;
        None for init, evaluation and anything else outside `pmap`.
    """

    def build() -> tuple[Callable, tuple[Callable, Callable]]:
        encoder = ENCODERS[model.encoder](model, axis_name)
        tokens = TokenEmbedding(num_labels, model.embedding_size, model.tokens)
        sequence_model = SEQUENCE_MODELS[model.sequence_model](model)
        head = hk.Linear(num_labels, w_init=hk.initializers.VarianceScaling(1.0), name="head")

        def encode(examples: jax.Array, is_training: bool) -> jax.Array:
            return encoder(examples, is_training)

        def predict(
            embeddings_BSD: jax.Array, labels_BS: jax.Array, every_token: bool
        ) -> jax.Array:
            features_BTF = sequence_model(tokens(embeddings_BSD, labels_BS))
            # The head is wide (one column a label): only the query goes through it.
            return head(features_BTF if every_token else features_BTF[:, -1])

        def init(examples: jax.Array, labels: jax.Array) -> jax.Array:
            embeddings = _unflatten(encode(_flatten(examples), True), labels)
            return predict(embeddings, labels, False)

        return init, (encode, predict)

    transformed = hk.multi_transform_with_state(build)
    apply_encode, apply_predict = transformed.apply

    def encode(
        params: Params,
        stats: BatchStats,
        key: jax.Array | None,
        examples: jax.Array,
        is_training: bool,
    ) -> tuple[jax.Array, BatchStats]:
        return apply_encode(params, stats, key, examples, is_training)

    def predict(
        params: Params,
        key: jax.Array | None,
        embeddings: jax.Array,
        labels: jax.Array,
        every_token: bool = False,
    ) -> jax.Array:
        return apply_predict(params, {}, key, embeddings, labels, every_token)[0]

    def apply(
        params: Params,
        stats: BatchStats,
        key: jax.Array | None,
        examples: jax.Array,
        labels: jax.Array,
        is_training: bool,
        every_token: bool = False,
    ) -> tuple[jax.Array, BatchStats]:
        flat, stats = encode(params, stats, key, _flatten(examples), is_training)
        return predict(params, key, _unflatten(flat, labels), labels, every_token), stats

    return Network(transformed.init, encode, predict, apply)


def _flatten(examples: jax.Array) -> jax.Array:
    return jnp.reshape(examples, (-1, *examples.shape[2:]))


def _unflatten(flat_ND: jax.Array, labels_BS: jax.Array) -> jax.Array:
    return jnp.reshape(flat_ND, (*labels_BS.shape, -1))
