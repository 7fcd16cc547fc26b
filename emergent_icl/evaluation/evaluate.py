"""Evaluation of every mode, batched and jitted: a pure function of (parameters, mode, seed)."""

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from emergent_icl import randomness
from emergent_icl.data.bank import Array, DeviceBank, Scalar
from emergent_icl.data.materialize import Materialize, is_stochastic
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.samples import draw_sample
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.task import Task, fewshot_options, fixed_labeling
from emergent_icl.evaluation.metrics import Judgment, Results, intervals, query_metrics
from emergent_icl.models.losses import only_used
from emergent_icl.models.network import BatchStats, Network, Params
from emergent_icl.randomness import sequence_keys

# What is evaluated: parameters, BatchNorm averages, bank, noise scale.
Model = tuple[Params, BatchStats, DeviceBank, Scalar]


class DrawnMode(NamedTuple):
    """The sequences of an evaluation mode."""

    batch: SequenceBatch  # int32 [N, S], the same in every evaluation
    own: Array  # int32 [N], owner of the labels of the query's class; see Judgment
    judgment: Judgment
    key: jax.Array  # for random numbers on the device


def draw_mode(config: ml_collections.ConfigDict, task: Task, name: str) -> DrawnMode:
    """Draws the sequences of a mode from `evaluation.seed` and the mode's name.

    The first N of any larger number of sequences are the same, unless `data.sequences.draws` is 1.
    """
    seed, kind = config.evaluation.seed, task.evaluation[name]
    stream, count = f"evaluation/{name}", config.evaluation.num_sequences
    key = jax.random.fold_in(jax.random.PRNGKey(seed), zlib.crc32(name.encode()))
    if config.data.sequences.draws == 1:
        batch = kind.sample(randomness.generator(seed, stream), count)
    else:
        batch = draw_sample(kind.sample, seed, stream, count)
    judgment = make_judgment(config, task, kind)
    queries = task.space.places_of(batch.class_ids[:, -1])
    labels = task.space.first_labels(queries, fixed_labeling(config))
    return DrawnMode(batch, judgment.owners[labels].astype(np.int32), judgment, key)


def make_judgment(config: ml_collections.ConfigDict, task: Task, kind: SequenceType) -> Judgment:
    """The label sets of a sequence type, as arrays over the model's L labels."""
    space, labeling = task.space, fixed_labeling(config)

    def among(labels: np.ndarray) -> np.ndarray:
        return np.isin(np.arange(task.num_labels), labels)

    def over_all_labels(values: np.ndarray) -> np.ndarray:
        # Unused labels are never correct, since answers are not negative.
        return np.pad(values, (0, task.num_labels - len(values)), constant_values=-1)

    return Judgment(
        is_valid=among(kind.valid_labels),
        answers=over_all_labels(kind.answers),
        is_common=among(space.labels_of("common", labeling)),
        is_rare=among(space.labels_of("rare", labeling)),
        is_fewshot=np.arange(task.num_labels) < fewshot_options(config).ways,
        owners=over_all_labels(space.answers(labeling)),
        used_labels=np.int32(task.used_labels) if task.used_labels < task.num_labels else None,
    )


class Compiled(NamedTuple):
    """A network with the jitted parts of its evaluation; replicas share them."""

    network: Network
    materialize: Materialize
    # (model, class_ids [B, S], exemplar_ids [B, S], keys [B, 2]) -> embeddings [B, S, D]
    embed: Callable[..., jax.Array]
    # (params, judgment, keys, embeddings, labels [B, S], own [B]) -> metrics [B]
    judge: Callable[..., dict[str, jax.Array]]
    # (params, batch_stats, used labels, examples, labels [B, S]) -> probabilities [B, L]
    predict: Callable[..., jax.Array]


