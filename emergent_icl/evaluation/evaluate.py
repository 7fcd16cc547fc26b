"""Evaluation: every mode batched and jitted, a pure function of (parameters, mode, seed)."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from emergent_icl import randomness
from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.materialise import Materialise, shows_afresh
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.task import Task, fixed_labeling
from emergent_icl.evaluation.metrics import Interval, Judgement, intervals, query_metrics
from emergent_icl.models.network import BatchStats, Network, Params
from emergent_icl.randomness import sequence_keys

# {mode: {metric: interval}}
Results = dict[str, dict[str, Interval]]
# What is evaluated, as `Compiled.embed` takes it.
_Model = tuple[Params, BatchStats, DeviceBank, np.float32]
# The modes that the paper's two curves show, and which of their metrics.
ICL = ("fewshot_holdout", "accuracy_closed")
IWL = ("no_support_zipfian", "accuracy")


class DrawnMode(NamedTuple):
    """An evaluation mode with its sequences drawn.

    Attributes:
      batch: int32 [N, S], the same at every evaluation.
      own: int32 [N], owner of the labels of the query's class; see Judgement.
      judgement: what counts as right.
      key: for what is drawn on the device.
    """

    batch: SequenceBatch
    own: np.ndarray
    judgement: Judgement
    key: jax.Array


def draw_mode(config: ml_collections.ConfigDict, task: Task, name: str) -> DrawnMode:
    """Draws the sequences of a mode from `evaluation.seed` and its name."""
    evaluation = config.evaluation
    kind = task.evaluation[name]
    rng = randomness.generator(evaluation.seed, f"evaluation/{name}")
    key = jax.random.fold_in(jax.random.PRNGKey(evaluation.seed), zlib.crc32(name.encode()))
    batch = kind.sample(rng, evaluation.num_sequences)
    judgement = make_judgement(config, task, kind)
    queries = task.space.places_of(batch.class_ids[:, -1])
    labels = task.space.first_labels(queries, fixed_labeling(config))
    return DrawnMode(batch, judgement.owners[labels].astype(np.int32), judgement, key)


def make_judgement(config: ml_collections.ConfigDict, task: Task, kind: SequenceType) -> Judgement:
    """Label sets of a sequence type, as arrays over the model's L labels."""
    space, labeling = task.space, fixed_labeling(config)

    def among(labels: np.ndarray) -> np.ndarray:
        return np.isin(np.arange(task.num_labels), labels)

    def over_all_labels(values: np.ndarray) -> np.ndarray:
        # Labels beyond those in use are never right: no label's answer is negative.
        return np.pad(values, (0, task.num_labels - len(values)), constant_values=-1)

    return Judgement(
        is_valid=among(kind.valid_labels),
        answers=over_all_labels(kind.answers),
        is_common=among(space.labels_of(space.split.common, labeling)),
        is_rare=among(space.labels_of(space.split.rare, labeling)),
        is_fewshot=np.arange(task.num_labels) < config.evaluation.ways,
        owners=over_all_labels(space.answers(labeling)),
    )


class Compiled(NamedTuple):
    """A network, with the two jitted parts of an evaluation; replicas share them.

    Attributes:
      network: what is evaluated.
      materialise: indices -> examples.
      embed: indices -> embeddings.
      judge: embeddings -> metrics.
    """

    network: Network
    materialise: Materialise
    embed: Callable[..., jax.Array]
    judge: Callable[..., dict[str, jax.Array]]


def compile_evaluation(network: Network, materialise: Materialise) -> Compiled:
    """Jits the parts of an evaluation; they compile when they are first called."""

    @jax.jit
    def embed(
        params: Params,
        batch_stats: BatchStats,
        bank: DeviceBank,
        noise_scale: jax.Array,
        class_ids: jax.Array,
        exemplar_ids: jax.Array,
        keys: jax.Array,
    ) -> jax.Array:
        examples = materialise(bank, class_ids, exemplar_ids, keys, noise_scale)
        return embed_sequences(network, params, batch_stats, examples)

    @jax.jit
    def judge(
        params: Params,
        judgement: Judgement,
        keys: jax.Array,
        embeddings_BSD: jax.Array,
        labels_BS: jax.Array,
        own_B: jax.Array,
    ) -> dict[str, jax.Array]:
        logits_BL = network.predict(params, keys, embeddings_BSD, labels_BS)
        return query_metrics(logits_BL, labels_BS, own_B, judgement)

    return Compiled(network, materialise, embed, judge)


def embed_sequences(
    network: Network, params: Params, batch_stats: BatchStats, examples: jax.Array
) -> jax.Array:
    """Embeddings [B, S, D] of examples [B, S, ...], as in evaluation."""
    flat = jnp.reshape(examples, (-1, *examples.shape[2:]))
    embeddings, _ = network.encode(params, batch_stats, flat, is_training=False)
    return jnp.reshape(embeddings, (*examples.shape[:2], -1))


