"""config.model -> the network, as pure functions of (parameters, BatchNorm state, key)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from emergent_icl.config.registry import Registry
from emergent_icl.models.encoders import ENCODERS
from emergent_icl.models.normalization import (
    MeanOverDevices,
    cast_parameters,
    make_policy,
    one_device,
)
from emergent_icl.models.recurrent import RecurrentStack
from emergent_icl.models.tokens import TokenEmbedding
from emergent_icl.models.transformer import Transformer

Params = Any
BatchStats = Any

# (tokens [B, T, D], keys [B, 2] for dropout or None) -> features [B, T, F], causal
# It may have the attributes `has_attention` (then it can be called `with_attention=True`, see
# Transformer) and `has_query_alone` (then `query_alone=True` asks for features [B, 1, F]).
SequenceModel = Callable[[jax.Array, jax.Array | None], jax.Array]
SequenceModelFactory = Callable[[ml_collections.ConfigDict], SequenceModel]
SEQUENCE_MODELS: Registry[SequenceModelFactory] = Registry("sequence model")

# Where logits are computed: at the query, at every example, or at every token.
At = Literal["query", "examples", "tokens"]


@SEQUENCE_MODELS.register("transformer")
def transformer(model: ml_collections.ConfigDict) -> SequenceModel:
    """The paper's causal transformer."""
    return Transformer(model)


@SEQUENCE_MODELS.register("lstm")
def lstm(model: ml_collections.ConfigDict) -> SequenceModel:
    """A stack of LSTMs (original: seq_model 'lstm')."""
    return RecurrentStack(lambda size, name: hk.LSTM(size, name), model)


@SEQUENCE_MODELS.register("gru")
def gru(model: ml_collections.ConfigDict) -> SequenceModel:
    """A stack of GRUs."""
    return RecurrentStack(lambda size, name: hk.GRU(size, name=name), model)


@SEQUENCE_MODELS.register("rnn")
def rnn(model: ml_collections.ConfigDict) -> SequenceModel:
    """A stack of vanilla RNNs (original: seq_model 'vanilla_rnn')."""
    return RecurrentStack(lambda size, name: hk.VanillaRNN(size, name=name), model)


class Network(NamedTuple):
    """The model as pure functions.

    `keys` are [B, 2], one a sequence, and only read by dropout; None drops nothing.

    Attributes:
      init: (key, examples [B, S, ...], labels [B, S]) -> (params, batch_stats).
      encode: (params, batch_stats, examples [N, ...], is_training) ->
        (embeddings [N, D], batch_stats). Every example on its own, but for the
        BatchNorm statistics in training.
      predict: (params, keys, embeddings [B, S, D], labels [B, S], is_training=False,
        at='query') -> logits float32 [B, L] of the query, [B, S, L] of every example or
        [B, T, L] of every token. The query's label is not read.
      apply: (params, batch_stats, keys, examples [B, S, ...], labels [B, S], is_training,
        at='query') -> (logits, batch_stats): predict after encode.
      attend: (params, keys, embeddings [B, S, D], labels [B, S]) -> attention weights
        float32 [layers, B, A, T, T] in evaluation; None for a sequence model without any.
    """

    init: Callable[..., tuple[Params, BatchStats]]
    encode: Callable[..., tuple[jax.Array, BatchStats]]
    predict: Callable[..., jax.Array]
    apply: Callable[..., tuple[jax.Array, BatchStats]]
    attend: Callable[..., jax.Array | None]


class Model(NamedTuple):
    """The parts of the network, inside a Haiku transform."""

    encode: Callable[[jax.Array, bool], jax.Array]
    predict: Callable[[jax.Array, jax.Array, jax.Array | None, bool, At], jax.Array]
    attend: Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array | None]


