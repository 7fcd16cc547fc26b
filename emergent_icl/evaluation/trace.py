"""What a trained model does with single sequences: predictions at every example, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.evaluation.evaluate import DrawnMode, Evaluator, embed_sequences
from emergent_icl.models.losses import own_labels
from emergent_icl.models.network import BatchStats, Params
from emergent_icl.randomness import sequence_keys


class Trace(NamedTuple):
    """B sequences on their way through a trained model; host arrays."""

    batch: SequenceBatch  # int32 [B, S]
    examples: np.ndarray  # [B, S, ...], what the encoder sees
    probabilities: np.ndarray  # float32 [B, P, L], of each label at each of P predictions
    # int [P], the examples that the predictions are about: all of them, or the query alone where a
    # token shows the label that it would predict (concatenated).
    positions: np.ndarray
    # float32 [layers, B, heads, T, T], row t sums to 1 over what token t looks at; None for a model
    # without attention.
    attention: np.ndarray | None
    tokens: np.ndarray  # str [B, T]: 'x 17' is an example with label 17, 'y 17' that label, 'query'


def trace(
    evaluator: Evaluator,
    params: Params,
    batch_stats: BatchStats,
    bank: DeviceBank,
    mode: str,
    rows: Sequence[int],
) -> Trace:
    """Sends some sequences of an evaluation mode through a trained model.

    They are the sequences, drawn with the same noise, that it is evaluated on: the `rows` of those.

    Raises:
      ValueError: the evaluator lacks that mode, or the mode has fewer sequences.
    """
    config, (network, materialize, *_) = evaluator.config, evaluator.compiled
    drawn = _checked(evaluator, mode, rows)
    scale, interleaved = np.float32(config.data.noise_scale), config.model.tokens == "interleaved"
    chosen = np.asarray(rows)
    batch = SequenceBatch(*(leaf[chosen] for leaf in drawn.batch))
    keys = sequence_keys(drawn.key, jnp.asarray(chosen))

    @jax.jit
    def compute(
        params: Params, stats: BatchStats, bank: DeviceBank
    ) -> tuple[jax.Array | None, ...]:
        examples = materialize(bank, batch.class_ids, batch.exemplar_ids, keys, scale)
        embeddings = embed_sequences(network, params, stats, examples)
        logits = network.predict(params, keys, embeddings, batch.labels, at="examples")
        attention = network.attend(params, keys, embeddings, batch.labels)
        logits = own_labels(logits, drawn.judgment.used_labels)
        return examples, jax.nn.softmax(logits, axis=-1), attention

    examples, probabilities, attention = jax.device_get(compute(params, batch_stats, bank))
    positions = np.arange(batch.labels.shape[1])
    if not interleaved:
        positions, probabilities = positions[-1:], probabilities[:, -1:]
    tokens = token_names(batch.labels, interleaved)
    return Trace(batch, examples, probabilities, positions, attention, tokens)


def _checked(evaluator: Evaluator, mode: str, rows: Sequence[int]) -> DrawnMode:
    modes, count = evaluator.modes, evaluator.config.evaluation.num_sequences
    if mode not in modes:
        raise ValueError(f"mode '{mode}' is not among evaluation.modes = {tuple(modes)}")
    if outside := [row for row in rows if not 0 <= row < count]:
        raise ValueError(f"sequences {outside} must be below evaluation.num_sequences = {count}")
    return modes[mode]


def token_names(labels_BS: np.ndarray, interleaved: bool) -> np.ndarray:
    """What each token is, str [B, T]; see Trace."""

    def names(labels: np.ndarray) -> list[str]:
        context = [str(label) for label in labels[:-1]]
        if interleaved:
            return [f"{kind} {label}" for label in context for kind in "xy"] + ["query"]
        return [f"x, y {label}" for label in context] + ["query"]

    return np.array([names(labels) for labels in labels_BS])