# Evaluating the same network on other sequences compiles nothing.
@functools.lru_cache(maxsize=8)
def compile_evaluation(network: Network, materialize: Materialize) -> Compiled:
    """Jits the parts of an evaluation; they compile when first called."""

    def embed(model: Model, class_ids: Array, exemplar_ids: Array, keys: Array) -> jax.Array:
        params, batch_stats, bank, noise_scale = model
        examples = materialize(bank, class_ids, exemplar_ids, keys, noise_scale)
        return network.embed(params, batch_stats, examples, is_training=False)[0]

    def judge(
        params: Params,
        judgment: Judgment,
        keys: Array,
        embeddings_BSD: Array,
        labels_BS: Array,
        own_B: Array,
    ) -> dict[str, jax.Array]:
        logits_BL = network.predict(params, keys, embeddings_BSD, labels_BS)
        return query_metrics(logits_BL, labels_BS, own_B, judgment)

    def predict(
        params: Params,
        batch_stats: BatchStats,
        used_labels: Scalar | None,
        examples: jax.Array,
        labels_BS: jax.Array,
    ) -> jax.Array:
        embeddings_BSD, _ = network.embed(params, batch_stats, examples, is_training=False)
        logits_BL = network.predict(params, None, embeddings_BSD, labels_BS)
        return jax.nn.softmax(only_used(logits_BL, used_labels))

    return Compiled(network, materialize, *map(jax.jit, (embed, judge, predict)))


class Evaluator:
    """Evaluates the modes of `config.evaluation`, whose sequences it draws once."""

    def __init__(self, config: ml_collections.ConfigDict, task: Task, compiled: Compiled) -> None:
        """Takes the config and task of the run to evaluate."""
        self.config, self.compiled = config, compiled
        self.modes = {name: draw_mode(config, task, name) for name in config.evaluation.modes}
        self._chunk = config.evaluation.batch_size

    def __call__(self, params: Params, batch_stats: BatchStats, bank: DeviceBank) -> Results:
        """Evaluates every mode, given the arrays of one replica, on the device of the bank."""
        rows = ((name, self.per_sequence(name, params, batch_stats, bank)) for name in self.modes)
        return {name: intervals(metrics) for name, metrics in rows}

    def per_sequence(
        self, name: str, params: Params, batch_stats: BatchStats, bank: DeviceBank
    ) -> dict[str, np.ndarray]:
        """Every metric of each sequence of a mode, float [N]."""
        model = (params, batch_stats, bank, np.float32(self.config.data.noise_scale))
        mode = self.modes[name]
        keys = sequence_keys(mode.key, jnp.arange(len(mode.own)))
        judge = functools.partial(self.compiled.judge, params, mode.judgment)
        rows = (keys, self._embed(mode, keys, model), mode.batch.labels, mode.own)
        pieces = jax.device_get(in_parts(judge, self._chunk, *rows))
        whole = jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)
        return {key: row[: len(mode.own)] for key, row in whole.items()}

    def _embed(self, mode: DrawnMode, keys: jax.Array, model: Model) -> jax.Array:
        """Embeddings [N, S, D] of a mode's sequences."""
        embed = functools.partial(self.compiled.embed, model)
        class_ids, exemplar_ids, labels_NS = mode.batch
        if is_stochastic(self.config.data):
            # Every occurrence is a different image. Each call gets as many images as below.
            size = max(1, self._chunk // labels_NS.shape[1])
            parts = in_parts(embed, size, class_ids, exemplar_ids, keys)
            return jnp.concatenate(parts)[: len(labels_NS)]
        # Embed each drawing once, as a sequence of length 1, then look embeddings up.
        pairs = np.stack([class_ids.ravel(), exemplar_ids.ravel()], axis=1)
        distinct, where = np.unique(pairs, axis=0, return_inverse=True)
        rows = (distinct[:, :1], distinct[:, 1:], np.zeros((len(distinct), 2), np.uint32))
        return _look_up(in_parts(embed, self._chunk, *rows), where.reshape(labels_NS.shape))


def in_parts(compiled: Callable[..., Any], size: int, *rows: Array) -> list[Any]:
    """Calls a function on `size` rows at a time; the last part is padded."""
    rows = jax.device_put(rows)
    return [compiled(*_part(rows, first, size)) for first in range(0, len(rows[0]), size)]


@functools.partial(jax.jit, static_argnums=2)
def _part(rows: tuple[jax.Array, ...], first: int, size: int) -> list[jax.Array]:
    """`size` rows from `first` on, padded with the last row, so that everything compiles once."""
    places = jnp.minimum(first + jnp.arange(size), len(rows[0]) - 1)
    return [row[places] for row in rows]


@jax.jit
def _look_up(parts: list[jax.Array], where: jax.Array) -> jax.Array:
    """Embeddings [m, 1, D] of drawings, and indices [N, S] of drawings -> [N, S, D]."""
    return jnp.concatenate(parts)[:, 0][where]
