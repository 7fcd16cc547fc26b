"""Metrics of predictions for queries, and their means over sequences.

To add a metric, register a function `(Predictions) -> a number for each query [B]`, as below.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emergent_icl.config.registry import METRICS
from emergent_icl.data.bank import Array, Scalar
from emergent_icl.models.losses import greatest, only_used, query_loss

Z_95 = 1.959963984540054
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
    owners: Array  # int [L], equal for own labels of one class, held-out ones included; -1: none
    # int [], the run uses only this many labels; None for all
    used_labels: Scalar | None = None


class Predictions(NamedTuple):
    """What a model predicts for B queries, and what metrics compare it with."""

    logits: jax.Array  # [B, L], -inf for labels that the run does not use
    labels: Array  # int [B, S], of the sequences; the last is the query's
    open: jax.Array  # int [B], the label with the greatest logit
    closed: jax.Array  # int [B], the valid label with the greatest logit
    own: Array  # int [B], class of the query, as in `judgment.owners`
    judgment: Judgment


def query_metrics(
    logits_BL: jax.Array, labels_BS: Array, own_B: Array, judgment: Judgment
) -> dict[str, jax.Array]:
    """Every metric of every query, float [B]; see METRICS and Predictions."""
    logits_BL = only_used(logits_BL, judgment.used_labels)
    closed_B = greatest(jnp.where(judgment.is_valid, logits_BL, -jnp.inf))
    found = Predictions(logits_BL, labels_BS, greatest(logits_BL), closed_B, own_B, judgment)
    return {name: metric(found).astype(float) for name, metric in METRICS.items()}


@METRICS.register("loss", is_proportion=False, less_is_better=True)
def loss(found: Predictions) -> jax.Array:
    """Cross-entropy in nats."""
    return query_loss(found.logits, found.labels)


@METRICS.register("accuracy_closed", title="closed accuracy", answers_among="valid")
def accuracy_closed(found: Predictions) -> jax.Array:
    """Choosing among the valid labels, as in the paper's curve of in-context learning."""
    return _is_correct(found, found.closed)


@METRICS.register("accuracy", answers_among="all")
def accuracy(found: Predictions) -> jax.Array:
    """Choosing among all labels of the run ("open")."""
    return _is_correct(found, found.open)


def _is_correct(found: Predictions, predicted_B: jax.Array) -> jax.Array:
    answers = found.judgment.answers
    return answers[predicted_B] == answers[found.labels[:, -1]]


@METRICS.register("predicts_own_label", title="predicts the class's own label")
def predicts_own_label(found: Predictions) -> jax.Array:
    """The own label of the query's class, which training shows unless the class is held out."""
    return found.judgment.owners[found.open] == found.own


@METRICS.register("predicts_context", title="... a label of the context")
def predicts_context(found: Predictions) -> jax.Array:
    """A label that the context shows."""
    return (found.open[:, None] == found.labels[:, :-1]).any(axis=-1)


@METRICS.register("predicts_fewshot", title="... a few-shot label")
def predicts_fewshot(found: Predictions) -> jax.Array:
    """A label of few-shot sequences."""
    return found.judgment.is_fewshot[found.open]


@METRICS.register("predicts_common", title="... a common class")
def predicts_common(found: Predictions) -> jax.Array:
    """A label of a common class."""
    return found.judgment.is_common[found.open]


@METRICS.register("predicts_rare", title="... a rare class")
def predicts_rare(found: Predictions) -> jax.Array:
    """A label of a rare class."""
    return found.judgment.is_rare[found.open]


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
        name: interval(values, METRICS.about(name).is_proportion)
        for name, values in per_sequence.items()
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
