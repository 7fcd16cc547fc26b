"""What a trained model does with single sequences: predictions for every example, attention."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.evaluation.evaluate import Evaluator
from emergent_icl.models.losses import only_used
from emergent_icl.models.network import BatchStats, Params
from emergent_icl.randomness import sequence_keys


class Trace(NamedTuple):
    """Host arrays of B sequences that passed through a trained model."""

    batch: SequenceBatch  # int32 [B, S]
    examples: np.ndarray  # [B, S, ...], as the encoder reads them
    probabilities: np.ndarray  # float32 [B, P, L], of each label in each of P predictions
    # int [P], the examples whose labels are predicted: all, or only the query if tokens contain
    # their own labels (concatenated).
    positions: np.ndarray
    # float32 [layers, B, heads, T, T], row t: weights of token t, with sum 1; None for a model
    # without attention
    attention: np.ndarray | None
    tokens: np.ndarray  # str [B, T]: 'x 17' is an example with label 17, 'y 17' that label, 'query'
    answers: np.ndarray  # int [L], labels with equal entries are the same answer


def trace(
    evaluator: Evaluator,
    params: Params,
    batch_stats: BatchStats,
    bank: DeviceBank,
    mode: str,
    rows: Sequence[int],
) -> Trace:
    """Traces sequences of an evaluation mode, with the same noise as in the evaluation.

    `rows` are their indices, in [0, evaluation.num_sequences).

    Raises:
      ValueError: the evaluator lacks the mode, or a row is out of range.
    """
    config, (network, materialize, *_) = evaluator.config, evaluator.compiled
    count = config.evaluation.num_sequences
    if mode not in evaluator.modes:
        raise ValueError(f"mode '{mode}' is not among evaluation.modes = {tuple(evaluator.modes)}")
    if outside := [row for row in rows if not 0 <= row < count]:
        raise ValueError(f"sequences {outside} must be below evaluation.num_sequences = {count}")
    drawn = evaluator.modes[mode]
    scale, interleaved = np.float32(config.data.noise_scale), config.model.tokens == "interleaved"
    chosen = np.asarray(rows)
    batch = SequenceBatch(*(leaf[chosen] for leaf in drawn.batch))
    keys = sequence_keys(drawn.key, jnp.asarray(chosen))

    @jax.jit
    def compute(
        params: Params, stats: BatchStats, bank: DeviceBank
    ) -> tuple[jax.Array | None, ...]:
        examples = materialize(bank, batch.class_ids, batch.exemplar_ids, keys, scale)
        embeddings, _ = network.embed(params, stats, examples, is_training=False)
        logits = network.predict(params, keys, embeddings, batch.labels, at="examples")
        attention = network.attend(params, keys, embeddings, batch.labels)
        logits = only_used(logits, drawn.judgment.used_labels)
        return examples, jax.nn.softmax(logits, axis=-1), attention

    examples, probabilities, attention = jax.device_get(compute(params, batch_stats, bank))
    positions = np.arange(batch.labels.shape[1])
    if not interleaved:
        positions, probabilities = positions[-1:], probabilities[:, -1:]
    tokens = token_names(batch.labels, interleaved)
    answers = np.asarray(drawn.judgment.answers)
    return Trace(batch, examples, probabilities, positions, attention, tokens, answers)


def token_names(labels_BS: np.ndarray, interleaved: bool) -> np.ndarray:
    """Names of tokens, str [B, T]; see Trace."""

    def names(labels: np.ndarray) -> list[str]:
        context = [str(label) for label in labels[:-1]]
        if interleaved:
            return [f"{kind} {label}" for label in context for kind in "xy"] + ["query"]
        return [f"x, y {label}" for label in context] + ["query"]

    return np.array([names(labels) for labels in labels_BS])
