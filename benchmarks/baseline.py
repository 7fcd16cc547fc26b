"""The approach of the reference implementation, reimplemented for comparisons of speed.

Model, data, and loss are those of this library; what differs is how they are computed: plain
convolutions and pooling, separate layers, logits of every token, images made in Python one
sequence at a time and fed as floats, metrics fetched at every step, evaluation of one sequence at
a time. It runs in the same process, with huge pages, so the comparison is conservative.
"""

import itertools
from collections.abc import Generator
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from benchmarks.measure import Rival, Trainer, repeated
from emergent_icl.config.configs import default_config, flatten
from emergent_icl.data.bank import WHITE
from emergent_icl.data.tensorflow import import_tensorflow
from emergent_icl.models.normalization import DECAY, EPSILON, layer_norm
from emergent_icl.models.tokens import TokenEmbedding
from emergent_icl.training.build import Experiment
from emergent_icl.training.optimizers import hyper_from_config, paper
from emergent_icl.training.update import Metrics

# Options that must have their defaults, which are the paper's setting.
AS_BY_DEFAULT = (
    "data.augment", "data.noise_scale", "data.random_rare_images",
    "model.sequence_model", "model.tokens", "model.positions",
    "model.dropout", "model.example_dropout", "model.positional_dropout",
    "model.attention_only", "model.head_hidden_sizes",
    "training.interim_weight", "training.optimizer.name",
)  # fmt: skip


def why_not(config: ml_collections.ConfigDict) -> str | None:
    """Why there is no baseline for a config; None if there is one."""
    given, default = (flatten(one.to_dict()) for one in (config, default_config()))
    allowed = {
        "data.source": ("omniglot", "glyphs"),
        "model.encoder": tuple(_ENCODERS),
        **{path: (default[path],) for path in AS_BY_DEFAULT},
    }
    missing = [
        f"{path} = {' or '.join(map(repr, values))}"
        for path, values in allowed.items()
        if given[path] not in values
    ]
    return f"the baseline requires {', '.join(missing)}" if missing else None


# -------------------------------------------------------------------------- sequences

# (images float32 [S, H, W, 1] in [0, 1], labels int32 [S]); batched: [B, S, ...] and [B, S]
Sequence = tuple[np.ndarray, np.ndarray]


def sequences(experiment: Experiment, mode: str | None = None) -> Generator[Sequence]:
    """Yields training sequences, or those of an evaluation mode, indefinitely."""
    task, rng = experiment.task, np.random.default_rng(0)
    kind = task.training if mode is None else task.evaluation[mode]
    while True:
        (class_ids,), (exemplar_ids,), (labels,) = kind.sample(rng, 1)
        images = experiment.bank.examples[class_ids, exemplar_ids][..., None]
        if experiment.config.data.inverted:
            images = WHITE - images
        yield images.astype(np.float32) / WHITE, labels


def training_batch(experiment: Experiment) -> Sequence:
    """The first training batch, made without TensorFlow."""
    made = itertools.islice(sequences(experiment), experiment.config.training.batch_size)
    images, labels = zip(*made, strict=True)
    return np.stack(images), np.stack(labels)


def training_feed(experiment: Experiment) -> Generator[Sequence]:
    """Yields batches from `tf.data.Dataset.from_generator` indefinitely; close it after use.

    Batches that are buffered when timing starts cost nothing, which favors the baseline.
    """
    tf = import_tensorflow()
    shape = (experiment.task.training.seq_len, *experiment.task.shape.example_shape, 1)
    signature = (tf.TensorSpec(shape, tf.float32), tf.TensorSpec(shape[:1], tf.int32))
    dataset = tf.data.Dataset.from_generator(
        lambda: sequences(experiment), output_signature=signature
    )
    batches = dataset.batch(experiment.config.training.batch_size).prefetch(tf.data.AUTOTUNE)
    # Its threads call back into Python. Closing this generator releases them.
    yield from batches.as_numpy_iterator()


# ---------------------------------------------------------------------------- network

STEM_CHANNELS = 64
BATCH_NORM = {"create_scale": True, "create_offset": True, "decay_rate": DECAY, "eps": EPSILON}
INIT = hk.initializers.VarianceScaling(1.0)


def make_baseline_network(
    model: ml_collections.ConfigDict, num_labels: int
) -> hk.TransformedWithState:
    """Builds (examples [B, S, H, W, 1], labels [B, S], is_training) -> logits [B, T, L].

    `model` is `config.model`, see `why_not`; `num_labels` is L.
    """

    def forward(examples: jax.Array, labels_BS: jax.Array, is_training: bool) -> jax.Array:
        flat = jnp.reshape(examples, (-1, *examples.shape[2:]))
        embeddings = _ENCODERS[model.encoder](flat, is_training, model)
        embeddings_BSD = jnp.reshape(embeddings, (*labels_BS.shape, -1))
        tokens = TokenEmbedding(model, num_labels, num_positions=0)
        x_BTD = tokens(embeddings_BSD, labels_BS, None, is_training)
        for i in range(model.num_layers):
            x_BTD = _block(x_BTD, model, f"block_{i}")
        return hk.Linear(num_labels, w_init=INIT, name="head")(layer_norm("final_norm")(x_BTD))

    return hk.transform_with_state(forward)


def _mlp(x: jax.Array, is_training: bool, model: ml_collections.ConfigDict) -> jax.Array:
    del is_training
    sizes = (*model.mlp.hidden_sizes, model.embedding_size)
    return hk.nets.MLP(sizes, name="mlp_encoder")(hk.Flatten()(x))