class Evaluator:
    """Runs evaluation modes; draws every mode's sequences once.

    Attributes:
      config: of the run whose parameters are evaluated.
      task: of that config.
      compiled: see `compile_evaluation`.
      modes: those of `config.evaluation.modes`, by name.
    """

    def __init__(self, config: ml_collections.ConfigDict, task: Task, compiled: Compiled) -> None:
        """Draws the sequences."""
        self.config, self.task, self.compiled = config, task, compiled
        self.modes = {name: draw_mode(config, task, name) for name in config.evaluation.modes}
        self._chunk = config.evaluation.batch_size

    def __call__(self, params: Params, batch_stats: BatchStats, bank: DeviceBank) -> Results:
        """Evaluates every mode.

        Args:
          params: of one replica, on one device or the host.
          batch_stats: likewise.
          bank: on the same device.
        """
        afresh = shows_afresh(self.config.data)
        embed = self._embed_each if afresh else self._embed_distinct
        model = (params, batch_stats, bank, np.float32(self.config.data.noise_scale))
        results = {}
        for name, mode in self.modes.items():
            keys = sequence_keys(mode.key, jnp.arange(len(mode.own)))
            judge = functools.partial(self.compiled.judge, params, mode.judgement)
            rows = (keys, embed(mode, keys, model), mode.batch.labels, mode.own)
            pieces = jax.device_get(_in_parts(judge, self._chunk, *rows))
            per_sequence = jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)
            count = len(mode.own)
            results[name] = intervals(
                {metric: values[:count] for metric, values in per_sequence.items()}
            )
        return results

    def _embed_distinct(self, mode: DrawnMode, keys: jax.Array, model: _Model) -> jax.Array:
        """Embeds each drawing of the mode once, and looks the sequences up; [N, S, D]."""
        del keys  # Nothing is drawn.
        pairs = np.stack([mode.batch.class_ids.ravel(), mode.batch.exemplar_ids.ravel()], axis=1)
        distinct, where = np.unique(pairs, axis=0, return_inverse=True)
        # Single examples, seen as sequences of length 1.
        rows = (distinct[:, :1], distinct[:, 1:], np.zeros((len(distinct), 2), np.uint32))
        embed = functools.partial(self.compiled.embed, *model)
        table_MD = jnp.concatenate(_in_parts(embed, self._chunk, *rows))[:, 0]
        return table_MD[where.reshape(mode.batch.labels.shape)]

    def _embed_each(self, mode: DrawnMode, keys: jax.Array, model: _Model) -> jax.Array:
        """Embeds every example of every sequence, each drawn afresh; [N, S, D]."""
        count, length = mode.batch.labels.shape
        rows = (mode.batch.class_ids, mode.batch.exemplar_ids, keys)
        embed = functools.partial(self.compiled.embed, *model)
        # As many images at once as elsewhere.
        return jnp.concatenate(_in_parts(embed, max(1, self._chunk // length), *rows))[:count]


def _in_parts(compiled: Callable[..., Any], size: int, *rows: jax.Array | np.ndarray) -> list[Any]:
    """Calls a function on `size` rows at a time; the last are padded, so that it compiles once."""
    firsts = range(0, len(rows[0]), size)
    return [
        compiled(*(_padded(row[first : first + size], size) for row in rows)) for first in firsts
    ]


def _padded(rows: jax.Array | np.ndarray, size: int) -> jax.Array | np.ndarray:
    """Repeats the first row up to `size` rows."""
    missing = size - len(rows)
    if not missing:
        return rows
    library = jnp if isinstance(rows, jax.Array) else np
    return library.concatenate([rows, library.repeat(rows[:1], missing, axis=0)])


def curves(results: Results) -> dict[str, float | None]:
    """The paper's two numbers, None where their mode was not evaluated.

    icl is the closed accuracy on fewshot_holdout, iwl the accuracy on no_support_zipfian.
    """
    numbers = {}
    for name, (mode, metric) in {"icl": ICL, "iwl": IWL}.items():
        numbers[name] = results[mode][metric].mean if mode in results else None
    return numbers


def chance(task: Task) -> float | None:
    """What guessing gives in context: one over the valid labels of fewshot_holdout.

    None where that mode is not evaluated.
    """
    mode, _ = ICL
    return 1 / len(task.evaluation[mode].valid_labels) if mode in task.evaluation else None


def results_json(results: Results) -> dict[str, dict[str, float]]:
    """Means alone, as summaries hold them."""
    return {
        mode: {metric: interval.mean for metric, interval in found.items()}
        for mode, found in results.items()
    }
