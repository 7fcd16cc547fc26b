"""What only an accelerator is asked: precisions, batches, steps a call, determinism."""

from __future__ import annotations

import itertools

import ml_collections

from benchmarks import timing
from benchmarks.findings import Findings, Settings, Table
from benchmarks.processes import time_elsewhere
from benchmarks.workloads import OurTrainer, changed, load

BATCHES = (32, 128, 512)
PRECISIONS = ("float32", "bfloat16")
STEPS_PER_CALL = 10
DETERMINISTIC = "--xla_gpu_deterministic_ops="


def measure_accelerator(settings: Settings) -> Findings:
    """Milliseconds a step, without its feed."""
    findings = Findings()
    config, subject = settings.config, settings.subject
    cells: dict[str, list[str]] = {f"batch {batch}": [] for batch in BATCHES}
    for precision, batch in itertools.product(PRECISIONS, BATCHES):
        options = {"model__precision": precision, "training__batch_size": batch}
        name = f"accelerator_{subject}_{precision}_batch_{batch}"
        measured = _time_here(name, changed(config, **options), settings)
        findings.measurements.append(measured)
        cells[f"batch {batch}"].append(f"{measured.median:.4g}")
    findings.tables.append(Table("ms a step", list(PRECISIONS), cells))

    rows = {}
    several = changed(config, training__steps_per_call=STEPS_PER_CALL)
    name = f"accelerator_{subject}_steps_per_call_{STEPS_PER_CALL}"
    measured = _time_here(name, several, settings)
    findings.measurements.append(measured)
    rows[f"{STEPS_PER_CALL} steps a call"] = f"{measured.median:.4g}"
    for flag in ("true", "false"):
        _, source = load(config)
        samples = time_elsewhere(config, settings.rounds, settings.seconds, DETERMINISTIC + flag)
        name = f"accelerator_{subject}_deterministic_{flag}"
        measured = timing.summarise(name, samples, "ms/step", 1e3)
        findings.measurements.append(measured)
        rows[f"deterministic: {flag}, {source}"] = f"{measured.median:.4g}"
    batch = config.training.batch_size
    table = Table(f"ms a step, float32, batch {batch}", list(rows), {"": list(rows.values())})
    findings.tables.append(table)
    return findings


def _time_here(
    name: str, config: ml_collections.ConfigDict, settings: Settings
) -> timing.Measurement:
    experiment, _ = load(config)
    with OurTrainer(experiment) as ours:
        samples = timing.repeat(ours.compute_block(settings.seconds), settings.rounds)
    return timing.summarise(name, samples, "ms/step", 1e3)
