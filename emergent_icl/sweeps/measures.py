"""What a sweep measures of its runs: short names for metrics, and their values by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from emergent_icl.config.configs import named_overrides
from emergent_icl.config.registry import nearest_name
from emergent_icl.data.task import Task
from emergent_icl.evaluation.metrics import ICL, IWL, METRICS
from emergent_icl.runs.records import Record, read_metrics
from emergent_icl.runs.workdir import Workdir

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


def measure_problem(measure: str) -> str:
    """What is wrong with a measure: '' for a name in MEASURES, or 'eval/MODE/METRIC'."""
    _, _, metric = metric_key(measure).rpartition("/")
    known = metric in METRICS and evaluation_mode(measure) is not None
    if measure in MEASURES or known:
        return ""
    return (
        f"there is no measure '{measure}'{nearest_name(measure, MEASURES)} (allowed: "
        f"{', '.join(MEASURES)}, or eval/MODE/METRIC, with METRIC one of {', '.join(METRICS)})"
    )


def evaluation_mode(measure: str) -> str | None:
    """The evaluation mode that a measure is of; None for one of training."""
    kind, *rest = metric_key(measure).split("/")
    return rest[0] if kind == "eval" and len(rest) == 2 else None


def more_is_better(measure: str) -> bool:
    """Whether a larger value means that more was learned: of all but losses."""
    return metric_key(measure).rsplit("/", 1)[-1] != "loss"


def chance(measure: str, task: Task) -> float | None:
    """What guessing gives, in [0, 1]: of the valid labels for a closed accuracy, else of all.

    None for what is not an accuracy, or of a mode that the task lacks.
    """
    kind = task.evaluation.get(evaluation_mode(measure) or "")
    metric = metric_key(measure).rsplit("/", 1)[-1]
    if kind is None or metric not in ("accuracy", "accuracy_closed"):
        return None
    if metric == "accuracy" and kind.is_fewshot:
        # Its labels are a few of those that the model may give.
        return 1 / task.num_labels
    chosen_from = kind.valid_labels if metric == "accuracy_closed" else kind.answers >= 0
    return 1 / len(set(kind.answers[chosen_from].tolist()))


class MeasuredRun(NamedTuple):
    """What one run, a replica of a job, measured: measure -> {step: value}, steps increasing."""

    curves: Mapping[str, Mapping[int, float]]
    seed: int = 0
    replica: str = ""
    diverged_at_step: int | None = None

    @property
    def final(self) -> dict[str, float]:
        """Measure -> its last value."""
        return {name: list(curve.values())[-1] for name, curve in self.curves.items() if curve}


class Evidence(NamedTuple):
    """The runs of each condition, without those that diverged, and its place on the axis."""

    runs: Mapping[str, tuple[MeasuredRun, ...]]
    values: Mapping[str, float | None]

    def final(self, condition: str, measure: str) -> list[float]:
        """A measure at the end of every run of a condition."""
        return [run.final[measure] for run in self.runs[condition]]


def read_runs(workdir: Workdir) -> list[MeasuredRun]:
    """The runs of a job that is complete, in the order of its replicas; [] if it is not."""
    summary = workdir.read_summary()
    if summary is None:
        return []
    config, records = workdir.read_config(), read_metrics(workdir.metrics)
    runs = []
    for name, overrides in named_overrides(config):
        own = [record for record in records if record.get("replica", "") == name]
        about = summary["replicas"][name] if name else summary
        seed = overrides.get("training.seed", config.training.seed)
        runs.append(MeasuredRun(_curves(own), seed, name, about.get("diverged_at_step")))
    return runs


def _curves(records: list[Record]) -> dict[str, dict[int, float]]:
    """Curves of every named measure, and of every other evaluation metric."""
    named = {key: name for name, key in MEASURES.items()}
    keys = dict.fromkeys(key for record in records for key in record)
    measures = {named.get(key, key): key for key in keys if key in named or evaluation_mode(key)}
    # The loss has many more lines: those of evaluations are enough for a curve.
    lines = [one for one in records if any(key.startswith("eval/") for key in one)]
    return {
        name: {one["step"]: one[key] for one in lines if key in one}
        for name, key in measures.items()
    }
