"""Evaluation: every mode batched and jitted, a pure function of (parameters, mode, seed)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from emergent_icl import randomness
from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.materialise import Materialise, shows_afresh
from emergent_icl.data.sequences.class_space import SequenceBatch
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.task import Task, fixed_labeling
from emergent_icl.evaluation.metrics import Interval, Judgement, query_metrics, summarise
from emergent_icl.models.network import BatchStats, Network, Params
from emergent_icl.randomness import sequence_keys

# {mode: {metric: estimate}}
Results = dict[str, dict[str, Interval]]
# What is evaluated, as the compiled functions take it.
_Model = tuple[Params, BatchStats, DeviceBank]
# The modes that the paper's two curves show, and which of their metrics.
ICL = ("fewshot_holdout", "accuracy_closed")
IWL = ("no_support_zipfian", "accuracy")


class Mode(NamedTuple):
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


def draw_mode(config: ml_collections.ConfigDict, task: Task, name: str) -> Mode:
    """Draws the sequences of a mode from `evaluation.seed` and its name."""
    evaluation = config.evaluation
    kind = task.evaluation[name]
    rng = randomness.generator(evaluation.seed, f"evaluation/{name}")
    key = jax.random.fold_in(jax.random.PRNGKey(evaluation.seed), zlib.crc32(name.encode()))
    batch = kind.sample(rng, evaluation.num_sequences)
    judgement = make_judgement(config, task, kind)
    queries = task.space.places_of(batch.class_ids[:, -1])
    labels = task.space.first_labels(queries, fixed_labeling(config))
    return Mode(batch, judgement.owners[labels].astype(np.int32), judgement, key)


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
    """The two jitted parts of an evaluation; replicas share them.

    Attributes:
      embed: indices -> embeddings.
      judge: embeddings -> metrics.
    """

    embed: Callable[..., jax.Array]
    judge: Callable[..., dict[str, jax.Array]]


class Evaluator:
    """Runs evaluation modes; draws every mode's sequences once."""

    def __init__(self, config: ml_collections.ConfigDict, task: Task, compiled: Compiled) -> None:
        """Prepares the modes of `config.evaluation`.

        Args:
          config: the run's config.
          task: of that config.
          compiled: see `compile_evaluation`.
        """
        self._modes = {name: draw_mode(config, task, name) for name in config.evaluation.modes}
        self._chunk = config.evaluation.batch_size
        self._noise_scale = np.float32(config.data.noise_scale)
        self._shows_afresh = shows_afresh(config.data)
        self._embed, self._judge = compiled

    def __call__(self, params: Params, batch_stats: BatchStats, bank: DeviceBank) -> Results:
        """Evaluates every mode.

        Args:
          params: of one replica, on one device or the host.
          batch_stats: likewise.
          bank: on the same device.
        """
        model = (params, batch_stats, bank)
        return {
            name: summarise(self._per_sequence(mode, model)) for name, mode in self._modes.items()
        }

    def _per_sequence(self, mode: Mode, model: _Model) -> dict[str, np.ndarray]:
        embed = self._embed_each if self._shows_afresh else self._embed_distinct
        labels_NS = mode.batch.labels
        keys = sequence_keys(mode.key, jnp.arange(len(labels_NS)))
        rows = (keys, embed(mode, keys, model), labels_NS, mode.own)
        pieces = [
            self._judge(
                model[0], *(_padded(row[part], self._chunk) for row in rows), mode.judgement
            )
            for part in _parts(len(labels_NS), self._chunk)
        ]
        stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get(pieces))
        return {metric: values[: len(labels_NS)] for metric, values in stacked.items()}

    def _embed_distinct(self, mode: Mode, keys: jax.Array, model: _Model) -> jax.Array:
        """Embeds each drawing of the mode once, and looks the sequences up; [N, S, D]."""
        del keys  # Nothing is drawn.
        pairs = np.stack([mode.batch.class_ids.ravel(), mode.batch.exemplar_ids.ravel()], axis=1)
        distinct, where = np.unique(pairs, axis=0, return_inverse=True)
        # Single examples, seen as sequences of length 1.
        no_keys = np.zeros((self._chunk, 2), np.uint32)
        table_MD = jnp.concatenate(
            [
                self._embed(*model, _padded(distinct[part, :1], self._chunk),
                            _padded(distinct[part, 1:], self._chunk), no_keys,
                            self._noise_scale)[:, 0]
                for part in _parts(len(distinct), self._chunk)
            ]
        )  # fmt: skip
        return table_MD[where.reshape(mode.batch.labels.shape)]

    def _embed_each(self, mode: Mode, keys: jax.Array, model: _Model) -> jax.Array:
        """Embeds every example of every sequence, each drawn afresh; [N, S, D]."""
        count, length = mode.batch.labels.shape
        # As many images at once as elsewhere.
        chunk = max(1, self._chunk // length)
        embedded = [
            self._embed(*model, _padded(mode.batch.class_ids[part], chunk),
                        _padded(mode.batch.exemplar_ids[part], chunk),
                        _padded(keys[part], chunk), self._noise_scale)[: part.stop - part.start]
            for part in _parts(count, chunk)
        ]  # fmt: skip
        return jnp.concatenate(embedded)


def compile_evaluation(network: Network, materialise: Materialise) -> Compiled:
    """Jits the parts of an evaluation.

    Args:
      network: see `make_network`.
      materialise: indices -> examples.
    """

    @jax.jit
    def embed(
        params: Params,
        batch_stats: BatchStats,
        bank: DeviceBank,
        class_ids: jax.Array,
        exemplar_ids: jax.Array,
        keys: jax.Array,
        noise_scale: jax.Array,
    ) -> jax.Array:
        examples = materialise(bank, class_ids, exemplar_ids, keys, noise_scale)
        flat = jnp.reshape(examples, (-1, *examples.shape[2:]))
        embeddings, _ = network.encode(params, batch_stats, flat, is_training=False)
        return jnp.reshape(embeddings, (*class_ids.shape, -1))

    @jax.jit
    def judge(
        params: Params,
        keys: jax.Array,
        embeddings_BSD: jax.Array,
        labels_BS: jax.Array,
        own_B: jax.Array,
        judgement: Judgement,
    ) -> dict[str, jax.Array]:
        logits_BL = network.predict(params, keys, embeddings_BSD, labels_BS)
        return query_metrics(logits_BL, labels_BS, own_B, judgement)

    return Compiled(embed, judge)


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _padded(rows: jax.Array | np.ndarray, size: int) -> jax.Array | np.ndarray:
    """Repeats the first row up to `size` rows, so that every part has one shape."""
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
        mode: {metric: estimate.mean for metric, estimate in estimates.items()}
        for mode, estimates in results.items()
    }
