"""Eight replicas in one program against one alone, for the small preset."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from benchmarks.records import Measurements, Settings
from benchmarks.suites.compare import Subject
from benchmarks.suites.step import KINDS
from benchmarks.workloads import OurTrainer, changed, load
from emergent_icl.presets import omniglot


def subjects(settings: Settings, found: Measurements) -> Generator[Subject]:
    """A step of 1 and of 8 replicas."""
    small = settings.small or omniglot.get_config("small")
    trainers = {}
    with contextlib.ExitStack() as stack:
        for count in (1, 8):
            experiment, source = load(changed(small, training__replicas=count))
            found.note(f"small: {source}")
            trainers[str(count)] = stack.enter_context(contextlib.closing(OurTrainer(experiment)))
        for kind in KINDS:
            words = kind.replace("_", " ")
            settings.progress(f"steps of 1 and of 8 replicas, {words}")
            rivals = {count: trainer.rival(kind) for count, trainer in trainers.items()}
            yield Subject(words, f"replicas_small_{{}}_{kind}", rivals)
    found.figures["replicas_small_8_over_1"] = found.ratios["replicas_small_8_over_1_end_to_end"]
