"""The way that the original code works, written anew, as what our speed is compared with.

The same model, data and loss; what differs is how they are computed: plain convolutions and
pooling, layers one by one, logits of every token, images made in Python one sequence at a time
and fed as numbers, metrics fetched at every step, evaluation by single sequences. It runs in
the same process as our code, so with huge pages too: a conservative comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from benchmarks.measure import Rival, repeated
from benchmarks.workloads import Trainer
from emergent_icl.config.configs import default_config, flatten
from emergent_icl.data.bank import WHITE
from emergent_icl.data.sequences.classes import zipf_weights
from emergent_icl.data.task import fewshot_options
from emergent_icl.data.tensorflow import import_tensorflow
from emergent_icl.models.normalization import DECAY, EPSILON, layer_norm
from emergent_icl.models.tokens import TokenEmbedding
from emergent_icl.training.build import Experiment
from emergent_icl.training.optimizers import hyper_from_config, paper
from emergent_icl.training.update import Metrics

# Options that the original's way leaves at the paper's setting.
AS_BY_DEFAULT = (
    "data.drawings", "data.augment", "data.noise_scale", "data.random_rare_images",
    "data.sequences.type", "data.sequences.p_bursty_zipfian", "data.sequences.non_bursty",
    "data.sequences.labeling", "data.sequences.label_multiplicity",
    "model.sequence_model", "model.tokens", "model.positions",
    "model.dropout", "model.example_dropout", "model.positional_dropout",
    "model.attention_only", "model.head_hidden_sizes",
    "training.interim_weight", "training.optimizer.name",
)  # fmt: skip


def why_not(config: ml_collections.ConfigDict) -> str | None:
    """Why the original's way is not written for a config; None where it is."""
    given, default = (flatten(one.to_dict()) for one in (config, default_config()))
    wanted = {
        "data.source is one of images": config.data.source in ("omniglot", "glyphs"),
        "model.encoder is 'resnet' or 'mlp'": config.model.encoder in _ENCODERS,
        **{f"{path} = {default[path]!r}": given[path] == default[path] for path in AS_BY_DEFAULT},
    }
    missing = [text for text, holds in wanted.items() if not holds]
    return f"the original's way needs {', '.join(missing)}" if missing else None


# -------------------------------------------------------------------------- sequences

# (images float32 [S, H, W, 1] in [0, 1], labels int32 [S]); batched: [B, S, ...] and [B, S]
Sequence = tuple[np.ndarray, np.ndarray]


class SequenceMaker:
    """Makes bursty, few-shot and no-support sequences (paper section 2.1)."""

    def __init__(self, experiment: Experiment) -> None:
        """Takes bank, split and options from an experiment with images."""
        self._config, self._split = experiment.config, experiment.task.space.split
        self._holdout = np.asarray(self._split.places("holdout"))
        self._images = experiment.bank.examples
        options = self._config.data.sequences
        self._weights = zipf_weights(self._split.num_train, options.zipf_exponent)
        self._rng = np.random.default_rng(0)

    def bursty(self) -> Sequence:
        """One training sequence."""
        options = self._config.data.sequences
        if self._rng.random() >= options.p_bursty:
            places = self._draw(options.seq_len)
        else:
            ways = self._draw(options.ways)
            burst = np.repeat(ways, options.shots)
            rest = self._draw(options.seq_len - 1 - len(burst))
            context = self._rng.permutation(np.concatenate([burst, rest]))
            places = np.append(context, self._rng.choice(ways))
        return self._show(places), places.astype(np.int32)

    def fewshot_holdout(self) -> Sequence:
        """Holdout classes, called 0, 1 ... anew."""
        options = fewshot_options(self._config)
        ways = self._rng.choice(self._holdout, options.ways, replace=not options.distinct_ways)
        context = self._rng.permutation(np.repeat(np.arange(options.ways), options.shots))
        labels = np.append(context, self._rng.integers(options.ways)).astype(np.int32)
        return self._show(ways[labels]), labels

    def no_support_zipfian(self) -> Sequence:
        """A query whose class is absent from the context."""
        length = self._config.data.sequences.seq_len
        query = self._draw(1)
        weights = np.copy(self._weights)
        weights[query] = 0
        context = self._rng.choice(len(weights), length - 1, p=weights / weights.sum())
        places = np.append(context, query)
        return self._show(places), places.astype(np.int32)

    def _draw(self, count: int) -> np.ndarray:
        return self._rng.choice(len(self._weights), count, p=self._weights)

    def _show(self, places: np.ndarray) -> np.ndarray:
        """Looks up an image each; those of a class are different drawings."""
        drawings: dict[int, list[int]] = {}
        images = []
        for place in places:
            left = drawings.setdefault(int(place), [])
            if not left:
                left.extend(self._rng.permutation(self._images.shape[1]))
            images.append(self._images[self._split.class_ids[place], left.pop()])
        shown = np.stack(images)[..., None]
        if self._config.data.inverted:
            shown = WHITE - shown
        return shown.astype(np.float32) / WHITE


