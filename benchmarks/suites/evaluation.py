"""Evaluation: many sequences at once, each drawing embedded once, or one by one."""

from __future__ import annotations

from collections.abc import Generator

import jax

from benchmarks.baseline.sequences import SequenceMaker, why_not
from benchmarks.baseline.training import BaselineEvaluator
from benchmarks.records import Measurements, Settings
from benchmarks.suites.compare import Subject
from benchmarks.timing import Rival
from benchmarks.workloads import changed, load
from emergent_icl.training.build import Experiment

# Mode -> its name in measurements.
MODES = {"fewshot_holdout": "eval_fewshot_holdout", "no_support_zipfian": "eval_no_support"}


def subjects(settings: Settings, found: Measurements) -> Generator[Subject]:
    """The paper's two modes, on freshly initialized parameters."""
    reason = why_not(settings.config)
    if reason is not None:
        found.note(f"{settings.subject}: no baseline evaluation, {reason}")
    for mode, name in MODES.items():
        settings.progress(f"{settings.subject}: {mode}")
        experiment, source = load(changed(settings.config, evaluation__modes=(mode,)))
        found.note(f"{settings.subject}: {source}")
        rivals = {"ours": _ours(experiment)}
        if reason is None:
            make = getattr(SequenceMaker(experiment), mode)
            rivals["baseline"] = Rival(BaselineEvaluator(experiment, make).run)
        yield Subject(mode, f"{name}_{settings.subject}_{{}}", rivals)


def _ours(experiment: Experiment) -> Rival:
    """Whole evaluations of the config's number of sequences."""
    evaluator, bank = experiment.evaluator(), jax.device_put(experiment.arrays())
    state = experiment.init(0)

    def run(count: int) -> None:
        for _ in range(count):
            evaluator(state.params, state.batch_stats, bank)

    return Rival(run, experiment.config.evaluation.num_sequences)
