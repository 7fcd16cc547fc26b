"""What a sweep measures of its runs: short names for the metrics that claims speak of."""

from __future__ import annotations

from emergent_icl.config.registry import nearest_name
from emergent_icl.data.task import Task
from emergent_icl.evaluation.evaluate import ICL, IWL
from emergent_icl.evaluation.metrics import METRICS

# Name -> key of metrics.jsonl. Any other measure is an evaluation's key: 'eval/flip/accuracy'.
MEASURES = {
    "icl": "eval/{}/{}".format(*ICL),
    "iwl": "eval/{}/{}".format(*IWL),
    "iwl_common": "eval/no_support_common/accuracy",
    "iwl_rare": "eval/no_support_rare/accuracy",
    "loss": "train/loss",
}


def metric_key(measure: str) -> str:
    """Where a measure stands in a line of metrics.jsonl."""
    return MEASURES.get(measure, measure)


def check_measure(measure: str) -> None:
    """Checks that runs can have measured it.

    Raises:
      ValueError: it is no measure's name, and no 'eval/MODE/METRIC'; says what is allowed.
    """
    _, _, metric = metric_key(measure).rpartition("/")
    known = metric in METRICS and evaluation_mode(measure) is not None
    if measure not in MEASURES and not known:
        raise ValueError(
            f"there is no measure '{measure}'{nearest_name(measure, MEASURES)} (allowed: "
            f"{', '.join(MEASURES)}, or eval/MODE/METRIC, with METRIC one of {', '.join(METRICS)})"
        )


def evaluation_mode(measure: str) -> str | None:
    """The evaluation mode that a measure is of; None for one of training."""
    kind, *rest = metric_key(measure).split("/")
    return rest[0] if kind == "eval" and len(rest) == 2 else None


def chance_level(measure: str, plan: Task) -> float | None:
    """What guessing gives: one of the valid labels for a closed accuracy, else one of all labels.

    Args:
      measure: its name or key.
      plan: of the run.

    Returns:
      In [0, 1]; None for what is no accuracy, or of a mode that the plan lacks.
    """
    kind = plan.evaluation.get(evaluation_mode(measure) or "")
    metric = metric_key(measure).rsplit("/", 1)[-1]
    if kind is None or metric not in ("accuracy", "accuracy_closed"):
        return None
    answers = kind.answers
    if metric == "accuracy":
        return 1 / len(set(answers[answers >= 0].tolist()))
    return 1 / len(set(answers[kind.valid_labels].tolist()))