def training_batch(experiment: Experiment) -> Sequence:
    """One of the baseline's training batches, without TensorFlow."""
    maker = SequenceMaker(experiment)
    made = [maker.bursty() for _ in range(experiment.config.training.batch_size)]
    images, labels = zip(*made, strict=True)
    return np.stack(images), np.stack(labels)


def training_feed(experiment: Experiment) -> Generator[Sequence]:
    """The same through `tf.data.Dataset.from_generator`; never ends, to be closed.

    What lies ready in its buffer when it is asked first costs nothing, in its favor.
    """
    tf = import_tensorflow()
    maker = SequenceMaker(experiment)
    shape = (experiment.task.training.seq_len, *experiment.task.shape.example_shape, 1)
    signature = (tf.TensorSpec(shape, tf.float32), tf.TensorSpec(shape[:1], tf.int32))
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(maker.bursty, None), output_signature=signature
    )
    batches = dataset.batch(experiment.config.training.batch_size).prefetch(tf.data.AUTOTUNE)
    # Its threads call back into Python: once this is closed, nothing holds them any more.
    yield from batches.as_numpy_iterator()


# ---------------------------------------------------------------------------- network

STEM_CHANNELS = 64
BATCH_NORM = {"create_scale": True, "create_offset": True, "decay_rate": DECAY, "eps": EPSILON}
INIT = hk.initializers.VarianceScaling(1.0)


def make_baseline_network(
    model: ml_collections.ConfigDict, num_labels: int
) -> hk.TransformedWithState:
    """Builds (examples [B, S, H, W, 1], labels [B, S], is_training) -> logits [B, T, L].

    `model` is a config's, with encoder 'resnet' or 'mlp' and a transformer; `num_labels` is L.
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
    """Steps on batches of images, mapped over the devices; every one waits for its metrics."""
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

    def shard(batch: Sequence) -> Sequence:
        """[B, ...] -> [D, B/D, ...], still on the host."""
        images, labels = (leaf.reshape(count, -1, *leaf.shape[1:]) for leaf in batch)
        return images, labels

    # Neither donated nor fused with anything.
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


def baseline_evaluation(experiment: Experiment, make: Callable[[], Sequence]) -> Rival:
    """Evaluates freshly initialized parameters, a sequence at a time.

    The sequences come straight from what makes one, without tf.data: in the original's favor.
    """
    network, params, stats = _initial(experiment)

    @jax.jit
    def forward(params: hk.Params, stats: hk.State, images: Any, labels: Any) -> Any:
        logits, _ = network.apply(params, stats, None, images, labels, False)
        return query_scores(logits, labels)

    def once() -> None:
        images, labels = make()
        jax.device_get(forward(params, stats, images[None], labels[None]))

    return repeated(once)


def _initial(
    experiment: Experiment,
) -> tuple[hk.TransformedWithState, hk.MutableParams, hk.MutableState]:
    """The network, with parameters and BatchNorm averages before the first step."""
    task = experiment.task
    network = make_baseline_network(experiment.config.model, task.num_labels)
    shape = (1, task.training.seq_len, *task.shape.example_shape, 1)
    images, labels = np.zeros(shape, np.float32), np.zeros(shape[:2], np.int32)
    init = jax.jit(lambda key: network.init(key, images, labels, True))
    return network, *init(jax.random.PRNGKey(0))


def query_scores(logits_BTL: jax.Array, labels_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy on the query.

    As the original has it, whose loss is on every token, weighted by what interim predictions
    are worth: nothing by default (docs/fidelity.md).
    """
    # A label's token predicts nothing; its target only fills the place.
    targets_BT = jnp.repeat(labels_BS, 2, axis=1)[:, :-1]
    one_hot_BTL = jax.nn.one_hot(targets_BT, logits_BTL.shape[-1])
    losses_BT = -jnp.sum(one_hot_BTL * jax.nn.log_softmax(logits_BTL), axis=-1)
    weights_T = jnp.zeros(losses_BT.shape[1]).at[-1].set(1.0)
    accuracy_BT = jnp.argmax(logits_BTL, axis=-1) == targets_BT
    return jnp.sum(losses_BT * weights_T, axis=1).mean(), jnp.mean(accuracy_BT @ weights_T)
