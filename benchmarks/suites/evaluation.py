"""Seconds a sequence in evaluation: many at once, each drawing embedded once, or one by one."""

from __future__ import annotations

import jax

from benchmarks import timing
from benchmarks.baseline.sequences import evaluation_maker, why_not
from benchmarks.baseline.training import BaselineEvaluator
from benchmarks.findings import SUITES, Findings, Settings, Table
from benchmarks.workloads import changed, load
from emergent_icl.training.build import Experiment

# Mode -> its name among the speedups.
MODES = {"fewshot_holdout": "eval_fewshot_holdout", "no_support_zipfian": "eval_no_support"}
BASELINE_SEQUENCES = 30


@SUITES.register("eval")
def evaluate(settings: Settings) -> Findings:
    """Times the paper's two modes on freshly initialised parameters."""
    findings = Findings()
    reason = why_not(settings.config)
    rows: dict[str, list[str]] = {"ours, ms": [], "baseline, ms": [], "speedup": []}
    for mode, name in MODES.items():
        settings.progress(f"{settings.subject}: {mode}")
        experiment, source = load(changed(settings.config, evaluation__modes=(mode,)))
        findings.notes.append(f"{settings.subject}: {source}")
        name = f"{name}_{settings.subject}"
        blocks = {"ours": _our_block(experiment, settings.seconds)}
        if reason is None:
            blocks["baseline"] = _baseline_block(experiment, mode)
        samples = timing.alternate(blocks, settings.rounds, warmup=1)
        cells = ["-", "-", "-"]
        for i, who in enumerate(blocks):
            measured = timing.summarise(f"{name}_{who}", samples[who], "ms/sequence", 1e3)
            findings.measurements.append(measured)
            cells[i] = f"{measured.median:.3g} ({measured.min:.3g} to {measured.max:.3g})"
        if reason is None:
            speedup, spread = timing.ratio(f"{name}_speedup", samples["baseline"], samples["ours"])
            findings.speedups[name] = speedup
            findings.measurements.append(spread)
            cells[2] = f"{speedup:.3g} x ({spread.min:.3g} to {spread.max:.3g})"
        for row, cell in zip(rows.values(), cells, strict=True):
            row.append(cell)
    if reason is not None:
        findings.notes.append(f"{settings.subject}: no baseline evaluation, {reason}")
    count = settings.config.evaluation.num_sequences
    title = f"Evaluation, a sequence ({count:,} of ours, {BASELINE_SEQUENCES} of the baseline)"
    findings.tables.append(Table(title, list(MODES), rows))
    return findings


def _our_block(experiment: Experiment, seconds: float) -> timing.Block:
    """Whole evaluations of the config's number of sequences, for about as long."""
    evaluator, bank = experiment.evaluator(), jax.device_put(experiment.arrays())
    state = experiment.init(0)

    def run(count: int) -> None:
        for _ in range(count):
            evaluator(state.params, state.batch_stats, bank)

    block = timing.fit_block(run, seconds)
    return timing.Block(block.run, block.count * experiment.config.evaluation.num_sequences)


def _baseline_block(experiment: Experiment, mode: str) -> timing.Block:
    evaluator = BaselineEvaluator(experiment, evaluation_maker(experiment, mode))
    return timing.Block(lambda: evaluator.run(BASELINE_SEQUENCES), BASELINE_SEQUENCES)