def build_model(
    model: ml_collections.ConfigDict,
    num_labels: int,
    num_positions: int,
    mean_over_devices: MeanOverDevices,
) -> Model:
    """Builds the modules of `config.model`; see `make_network` for the arguments."""
    encoder = ENCODERS[model.encoder](model, mean_over_devices)
    tokens = TokenEmbedding(model, num_labels, num_positions)
    sequence_model = SEQUENCE_MODELS[model.sequence_model](model)
    hidden = [
        hk.Linear(size, w_init=hk.initializers.VarianceScaling(1.0), name=f"head_hidden_{i}")
        for i, size in enumerate(model.head_hidden_sizes)
    ]
    head = hk.Linear(num_labels, w_init=hk.initializers.VarianceScaling(1.0), name="head")
    # Interleaved tokens: examples at even places, labels between them.
    stride = 2 if model.tokens == "interleaved" else 1

    def predict(
        embeddings_BSD: jax.Array,
        labels_BS: jax.Array,
        keys: jax.Array | None,
        is_training: bool,
        at: At,
    ) -> jax.Array:
        tokens_BTD = tokens(embeddings_BSD, labels_BS, keys, is_training)
        keys = keys if is_training else None
        if at == "query" and getattr(sequence_model, "has_query_alone", False):
            features = sequence_model(tokens_BTD, keys, query_alone=True)
        else:
            features = sequence_model(tokens_BTD, keys)
        # The head is wide (one column a label): only what is asked for goes through it.
        if at == "query":
            features = features[:, -1]
        elif at == "examples":
            features = features[:, ::stride]
        for layer in hidden:
            features = jax.nn.relu(layer(features))
        return head(features)

    def attend(
        embeddings_BSD: jax.Array, labels_BS: jax.Array, keys: jax.Array | None
    ) -> jax.Array | None:
        if not getattr(sequence_model, "has_attention", False):
            return None
        tokens_BTD = tokens(embeddings_BSD, labels_BS, keys, False)
        return sequence_model(tokens_BTD, None, with_attention=True)[1]

    return Model(encoder, predict, attend)


def make_network(
    model: ml_collections.ConfigDict,
    num_labels: int,
    num_positions: int = 0,
    mean_over_devices: MeanOverDevices = one_device,
) -> Network:
    """Builds the network of `config.model`.

    Args:
      model: the model section of the config.
      num_labels: L, the capacity of label table and head.
      num_positions: most tokens of a sequence; read by learned positions alone.
      mean_over_devices: by which BatchNorm shares its statistics in training, where several
        devices share a batch.
    """
    policy = make_policy(model.precision)

    def build() -> tuple[Callable, Model]:
        parts = build_model(model, num_labels, num_positions, mean_over_devices)

        def init(examples: jax.Array, labels: jax.Array) -> jax.Array:
            embeddings = _unflatten(parts.encode(_flatten(examples), True), labels)
            return parts.predict(embeddings, labels, None, True, "query")

        return init, parts

    transformed = hk.multi_transform_with_state(build)
    applied: Model = transformed.apply

    def encode(
        params: Params, stats: BatchStats, examples: jax.Array, is_training: bool
    ) -> tuple[jax.Array, BatchStats]:
        params, examples = cast_parameters(policy, params), policy.cast_to_compute(examples)
        embeddings, stats = applied.encode(params, stats, None, examples, is_training)
        return policy.cast_to_output(embeddings), stats

    def predict(
        params: Params,
        keys: jax.Array | None,
        embeddings: jax.Array,
        labels: jax.Array,
        is_training: bool = False,
        at: At = "query",
    ) -> jax.Array:
        params, embeddings = cast_parameters(policy, params), policy.cast_to_compute(embeddings)
        logits, _ = applied.predict(params, {}, None, embeddings, labels, keys, is_training, at)
        return policy.cast_to_output(logits)

    def apply(
        params: Params,
        stats: BatchStats,
        keys: jax.Array | None,
        examples: jax.Array,
        labels: jax.Array,
        is_training: bool,
        at: At = "query",
    ) -> tuple[jax.Array, BatchStats]:
        flat, stats = encode(params, stats, _flatten(examples), is_training)
        return predict(params, keys, _unflatten(flat, labels), labels, is_training, at), stats

    def attend(
        params: Params, keys: jax.Array | None, embeddings: jax.Array, labels: jax.Array
    ) -> jax.Array | None:
        params, embeddings = cast_parameters(policy, params), policy.cast_to_compute(embeddings)
        return applied.attend(params, {}, None, embeddings, labels, keys)[0]

    return Network(transformed.init, encode, predict, apply, attend)


def _flatten(examples: jax.Array) -> jax.Array:
    return jnp.reshape(examples, (-1, *examples.shape[2:]))


def _unflatten(flat_ND: jax.Array, labels_BS: jax.Array) -> jax.Array:
    return jnp.reshape(flat_ND, (*labels_BS.shape, -1))