def _resnet(x: jax.Array, is_training: bool, model: ml_collections.ConfigDict) -> jax.Array:
    x = hk.Conv2D(STEM_CHANNELS, 7, 2, with_bias=False, name="initial_conv")(x)
    x = jax.nn.relu(hk.BatchNorm(**BATCH_NORM, name="initial_batchnorm")(x, is_training))
    x = hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    groups = zip(model.resnet.channels, model.resnet.blocks_per_group, strict=True)
    for i, (channels, count) in enumerate(groups):
        group = hk.nets.ResNet.BlockGroup(
            channels=channels,
            num_blocks=count,
            stride=2 if i else 1,
            bn_config=BATCH_NORM,
            resnet_v2=False,
            bottleneck=True,
            use_projection=True,
            name=f"group_{i}",
        )
        x = group(x, is_training, test_local_stats=False)
    return jnp.mean(x, axis=(1, 2))


_ENCODERS = {"resnet": _resnet, "mlp": _mlp}


def _block(x_BTD: jax.Array, model: ml_collections.ConfigDict, name: str) -> jax.Array:
    _, length, width = x_BTD.shape
    attend = hk.MultiHeadAttention(
        model.num_heads, width // model.num_heads, w_init=INIT, name=f"{name}_attention"
    )
    normed = layer_norm(f"{name}_attention_norm")(x_BTD)
    x_BTD = x_BTD + attend(normed, normed, normed, np.tril(np.ones((1, 1, length, length), bool)))
    widen = hk.Linear(model.mlp_ratio * width, w_init=INIT, name=f"{name}_mlp_widen")
    narrow = hk.Linear(width, w_init=INIT, name=f"{name}_mlp_narrow")
    return x_BTD + narrow(jax.nn.gelu(widen(layer_norm(f"{name}_mlp_norm")(x_BTD))))


# --------------------------------------------------------------------------- training

AXIS = "batch"


def baseline_trainer(experiment: Experiment) -> Trainer:
    """Steps on batches of images, mapped over the devices; each waits for its metrics."""
    network, params, stats = _initial(experiment)
    hyper = hyper_from_config(experiment.config)
    optimizer = optax.adam(lambda count: paper(jnp.asarray(count) + 1, hyper, 0))
    count = jax.local_device_count()

    def update(state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Metrics]:
        params, stats, opt_state = state

        def loss_fn(params: hk.Params) -> tuple[jax.Array, tuple[hk.State, jax.Array]]:
            logits, new_stats = network.apply(params, stats, None, images, labels, True)
            loss, accuracy = query_scores(logits, labels)
            return loss, (new_stats, accuracy)

        gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, (stats, accuracy)), gradients = gradient_fn(params)
        gradients = jax.lax.pmean(gradients, AXIS)
        updates, opt_state = optimizer.update(gradients, opt_state)
        metrics = jax.lax.pmean({"loss": loss, "accuracy": accuracy}, AXIS)
        return (optax.apply_updates(params, updates), stats, opt_state), metrics

    def shard(batch: Sequence) -> list[np.ndarray]:
        """[B, ...] -> [D, B/D, ...], still on the host."""
        return [leaf.reshape(count, -1, *leaf.shape[1:]) for leaf in batch]

    # Neither donates its arguments nor combines several updates.
    step = jax.pmap(update, axis_name=AXIS)
    state = (params, stats, optimizer.init(params))
    return Trainer(
        lambda state, batch: step(state, *batch),
        jax.tree.map(lambda leaf: jnp.stack([leaf] * count), state),
        jax.pmap(lambda *batch: batch)(*shard(training_batch(experiment))),
        (shard(batch) for batch in training_feed(experiment)),
        steps_per_call=1,
        calls_in_flight=0,
        wait=jax.device_get,
    )


def baseline_evaluation(experiment: Experiment, mode: str) -> Rival:
    """Evaluates initial parameters, one sequence at a time, without the cost of tf.data."""
    network, params, stats = _initial(experiment)
    made = sequences(experiment, mode)

    @jax.jit
    def forward(params: Any, stats: Any, images: Any, labels: Any) -> tuple[jax.Array, jax.Array]:
        logits, _ = network.apply(params, stats, None, images, labels, False)
        return query_scores(logits, labels)

    def once() -> None:
        images, labels = next(made)
        jax.device_get(forward(params, stats, images[None], labels[None]))

    return repeated(once)


def _initial(
    experiment: Experiment,
) -> tuple[hk.TransformedWithState, hk.MutableParams, hk.MutableState]:
    """The network, with parameters and BatchNorm averages before the first step."""
    network = make_baseline_network(experiment.config.model, experiment.task.num_labels)
    images, labels = next(sequences(experiment))
    init = jax.jit(lambda key: network.init(key, images[None], labels[None], True))
    return network, *init(jax.random.PRNGKey(0))


def query_scores(logits_BTL: jax.Array, labels_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy on the query.

    As in the reference implementation, the loss covers every token, with weights that are zero by
    default for all but the query (docs/fidelity.md).
    """
    # Label tokens predict nothing; their targets are placeholders.
    targets_BT = jnp.repeat(labels_BS, 2, axis=1)[:, :-1]
    one_hot_BTL = jax.nn.one_hot(targets_BT, logits_BTL.shape[-1])
    losses_BT = -jnp.sum(one_hot_BTL * jax.nn.log_softmax(logits_BTL), axis=-1)
    weights_T = jnp.zeros(losses_BT.shape[1]).at[-1].set(1.0)
    accuracy_BT = jnp.argmax(logits_BTL, axis=-1) == targets_BT
    return jnp.sum(losses_BT * weights_T, axis=1).mean(), jnp.mean(accuracy_BT @ weights_T)
