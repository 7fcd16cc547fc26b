"""Measures: short names for metrics of runs, and what is known about their values."""

from emergent_icl.config.registry import METRICS, nearest_name
from emergent_icl.data.task import Task
from emergent_icl.evaluation.metrics import ICL, IWL

# Name -> key in metrics.jsonl. Other measures are keys themselves, such as 'eval/flip/accuracy'.
MEASURES = {
    "icl": "eval/{}/{}".format(*ICL),
    "iwl": "eval/{}/{}".format(*IWL),
    "iwl_common": "eval/no_support_common/accuracy",
    "iwl_rare": "eval/no_support_rare/accuracy",
    "loss": "train/loss",
}
# Smaller differences between accuracies are not reported.
_VISIBLE = 0.02


def metric_key(measure: str) -> str:
    """The key of a measure in metrics.jsonl."""
    return MEASURES.get(measure, measure)


def measure_problem(measure: str) -> str:
    """A message if a measure is neither in MEASURES nor 'eval/MODE/METRIC'; otherwise ''."""
    if measure in MEASURES or (evaluation_mode(measure) and _metric(measure) in METRICS):
        return ""
    return (
        f"there is no measure '{measure}'{nearest_name(measure, MEASURES)} (allowed: "
        f"{', '.join(MEASURES)}, or eval/MODE/METRIC, with METRIC one of {', '.join(METRICS)})"
    )


def evaluation_mode(measure: str) -> str | None:
    """The evaluation mode of a measure; None for a measure of training."""
    kind, *rest = metric_key(measure).split("/")
    return rest[0] if kind == "eval" and len(rest) == 2 else None


def more_is_better(measure: str) -> bool:
    """Whether larger values are better: true for all measures except losses."""
    return not METRICS.about(_metric(measure)).less_is_better


def is_share(measure: str) -> bool:
    """Whether it lies in [0, 1]: an accuracy, or the frequency of a kind of prediction."""
    about = METRICS.about(_metric(measure))
    return evaluation_mode(measure) is not None and about.is_proportion


def is_accuracy(measure: str) -> bool:
    """Whether it is a fraction of correct answers."""
    return METRICS.about(_metric(measure)).answers_among != ""


def _metric(measure: str) -> str:
    return metric_key(measure).rsplit("/", 1)[-1]


def chance(measure: str, task: Task) -> float | None:
    """Accuracy of guessing, in [0, 1]: among the valid labels if closed, otherwise all answers.

    None if the measure is not an accuracy, or the task lacks its mode.
    """
    kind = task.evaluation.get(evaluation_mode(measure) or "")
    if kind is None or not is_accuracy(measure):
        return None
    is_open = METRICS.about(_metric(measure)).answers_among == "all"
    if is_open and kind.is_fewshot:
        # Few-shot labels are a subset of those that the model may predict.
        return 1 / task.used_labels
    chosen_from = kind.answers >= 0 if is_open else kind.valid_labels
    return 1 / len(set(kind.answers[chosen_from].tolist()))


def best_constant(measure: str, task: Task) -> float | None:
    """Accuracy of always predicting the most frequent label, in [0, 1].

    Depends on class frequencies alone, and is far above chance if these are skewed. None if
    the measure is not an accuracy, or the distribution of its queries is unknown.
    """
    kind = task.evaluation.get(evaluation_mode(measure) or "")
    return kind.best_constant if kind is not None and is_accuracy(measure) else None


def visible_constant(measure: str, task: Task) -> float | None:
    """`best_constant` if it is visibly above `chance`, else None."""
    constant = best_constant(measure, task)
    return constant if is_visible(constant, chance(measure, task)) else None


def is_visible(constant: float | None, chance: float | None) -> bool:
    """Whether a constant answer scores so far above chance that it must be reported."""
    return constant is not None and constant - (chance or 0.0) > _VISIBLE
