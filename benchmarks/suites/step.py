"""A training step: ours and the baseline's, its floor, and where its time goes; and of replicas."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from benchmarks import explain
from benchmarks.baseline.sequences import why_not
from benchmarks.baseline.training import BaselineTrainer
from benchmarks.records import Measurements, Settings
from benchmarks.suites.compare import Subject
from benchmarks.suites.data import has_tensorflow
from benchmarks.workloads import OurTrainer, changed, load
from emergent_icl.presets import omniglot

# On one batch, and with what feeds them.
KINDS = {"compute": "compute", "end_to_end": "end to end"}


def subjects(settings: Settings, found: Measurements) -> Generator[Subject]:
    """Steps of the config and of the small preset, computed alone and fed."""
    for subject, config in settings.configs.items():
        settings.progress(f"{subject}: steps")
        experiment, source = load(config)
        found.note(f"{subject}: {source}")
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(contextlib.closing(OurTrainer(experiment)))
            trainers = {"ours": ours}
            if (reason := why_not(config)) is not None:
                found.note(f"{subject}: no baseline, {reason}")
            else:
                theirs = contextlib.closing(BaselineTrainer(experiment))
                trainers["baseline"] = stack.enter_context(theirs)
            for kind, words in KINDS.items():
                if kind == "end_to_end" and not has_tensorflow():
                    trainers.pop("baseline", None)
                rivals = {name: trainer.rival(kind) for name, trainer in trainers.items()}
                yield Subject(f"{subject}, {words}", f"step_{subject}_{kind}_{{}}", rivals)
            # What was waited before was to try out the blocks.
            seconds, shares = zip(*ours.waits[-settings.rounds :], strict=True)
        if subject == "small":
            share = found.record("feed_share_small", shares, "1")
            found.figures["feed_share_small"] = share.median
        if subject == settings.subject:
            settings.progress(f"{subject}: floor, and parts of a step")
            explain.find_floor(found, experiment, settings)
            explain.find_parts(found, experiment, seconds, settings)


def replicas(settings: Settings, found: Measurements) -> Generator[Subject]:
    """Steps of 1 and of 8 replicas of the small preset."""
    small = settings.small or omniglot.get_config("small")
    settings.progress("steps of 1 and of 8 replicas")
    with contextlib.ExitStack() as stack:
        trainers = {}
        for count in (1, 8):
            experiment, source = load(changed(small, training__replicas=count))
            found.note(f"small: {source}")
            trainers[str(count)] = stack.enter_context(contextlib.closing(OurTrainer(experiment)))
        for kind, words in KINDS.items():
            rivals = {count: trainer.rival(kind) for count, trainer in trainers.items()}
            yield Subject(words, f"replicas_small_{{}}_{kind}", rivals)
    found.figures["replicas_small_8_over_1"] = found.ratios["replicas_small_8_over_1_end_to_end"]
