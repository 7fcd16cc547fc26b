"""What a config shows: its sequences drawn, measured and pictured. Needs the data, no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emergent_icl import randomness
from emergent_icl.data.bank import DeviceBank
from emergent_icl.data.sequences.burstiness import (
    SequenceStatistics,
    draw_sample,
    sequence_statistics,
)
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.task import Task, fixed_labeling
from emergent_icl.evaluation.evaluate import make_judgement
from emergent_icl.plots.bursts import draw_bursts
from emergent_icl.plots.captions import describe_data, describe_sequences
from emergent_icl.plots.class_frequencies import ClassFrequencies, draw_class_frequencies
from emergent_icl.plots.sequences import Shown, draw_sequences
from emergent_icl.randomness import sequence_keys
from emergent_icl.training.build import Experiment

ROLES_NOTE = "Small print: role of the class in the split."
OWN_NOTE = "'own': its fixed label, where another one is shown."


class Subject(NamedTuple):
    """A sequence type of a config, with sequences of it.

    Attributes:
      name: of the type or evaluation mode.
      is_training: whether these are the training sequences.
      kind: the type.
      sample: int32 [N, S].
      statistics: of the sample.
    """

    name: str
    is_training: bool
    kind: SequenceType
    sample: SequenceBatch
    statistics: SequenceStatistics

    @property
    def stem(self) -> str:
        """Its name in files."""
        return _stem(self.name, self.is_training)

    @property
    def heading(self) -> str:
        """Its name in tables and figures."""
        return f"training ({self.name})" if self.is_training else self.name


def _stem(name: str, is_training: bool) -> str:
    return f"train_{name}" if is_training else name


def draw_subjects(training_name: str, task: Task, seed: int, sample_size: int) -> list[Subject]:
    """The training type first, then each evaluation mode.

    Args:
      training_name: config.data.sequences.type.
      task: of the config.
      seed: of the sample; nothing else is random.
      sample_size: sequences of each type.
    """
    kinds = [(training_name, True, task.training)]
    kinds += [(mode, False, kind) for mode, kind in task.evaluation.items()]
    subjects = []
    for name, is_training, kind in kinds:
        stream = f"inspect/{_stem(name, is_training)}"
        sample = draw_sample(kind.sample, seed, stream, sample_size)
        statistics = sequence_statistics(sample)
        subjects.append(Subject(name, is_training, kind, sample, statistics))
    return subjects


def draw_figures(
    experiment: Experiment, subjects: list[Subject], num_shown: int, seed: int, folder: Path
) -> list[Path]:
    """Draws every figure into a folder.

    Args:
      experiment: whose data they are.
      subjects: see `draw_subjects`.
      num_shown: sequences in each picture, the first of the sample.
      seed: that of the subjects.
      folder: made if it is not there.

    Returns:
      The files, in the order in which to look at them.
    """
    config = experiment.config
    data = describe_data(config)
    bank = jax.device_put(experiment.arrays())
    paths = []
    for subject in subjects:
        shown = show(experiment, bank, subject, num_shown, seed)
        options = describe_sequences(config, subject.kind, subject.is_training)
        paths.append(folder / f"sequences_{subject.stem}.png")
        what = subject.heading if subject.is_training else f"evaluation ({subject.name})"
        title = f"{config.name}: {what}"
        is_renamed = np.char.find(shown.notes, "own") >= 0
        note = f"{ROLES_NOTE} {OWN_NOTE}" if is_renamed.any() else ROLES_NOTE
        draw_sequences(shown, title, f"{options}\nData: {data}", note, paths[-1])

    training, space = subjects[0], experiment.task.space
    frequencies = ClassFrequencies(
        space.split,
        space.zipf_exponent,
        space.places_of(training.sample.class_ids),
        training.kind.follows_zipf,
    )
    options = describe_sequences(config, training.kind, is_training=True)
    paths.append(folder / "class_frequencies.png")
    title = f"{config.name}: how often each class is shown in training"
    draw_class_frequencies(frequencies, title, f"{training.name}: {options}", paths[-1])

    paths.append(folder / "bursts.png")
    measured = {subject.heading: subject.statistics for subject in subjects}
    draw_bursts(measured, f"{config.name}: burstiness", paths[-1])
    return paths


def show(
    experiment: Experiment, bank: DeviceBank, subject: Subject, count: int, seed: int
) -> Shown:
    """The first sequences of a subject as the encoder sees them; the sample may be smaller.

    Args:
      experiment: whose data they are.
      bank: its examples, on a device.
      subject: see `draw_subjects`.
      count: sequences to show.
      seed: that of the subject.
    """
    class_ids, exemplar_ids, labels = draw_sample(
        subject.kind.sample, seed, f"inspect/{subject.stem}", count
    )
    rng = randomness.generator(seed, f"inspect/{subject.stem}/shown")
    key = jax.random.PRNGKey(rng.integers(2**32, dtype=np.uint32))
    keys = sequence_keys(key, jnp.arange(count))
    noise_scale = np.float32(experiment.config.data.noise_scale)
    examples = jax.jit(experiment.materialise)(bank, class_ids, exemplar_ids, keys, noise_scale)
    notes = _notes(experiment, subject.kind, class_ids, labels)
    return Shown(experiment.task.shape.kind, np.asarray(examples), class_ids, labels, notes)


def _notes(
    experiment: Experiment, kind: SequenceType, class_ids: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Role of each example's class, and its fixed label where another is shown; str [B, S]."""
    config, task = experiment.config, experiment.task
    roles = task.space.roles_of(class_ids)
    own = task.space.first_labels(task.space.places_of(class_ids), fixed_labeling(config))
    # With label multiplicity any label of the class is its own.
    owners = make_judgement(config, task, kind).owners
    is_renamed = (owners[labels] != owners[own]) & (roles != "holdout")
    renamed = np.char.add(np.char.add(roles, "\nown "), own.astype(str))
    return np.where(is_renamed, renamed, roles)


def report(experiment: Experiment, subjects: list[Subject], seed: int) -> dict[str, Any]:
    """The content of inspection.json: measurements, and what they were made on."""
    measured = [subject.statistics._asdict() for subject in subjects]
    return {
        "config_name": experiment.config.name,
        "seed": seed,
        "training": {subjects[0].name: measured[0]},
        "evaluation": {
            subject.name: entry for subject, entry in zip(subjects[1:], measured[1:], strict=True)
        },
        "config": experiment.config.to_dict(),
    }
