"""config.model -> the network, as pure functions of (parameters, BatchNorm state, key)."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import haiku as hk
import jax
import jax.numpy as jnp
import jmp
import ml_collections

from emergent_icl.config.registry import ENCODERS, SEQUENCE_MODELS
from emergent_icl.data.bank import Array
from emergent_icl.models.dropout import Keys
from emergent_icl.models.normalization import (
    MeanOverDevices,
    cast_parameters,
    make_policy,
    one_device,
)
from emergent_icl.models.tokens import TokenEmbedding

Params = Any
BatchStats = Any

# (tokens [B, T, D], keys for dropout) -> features [B, T, F], causal
# A model whose attribute `has_attention` or `has_query_alone` is true also accepts `with_attention`
# or `query_alone`; see Transformer.
SequenceModel = Callable[..., Any]

# Where logits are computed: at the query, at every example, or at every token.
At = Literal["query", "examples", "tokens"]


class Parts:
    """The modules of a network, inside a Haiku transform, with a method for each stage.

    Examples -> embeddings -> tokens -> features -> logits.
    """

    def __init__(
        self,
        model: ml_collections.ConfigDict,
        num_labels: int,
        num_positions: int,
        mean_over_devices: MeanOverDevices,
    ) -> None:
        """Builds the modules of `config.model`; see `make_network` for the arguments."""
        self.encode = ENCODERS[model.encoder](model, mean_over_devices)
        self.tokens = TokenEmbedding(model, num_labels, num_positions)
        self.sequence_model: SequenceModel = SEQUENCE_MODELS[model.sequence_model](model)
        widths = {f"head_hidden_{i}": width for i, width in enumerate(model.head_hidden_sizes)}
        self.head = [
            hk.Linear(width, w_init=hk.initializers.VarianceScaling(1.0), name=name)
            for name, width in (widths | {"head": num_labels}).items()
        ]
        # Interleaved tokens: examples at even positions, labels between them.
        self.stride = 2 if model.tokens == "interleaved" else 1

    def features(self, tokens_BTD: jax.Array, keys: Keys, at: At) -> jax.Array:
        """Tokens [B, T, D] -> features [B, F] of the query, [B, S, F] or [B, T, F]."""
        if at == "query" and getattr(self.sequence_model, "has_query_alone", False):
            return self.sequence_model(tokens_BTD, keys, query_alone=True)[:, -1]
        features_BTF = self.sequence_model(tokens_BTD, keys)
        if at == "query":
            return features_BTF[:, -1]
        return features_BTF[:, :: self.stride] if at == "examples" else features_BTF

    def logits(self, features: jax.Array) -> jax.Array:
        """Features [..., F] -> logits [..., L]."""
        for layer in self.head[:-1]:
            features = jax.nn.relu(layer(features))
        return self.head[-1](features)

    def predict(
        self, embeddings_BSD: Array, labels_BS: Array, keys: Keys, is_training: bool, at: At
    ) -> jax.Array:
        """Embeddings -> logits; see `Network.predict`."""
        tokens_BTD = self.tokens(embeddings_BSD, labels_BS, keys, is_training)
        return self.logits(self.features(tokens_BTD, keys if is_training else None, at))

    def attend(self, embeddings_BSD: Array, labels_BS: Array, keys: Keys) -> jax.Array | None:
        """Embeddings -> attention weights; see `Network.attend`."""
        if not getattr(self.sequence_model, "has_attention", False):
            return None
        tokens_BTD = self.tokens(embeddings_BSD, labels_BS, keys, False)
        return self.sequence_model(tokens_BTD, None, with_attention=True)[1]

    def init(self, examples: Array, labels_BS: Array) -> jax.Array:
        """Runs every stage once, to create the parameters."""
        embeddings = jnp.reshape(self.encode(_flatten(examples), True), (*labels_BS.shape, -1))
        return self.predict(embeddings, labels_BS, None, True, "query")


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """The model as pure functions: `Parts`, transformed, with a precision policy.

    Outputs are in full precision regardless of `config.model.precision`: float32, or float64 under
    `jax_enable_x64`.
    """

    parts: hk.MultiTransformedWithState
    policy: jmp.Policy

    def init(self, key: jax.Array, examples: Array, labels_BS: Array) -> tuple[Params, BatchStats]:
        """(params, batch_stats) for examples [B, S, ...] and labels [B, S]."""
        return self.policy.cast_to_param(self.parts.init(key, examples, labels_BS))

    def encode(
        self, params: Params, stats: BatchStats, examples: Array, is_training: bool
    ) -> tuple[jax.Array, BatchStats]:
        """Examples [N, ...] -> (embeddings [N, D], batch_stats)."""
        return self._run("encode", params, stats, examples, is_training)

    def embed(
        self, params: Params, stats: BatchStats, examples: Array, is_training: bool
    ) -> tuple[jax.Array, BatchStats]:
        """`encode` for sequences: examples [B, S, ...] -> (embeddings [B, S, D], batch_stats)."""
        flat_ND, stats = self.encode(params, stats, _flatten(examples), is_training)
        return jnp.reshape(flat_ND, (*examples.shape[:2], -1)), stats

    def predict(
        self,
        params: Params,
        keys: Keys,
        embeddings_BSD: Array,
        labels_BS: Array,
        is_training: bool = False,
        at: At = "query",
    ) -> jax.Array:
        """Embeddings and labels -> logits [B, L], [B, S, L] at examples, or [B, T, L] at tokens.

        The query's label is not read.
        """
        return self._run("predict", params, {}, embeddings_BSD, labels_BS, keys, is_training, at)[0]

    def apply(
        self,
        params: Params,
        stats: BatchStats,
        keys: Keys,
        examples: Array,
        labels_BS: Array,
        is_training: bool,
        at: At = "query",
    ) -> tuple[jax.Array, BatchStats]:
        """`predict` after `embed`: examples [B, S, ...] -> (logits, batch_stats)."""
        embeddings_BSD, stats = self.embed(params, stats, examples, is_training)
        return self.predict(params, keys, embeddings_BSD, labels_BS, is_training, at), stats

    def attend(
        self, params: Params, keys: Keys, embeddings_BSD: Array, labels_BS: Array
    ) -> jax.Array | None:
        """Attention weights [layers, B, A, T, T] in evaluation; None if the model has none."""
        return self._run("attend", params, {}, embeddings_BSD, labels_BS, keys)[0]

    def _run(
        self, stage: str, params: Params, stats: BatchStats, inputs: Array, *arguments: Any
    ) -> tuple[Any, BatchStats]:
        """A stage of `Parts`, in the policy's precision."""
        params, inputs = cast_parameters(self.policy, params), self.policy.cast_to_compute(inputs)
        outputs, stats = self.parts.apply[stage](params, stats, None, inputs, *arguments)
        return self.policy.cast_to_output(outputs), stats


def make_network(
    model: ml_collections.ConfigDict,
    num_labels: int,
    num_positions: int = 0,
    mean_over_devices: MeanOverDevices = one_device,
) -> Network:
    """Builds the network of `config.model` for L = `num_labels`.

    `num_positions`, the largest number of tokens, is read by learned positions only. In training,
    `mean_over_devices` averages the statistics of BatchNorm.
    """

    def build() -> tuple[Callable[..., jax.Array], dict[str, Callable[..., Any]]]:
        parts = Parts(model, num_labels, num_positions, mean_over_devices)
        return parts.init, {name: getattr(parts, name) for name in ("encode", "predict", "attend")}

    return Network(hk.multi_transform_with_state(build), make_policy(model.precision))


def _flatten(examples: Array) -> jax.Array:
    return jnp.reshape(examples, (-1, *examples.shape[2:]))
