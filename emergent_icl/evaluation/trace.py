"""What a trained run does with single sequences: predictions at every example, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emergent_icl.data.sequences.class_space import SequenceBatch
from emergent_icl.evaluation.evaluate import draw_mode
from emergent_icl.randomness import sequence_keys
from emergent_icl.runs.open import Run


class Trace(NamedTuple):
    """B sequences on their way through a trained model; host arrays.

    Attributes:
      batch: classes, exemplars and labels, int32 [B, S].
      examples: what the encoder sees, [B, S, ...].
      probabilities: float32 [B, P, L], of each label at each of P predictions.
      positions: int [P], the examples that the predictions are about: all of them, or the
        query alone where a token shows the label that it would predict (concatenated).
      attention: float32 [layers, B, heads, T, T], row t sums to 1 over what token t looks
        at; None for a model without attention.
      tokens: str [B, T], what each token is: 'x 17' an example with label 17, 'y 17' that
        label, 'query'.
    """

    batch: SequenceBatch
    examples: np.ndarray
    probabilities: np.ndarray
    positions: np.ndarray
    attention: np.ndarray | None
    tokens: np.ndarray


def trace(run: Run, mode: str, rows: Sequence[int]) -> Trace:
    """Sends some sequences of an evaluation mode through a trained run.

    They are the sequences, drawn with the same noise, that the run was evaluated on.

    Args:
      run: a trained run.
      mode: among its `evaluation.modes`.
      rows: which of the mode's sequences.

    Raises:
      ValueError: the run was opened without that mode, or the mode has fewer sequences.
    """
    experiment = run.experiment
    config, network = experiment.config, experiment.network
    if mode not in experiment.task.evaluation:
        raise ValueError(
            f"mode '{mode}' is not among evaluation.modes = {tuple(config.evaluation.modes)}"
        )
    outside = [row for row in rows if not 0 <= row < config.evaluation.num_sequences]
    if outside:
        raise ValueError(
            f"sequences {outside} must be below evaluation.num_sequences = "
            f"{config.evaluation.num_sequences}"
        )
    drawn = draw_mode(config, experiment.task, mode)
    chosen = np.asarray(rows)
    batch = SequenceBatch(*(leaf[chosen] for leaf in drawn.batch))
    keys = sequence_keys(drawn.key, jnp.asarray(chosen))
    scale = np.float32(config.data.noise_scale)
    interleaved = config.model.tokens == "interleaved"

    @jax.jit
    def compute(params: object, stats: object, bank: object) -> tuple[jax.Array, ...]:
        ids = (batch.class_ids, batch.exemplar_ids)
        examples = experiment.materialise(bank, *ids, keys, scale)
        flat = jnp.reshape(examples, (-1, *examples.shape[2:]))
        embeddings, _ = network.encode(params, stats, flat, is_training=False)
        embeddings = jnp.reshape(embeddings, (*batch.labels.shape, -1))
        logits = network.predict(params, keys, embeddings, batch.labels, at="examples")
        return (
            examples,
            jax.nn.softmax(logits, axis=-1),
            network.attend(params, keys, embeddings, batch.labels),
        )

    examples, probabilities, attention = jax.device_get(
        compute(run.params, run.batch_stats, run.device_bank())
    )
    positions = np.arange(batch.labels.shape[1])
    if not interleaved:
        positions, probabilities = positions[-1:], probabilities[:, -1:]
    tokens = token_names(batch.labels, interleaved)
    return Trace(batch, examples, probabilities, positions, attention, tokens)


def token_names(labels_BS: np.ndarray, interleaved: bool) -> np.ndarray:
    """What each token is, str [B, T]; see Trace."""

    def names(labels: np.ndarray) -> list[str]:
        context = [str(label) for label in labels[:-1]]
        if interleaved:
            return [f"{kind} {label}" for label in context for kind in "xy"] + ["query"]
        return [f"x, y {label}" for label in context] + ["query"]

    return np.array([names(labels) for labels in labels_BS])
