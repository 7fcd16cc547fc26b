"""Evidence: what the runs of a sweep measured, as its checks read it."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from emergent_icl.config.configs import named_overrides
from emergent_icl.evaluation.measures import MEASURES, evaluation_mode, is_share
from emergent_icl.runs.records import Record, is_evaluation, read_metrics
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.statistics import Sample


class MeasuredRun(NamedTuple):
    """Measurements of one run, a replica of a job.

    Each evaluation mode has `num_sequences` sequences, drawn with `evaluation_seed`.
    """

    curves: Mapping[str, Mapping[int, float]]  # {measure: {step: value}}, sorted by step.
    seed: int = 0
    replica: str = ""
    diverged_at_step: int | None = None
    evaluation_seed: int | None = None
    num_sequences: int = 0

    @property
    def final(self) -> dict[str, float]:
        """{measure: last value}."""
        return {name: list(curve.values())[-1] for name, curve in self.curves.items() if curve}


def sample_of(
    measure: str, values: Sequence[float], drawn: Sequence[tuple[int | None, int]]
) -> Sample:
    """Values of runs, with the seed and number of each run's evaluation sequences."""
    if evaluation_mode(measure) is None:
        return Sample(values)
    seeds = tuple(seed for seed, _ in drawn if seed is not None)
    return Sample(values, seeds, min(count for _, count in drawn) if is_share(measure) else 0)


class Evidence(NamedTuple):
    """Everything that checks may read, by condition."""

    runs: Mapping[str, tuple[MeasuredRun, ...]]  # Without diverged runs, sorted by seed.
    values: Mapping[str, Any]  # Positions on the axis.
    # {measure: accuracy of the best constant answer}, if known.
    constants: Mapping[str, Mapping[str, float]] = MappingProxyType({})

    def sample(self, condition: str, measure: str) -> Sample:
        """Final values of a measure, one per run of a condition."""
        runs = self.runs[condition]
        drawn = [(run.evaluation_seed, run.num_sequences) for run in runs]
        return sample_of(measure, [run.final[measure] for run in runs], drawn)


def read_runs(workdir: Workdir) -> list[MeasuredRun]:
    """The runs of a complete job, in the order of its replicas; [] if it is incomplete.

    Raises:
      WorkdirError: metrics.jsonl is damaged, or lacks the last evaluation of a run.
    """
    summary = workdir.read_summary()
    if summary is None:
        return []
    config, records = workdir.read_config(), read_metrics(workdir.metrics)
    runs, last = [], summary["step"]
    for name, overrides in named_overrides(config):
        own = [record for record in records if record.get("replica", "") == name]
        about = summary["replicas"][name] if name else summary
        seed = overrides.get("training.seed", config.training.seed)
        evaluation_seed = overrides.get("evaluation.seed", config.evaluation.seed)
        ended, count = about.get("diverged_at_step"), config.evaluation.num_sequences
        if ended is None and not any(is_evaluation(one) for one in own if one["step"] == last):
            raise WorkdirError(
                f"{workdir.metrics} lacks the evaluation {f'of {name} ' if name else ''}at step "
                f"{last}, where {workdir.summary.name} says that the run ended: copy the folder "
                f"again, or remove it and rerun the command"
            )
        runs.append(MeasuredRun(_curves(own), seed, name, ended, evaluation_seed, count))
    return runs


def _curves(records: list[Record]) -> dict[str, dict[int, float]]:
    """Curves of all named measures and all other evaluation metrics."""
    named = {key: name for name, key in MEASURES.items()}
    keys = dict.fromkeys(key for record in records for key in record)
    measures = {named.get(key, key): key for key in keys if key in named or evaluation_mode(key)}
    # The loss is logged more often; its values at evaluations suffice for a curve.
    lines = [one for one in records if is_evaluation(one)]
    return {
        name: {one["step"]: one[key] for one in lines if key in one}
        for name, key in measures.items()
    }
