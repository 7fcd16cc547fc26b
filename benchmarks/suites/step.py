"""A training step: ours and the baseline's, its floor, and where its time goes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator

from benchmarks import explain
from benchmarks.baseline.sequences import training_batch, training_feed, why_not
from benchmarks.baseline.training import BaselineTrainer
from benchmarks.records import Measurements, Settings
from benchmarks.suites.compare import Subject
from benchmarks.suites.data import has_tensorflow
from benchmarks.timing import Rival
from benchmarks.workloads import OurTrainer, load
from emergent_icl.training.build import Experiment

KINDS = ("compute", "end_to_end")


def subjects(settings: Settings, found: Measurements) -> Generator[Subject]:
    """Steps of the config and of the small preset, computed alone and fed."""
    for subject, config in settings.configs.items():
        experiment, source = load(config)
        found.note(f"{subject}: {source}")
        settings.progress(f"{subject}: compiling both ways")
        reason = why_not(config)
        if reason is not None:
            found.note(f"{subject}: no baseline, {reason}")
        with contextlib.closing(OurTrainer(experiment)) as ours:
            theirs = BaselineTrainer(experiment) if reason is None else None
            for kind in KINDS:
                words = kind.replace("_", " ")
                settings.progress(f"{subject}: steps, {words}")
                with contextlib.ExitStack() as stack:
                    rivals = {"ours": ours.rival(kind)}
                    if theirs is not None and (kind == "compute" or has_tensorflow()):
                        rivals["baseline"] = _baseline(theirs, experiment, kind, stack)
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


def _baseline(
    theirs: BaselineTrainer, experiment: Experiment, kind: str, stack: contextlib.ExitStack
) -> Rival:
    if kind == "compute":
        placed = theirs.place(training_batch(experiment))
        return Rival(functools.partial(theirs.compute, placed))
    # The iterator's threads call back into Python: they must end with this block.
    feed = stack.enter_context(contextlib.closing(training_feed(experiment)))
    return Rival(functools.partial(theirs.run, feed), at_least=2)
