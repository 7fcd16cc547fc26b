"""Samples, statistics, and figures of a config's sequences. Needs data but no model."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from emergent_icl import randomness
from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.sequences.burstiness import SequenceStatistics, sequence_statistics
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.samples import draw_sample
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.task import Task, fixed_labeling
from emergent_icl.evaluation.evaluate import make_judgment
from emergent_icl.plots.bursts import bursts_figure
from emergent_icl.plots.captions import describe_data, describe_sequences
from emergent_icl.plots.class_frequencies import ClassFrequencies, class_frequencies_figure
from emergent_icl.plots.sequences import Shown, sequences_figure
from emergent_icl.training.build import Experiment

ROLES_NOTE = "Small print: role of the class."
OWN_NOTE = "'own': its fixed label, if a different one is shown."


class Subject(NamedTuple):
    """A sequence type or evaluation mode with a sample of it, int32 [N, S]."""

    name: str
    is_training: bool
    stem: str  # Name in files and random streams.
    kind: SequenceType
    sample: SequenceBatch
    statistics: SequenceStatistics

    @property
    def heading(self) -> str:
        """Name in tables and figures."""
        return f"training ({self.name})" if self.is_training else self.name


def draw_subjects(training_name: str, task: Task, seed: int, sample_size: int) -> list[Subject]:
    """Samples the training type (config.data.sequences.type), then each evaluation mode."""
    kinds = [(training_name, True, task.training)]
    kinds += [(mode, False, kind) for mode, kind in task.evaluation.items()]
    subjects = []
    for name, is_training, kind in kinds:
        stem = f"train_{name}" if is_training else name
        sample = draw_sample(kind.sample, seed, f"inspect/{stem}", sample_size)
        measured = sequence_statistics(sample)
        subjects.append(Subject(name, is_training, stem, kind, sample, measured))
    return subjects


def figures(
    experiment: Experiment, subjects: list[Subject], num_shown: int, seed: int, who: str
) -> Iterator[tuple[str, Figure]]:
    """All figures with their file names; the seed must be that of the subjects.

    Sequences are the first of each subject's sample. `who` names the run in the titles.
    """
    config = experiment.config
    bank = jax.device_put(experiment.arrays())
    for subject in subjects:
        shown = show(experiment, bank, subject, num_shown, seed)
        options = describe_sequences(config, subject.kind, subject.is_training)
        what = subject.heading if subject.is_training else f"evaluation ({subject.name})"
        title, subtitle = f"{who}: {what}", f"{options}\nData: {describe_data(config)}"
        is_renamed = any("own" in note for note in shown.notes.flat)
        note = f"{ROLES_NOTE} {OWN_NOTE}" if is_renamed else ROLES_NOTE
        yield f"sequences_{subject.stem}.png", sequences_figure(shown, title, subtitle, note)
    training, space = subjects[0], experiment.task.space
    places = space.places_of(training.sample.class_ids)
    shares = ClassFrequencies(space.split, space.zipf_exponent, places, training.kind.follows_zipf)
    title = f"{who}: class frequencies in training"
    options = f"{training.name}: {describe_sequences(config, training.kind, is_training=True)}"
    yield "class_frequencies.png", class_frequencies_figure(shares, title, options)
    measured = {subject.heading: subject.statistics for subject in subjects}
    yield "bursts.png", bursts_figure(measured, f"{who}: burstiness")


def show(
    experiment: Experiment, bank: DeviceBank, subject: Subject, count: int, seed: int
) -> Shown:
    """The first sequences of a subject as the encoder sees them; may exceed its sample."""
    stream = f"inspect/{subject.stem}"
    class_ids, exemplar_ids, labels = draw_sample(subject.kind.sample, seed, stream, count)
    rng = randomness.generator(seed, f"{stream}/shown")
    key = jax.random.PRNGKey(rng.integers(2**32, dtype=np.uint32))
    keys = randomness.sequence_keys(key, jnp.arange(count))
    noise_scale = np.float32(experiment.config.data.noise_scale)
    examples = jax.jit(experiment.materialize)(bank, class_ids, exemplar_ids, keys, noise_scale)
    notes = _notes(experiment, subject.kind, class_ids, labels)
    return Shown(experiment.task.shape.kind, np.asarray(examples), class_ids, labels, notes)


def _notes(
    experiment: Experiment, kind: SequenceType, class_ids: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Role of each class, and its fixed label if a different one is shown; str [B, S]."""
    config, task = experiment.config, experiment.task
    roles = task.space.roles_of(class_ids)
    own = task.space.first_labels(task.space.places_of(class_ids), fixed_labeling(config))
    # With label multiplicity, a class has several own labels.
    owners = make_judgment(config, task, kind).owners
    is_renamed = (owners[labels] != owners[own]) & (roles != "holdout")
    names = np.where(roles == "holdout", "held-out", roles)
    renamed = np.char.add(np.char.add(names, "\nown "), own.astype(str))
    return np.where(is_renamed, renamed, names)


def report(experiment: Experiment, subjects: list[Subject], seed: int) -> dict[str, Any]:
    """The content of inspection.json: statistics, config, and seed."""
    training, *others = subjects
    return {
        "config_name": experiment.config.name,
        "seed": seed,
        "training": {training.name: training.statistics._asdict()},
        "evaluation": {subject.name: subject.statistics._asdict() for subject in others},
        "config": experiment.config.to_dict(),
    }
