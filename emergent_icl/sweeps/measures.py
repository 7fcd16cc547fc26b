"""What a sweep measures of its runs: short names for the metrics that claims speak of."""

from __future__ import annotations

from emergent_icl.evaluation import ICL, IWL
from emergent_icl.plan import Plan

# Name -> key of metrics.jsonl. Any other measure is such a key itself: 'eval/flip/accuracy'.
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


def evaluation_mode(measure: str) -> str | None:
    """The evaluation mode that a measure is of; None for one of training."""
    kind, *rest = metric_key(measure).split("/")
    return rest[0] if kind == "eval" and len(rest) == 2 else None


def chance_level(measure: str, plan: Plan) -> float | None:
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
