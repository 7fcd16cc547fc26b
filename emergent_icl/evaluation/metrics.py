"""Metrics of predictions for queries, and their means over sequences."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emergent_icl.data.bank import Array, Scalar
from emergent_icl.models.losses import greatest, own_labels, query_loss

Z_95 = 1.959963984540054
# Metrics that are real numbers; all others are proportions.
REAL_VALUED = ("loss",)
# What `query_metrics` returns.
METRICS = (
    "loss", "accuracy", "accuracy_closed", "predicts_common", "predicts_rare", "predicts_fewshot",
    "predicts_own_label", "predicts_context",
)  # fmt: skip

# Mode and metric of the paper's two curves.
ICL = ("fewshot_holdout", "accuracy_closed")
IWL = ("no_support_zipfian", "accuracy")


class Judgment(NamedTuple):
    """The roles of L labels; see SequenceType for the first two."""

    is_valid: Array  # bool [L], labels that closed accuracy chooses among
    answers: Array  # int [L], labels with equal entries are the same answer
    is_common: Array  # bool [L], labels of common classes
    is_rare: Array  # bool [L], labels of rare classes
    is_fewshot: Array  # bool [L], labels 0 .. ways-1 of few-shot sequences
    owners: Array  # int [L], class whose own label it is, held-out classes included; -1: none
    # int [], the run uses only this many labels; None for all
    used_labels: Scalar | None = None


def query_metrics(
    logits_BL: jax.Array, labels_BS: Array, own_B: Array, judgment: Judgment
) -> dict[str, jax.Array]:
    """Every metric of every query, float [B].

    `accuracy` chooses among all labels of the run ("open"), `accuracy_closed` among the valid ones,
    as in the paper's curve of in-context learning. `predicts_*` state whether the open prediction
    is a label of that kind. `predicts_own_label` states whether it is the own label of the query's
    class (which training shows unless the class is held out); `own_B` identifies the class as in
    `judgment.owners`.
    """
    logits_BL, labels = own_labels(logits_BL, judgment.used_labels), labels_BS[:, -1]
    prediction = greatest(logits_BL)
    closed = greatest(jnp.where(judgment.is_valid, logits_BL, -jnp.inf))
    correct = judgment.answers[labels]
    metrics = {
        "loss": query_loss(logits_BL, labels_BS),
        "accuracy": judgment.answers[prediction] == correct,
        "accuracy_closed": judgment.answers[closed] == correct,
        "predicts_common": judgment.is_common[prediction],
        "predicts_rare": judgment.is_rare[prediction],
        "predicts_fewshot": judgment.is_fewshot[prediction],
        "predicts_own_label": judgment.owners[prediction] == own_B,
        "predicts_context": (prediction[:, None] == labels_BS[:, :-1]).any(axis=-1),
    }
    return {name: value.astype(float) for name, value in metrics.items()}


class Interval(NamedTuple):
    """An estimate, usually a mean over sequences, with its 95% confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(values: np.ndarray, is_proportion: bool) -> Interval:
    """Mean and 95% interval of independent values, float [N], N >= 1.

    Wilson's interval for proportions, which is accurate near 0 and 1, and a normal interval for
    other values. It covers the draw of sequences, but neither the choice of held-out classes nor
    the seed of training.
    """
    count = len(values)
    mean = float(np.mean(values, dtype=np.float64))
    if is_proportion:
        return proportion(mean, count)
    deviation = float(np.std(values, ddof=1, dtype=np.float64)) if count > 1 else float("inf")
    half = float(Z_95 * deviation / np.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def proportion(mean: float, count: int) -> Interval:
    """Wilson's 95% interval of a proportion in [0, 1] of `count` independent sequences."""
    center = (mean + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    spread = mean * (1 - mean) / count + Z_95**2 / (4 * count**2)
    half = Z_95 * np.sqrt(spread) / (1 + Z_95**2 / count)
    return Interval(mean, float(min(center - half, mean)), float(max(center + half, mean)))


def intervals(per_sequence: dict[str, np.ndarray]) -> dict[str, Interval]:
    """The interval of each metric, given its values, float [N]."""
    return {
        name: interval(values, name not in REAL_VALUED) for name, values in per_sequence.items()
    }


# {mode: {metric: interval}}
Results = dict[str, dict[str, Interval]]


def curves(results: Results) -> dict[str, float | None]:
    """The paper's two numbers, ICL and IWL; None if the mode was not evaluated."""
    numbers = {"icl": ICL, "iwl": IWL}
    return {
        name: results[mode][metric].mean if mode in results else None
        for name, (mode, metric) in numbers.items()
    }
