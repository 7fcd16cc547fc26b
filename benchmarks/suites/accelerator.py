"""What only an accelerator is asked: precisions, batches, steps a call, determinism."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping

import ml_collections

from benchmarks.processes import elsewhere
from benchmarks.records import Measurements, Settings
from benchmarks.suites.compare import Subject
from benchmarks.workloads import OurTrainer, changed, load

BATCHES = (32, 128, 512)
STEPS_PER_CALL = 10
DETERMINISTIC = "--xla_gpu_deterministic_ops="
ROWS = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "true": "float32, deterministic",
    "false": "float32, not deterministic",
}


def subjects(settings: Settings, found: Measurements) -> Generator[Subject]:
    """Steps without their feed; those of other flags in processes of their own."""
    config, name = settings.config, f"accelerator_{settings.subject}"
    found.note(f"{settings.subject}: {load(config)[1]}")
    settings.progress(f"{settings.subject}: precisions, batches, steps a call, determinism")
    for batch in BATCHES:
        configs = {
            precision: changed(config, training__batch_size=batch, model__precision=precision)
            for precision in ("float32", "bfloat16")
        }
        yield from _here(f"batch {batch}", f"{name}_{{}}_batch_{batch}", configs)
    several = {"float32": changed(config, training__steps_per_call=STEPS_PER_CALL)}
    heading = f"{STEPS_PER_CALL} steps a call"
    yield from _here(heading, f"{name}_steps_per_call_{STEPS_PER_CALL}", several)
    with contextlib.ExitStack() as stack:
        rivals = {
            flag: stack.enter_context(elsewhere(config, DETERMINISTIC + flag))
            for flag in ("true", "false")
        }
        yield Subject("own process", f"{name}_deterministic_{{}}", rivals)


def _here(
    heading: str, name: str, configs: Mapping[str, ml_collections.ConfigDict]
) -> Generator[Subject]:
    """Steps of some configs in this process."""
    with contextlib.ExitStack() as stack:
        trainers = {rival: OurTrainer(load(config)[0]) for rival, config in configs.items()}
        for trainer in trainers.values():
            stack.callback(trainer.close)
        yield Subject(
            heading, name, {rival: one.rival("compute") for rival, one in trainers.items()}
        )
