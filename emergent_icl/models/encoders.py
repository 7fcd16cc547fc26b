"""Encoders: one example (image, vector, or integer) -> one embedding.

Each is built by a function registered in `ENCODERS` and called inside a Haiku transform.
"""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from emergent_icl.config.registry import ENCODERS
from emergent_icl.models import check
from emergent_icl.models.normalization import MeanOverDevices
from emergent_icl.models.resnet import ResNet

# (examples [N, ...], is_training) -> embeddings [N, D]
Encoder = Callable[[jax.Array, bool], jax.Array]


@ENCODERS.register("resnet", reads=("image",), is_normalized=True, problems=check.resnet_problems)
def resnet(model: ml_collections.ConfigDict, mean_over_devices: MeanOverDevices) -> Encoder:
    """The paper's ResNet, for images [N, H, W, 1] (reference: embed_type 'resnet')."""
    return ResNet(model.resnet, mean_over_devices)


@ENCODERS.register("mlp", reads=("image", "vector"), has_convolutions=False)
def mlp(model: ml_collections.ConfigDict, _: MeanOverDevices) -> Encoder:
    """Flatten, hidden ReLU layers, linear output: for small images, vectors, and CPUs."""
    layers = hk.nets.MLP((*model.mlp.hidden_sizes, model.embedding_size), name="mlp_encoder")
    return lambda examples, is_training: layers(_flatten(examples))


@ENCODERS.register("linear", reads=("image", "vector"), has_convolutions=False)
def linear(model: ml_collections.ConfigDict, _: MeanOverDevices) -> Encoder:
    """Flatten and project (reference implementation: embed_type 'linear')."""
    layer = hk.Linear(model.embedding_size, name="linear_encoder")
    return lambda examples, is_training: layer(_flatten(examples))


@ENCODERS.register(
    "embedding", reads=("integer",), has_convolutions=False, problems=check.symbol_problems
)
def embedding(model: ml_collections.ConfigDict, _: MeanOverDevices) -> Encoder:
    """A table over integer examples [N] below `model.num_symbols` (reference: 'tokens')."""
    table = hk.Embed(model.num_symbols, model.embedding_size, name="symbol_encoder")
    return lambda examples, is_training: table(examples)


def _flatten(examples: jax.Array) -> jax.Array:
    return jnp.reshape(examples, (examples.shape[0], -1))
