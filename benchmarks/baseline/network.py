"""The paper's model (section 2.2) out of Haiku's own parts, as plainly as it can be written."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

STEM_CHANNELS = 64
BATCH_NORM = {"decay_rate": 0.9, "eps": 1e-5}


def make_baseline_network(
    model: ml_collections.ConfigDict, num_labels: int
) -> hk.TransformedWithState:
    """Builds (examples [B, S, H, W, 1], labels [B, S], is_training) -> logits [B, T, L].

    Args:
      model: config.model, with encoder 'resnet' or 'mlp' and a transformer.
      num_labels: L.
    """

    def forward(examples: jax.Array, labels_BS: jax.Array, is_training: bool) -> jax.Array:
        batch, length = labels_BS.shape
        flat = jnp.reshape(examples, (batch * length, *examples.shape[2:]))
        encode = {"resnet": _resnet, "mlp": _mlp}[model.encoder]
        embeddings_BSD = jnp.reshape(encode(flat, is_training, model), (batch, length, -1))
        x_BTD = _tokens(embeddings_BSD, labels_BS, model.embedding_size, num_labels)
        for i in range(model.num_layers):
            x_BTD = _block(x_BTD, model, f"block_{i}")
        return _linear(num_labels, "head")(_layer_norm("final_norm")(x_BTD))

    return hk.transform_with_state(forward)


def _resnet(x: jax.Array, is_training: bool, model: ml_collections.ConfigDict) -> jax.Array:
    x = hk.Conv2D(STEM_CHANNELS, 7, 2, with_bias=False, name="initial_conv")(x)
    norm = hk.BatchNorm(True, True, name="initial_batchnorm", **BATCH_NORM)
    x = jax.nn.relu(norm(x, is_training))
    x = hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    options = model.resnet
    for i, (channels, count) in enumerate(
        zip(options.channels, options.blocks_per_group, strict=True)
    ):
        group = hk.nets.ResNet.BlockGroup(
            channels=channels,
            num_blocks=count,
            stride=2 if i else 1,
            bn_config={"create_scale": True, "create_offset": True, **BATCH_NORM},
            resnet_v2=False,
            bottleneck=True,
            use_projection=True,
            name=f"group_{i}",
        )
        x = group(x, is_training, test_local_stats=False)
    return jnp.mean(x, axis=(1, 2))


def _mlp(x: jax.Array, is_training: bool, model: ml_collections.ConfigDict) -> jax.Array:
    del is_training
    layers = hk.nets.MLP((*model.mlp.hidden_sizes, model.embedding_size), name="mlp_encoder")
    return layers(hk.Flatten()(x))


def _tokens(
    embeddings_BSD: jax.Array, labels_BS: jax.Array, width: int, num_labels: int
) -> jax.Array:
    """Interleaves examples and labels, and adds positions; [B, 2S - 1, D]."""
    init = hk.initializers.TruncatedNormal(0.02)
    table = hk.Embed(num_labels, width, w_init=init, name="labels")
    tokens = []
    for i in range(labels_BS.shape[1] - 1):
        tokens += [embeddings_BSD[:, i], table(labels_BS[:, i])]
    tokens_BTD = jnp.stack([*tokens, embeddings_BSD[:, -1]], axis=1)
    places = np.arange(tokens_BTD.shape[1])
    angles = np.outer(places, 1 / 30 ** (np.arange(0, width, 2) / width))
    return tokens_BTD + np.hstack([np.sin(angles), np.cos(angles)]).astype(np.float32)


def _block(x_BTD: jax.Array, model: ml_collections.ConfigDict, name: str) -> jax.Array:
    width = x_BTD.shape[-1]
    normed = _layer_norm(f"{name}_attention_norm")(x_BTD)
    x_BTD = x_BTD + _attention(normed, model.num_heads, f"{name}_attention")
    hidden = _layer_norm(f"{name}_mlp_norm")(x_BTD)
    hidden = jax.nn.gelu(_linear(model.mlp_ratio * width, f"{name}_mlp_widen")(hidden))
    return x_BTD + _linear(width, f"{name}_mlp_narrow")(hidden)


def _attention(x_BTD: jax.Array, num_heads: int, name: str) -> jax.Array:
    batch, length, width = x_BTD.shape
    size = width // num_heads

    def heads(part: str) -> jax.Array:
        projected = _linear(width, f"{name}_{part}")(x_BTD)
        return jnp.reshape(projected, (batch, length, num_heads, size))

    scores = jnp.einsum("bthd,bThd->bhtT", heads("query"), heads("key")) / np.sqrt(size)
    mask = np.tril(np.ones((1, 1, length, length), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30))
    mixed = jnp.einsum("bhtT,bThd->bthd", weights, heads("value"))
    return _linear(width, f"{name}_output")(jnp.reshape(mixed, (batch, length, width)))


def _linear(size: int, name: str) -> hk.Linear:
    return hk.Linear(size, w_init=hk.initializers.VarianceScaling(1.0), name=name)


def _layer_norm(name: str) -> hk.LayerNorm:
    return hk.LayerNorm(axis=-1, create_scale=True, create_offset=True, name=name)
