"""What a config means, before any data is loaded or anything is compiled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import ml_collections

from emergent_icl.data.bank import SourceShape
from emergent_icl.data.sequences.class_space import ClassSpace
from emergent_icl.data.sequences.class_split import split_classes
from emergent_icl.data.sequences.types import (
    EVALUATION_MODES,
    SEQUENCE_TYPES,
    FewshotOptions,
    SequenceOptions,
    SequenceType,
)
from emergent_icl.data.sources.source import source_shape
from emergent_icl.models.tokens import num_tokens

# Encoders without convolutions, which lose nothing in a loop on CPU.
PLAIN_ENCODERS = ("mlp", "linear", "embedding")
MOST_STEPS_ON_CPU, MOST_STEPS = 10, 25


class Task(NamedTuple):
    """Everything about the data of a run that follows from its config alone.

    Attributes:
      shape: of what the data source shows.
      space: classes, roles and labels.
      training: the training sequences.
      evaluation: the sequences of each evaluation mode, by name.
      num_labels: L, the model's capacity of labels.
      num_positions: the model's capacity of tokens, where it learns their positions.
    """

    shape: SourceShape
    space: ClassSpace
    training: SequenceType
    evaluation: dict[str, SequenceType]
    num_labels: int
    num_positions: int


def make_task(config: ml_collections.ConfigDict) -> Task:
    """Derives the task.

    Raises:
      ValueError: parts of the config contradict each other.
      KeyError: a name is not registered.
    """
    shape = source_shape(config.data)
    space = class_space(config.data, shape)
    training = training_type(config, space)
    evaluation = {mode: evaluation_type(config, space, mode) for mode in config.evaluation.modes}
    num_positions = position_capacity(config, [training, *evaluation.values()])
    return Task(shape, space, training, evaluation, label_capacity(config, space), num_positions)


def label_capacity(config: ml_collections.ConfigDict, space: ClassSpace) -> int:
    """`model.num_labels`, or as many labels as the labelings of the config have.

    Not a matter of the evaluation modes: a run may be evaluated on others later.
    """
    if config.model.num_labels is not None:
        return config.model.num_labels
    labelings = {fixed_labeling(config), config.evaluation.fewshot_labeling} - {"unfixed"}
    ways = (config.data.sequences.ways, config.evaluation.ways)
    return max(*ways, *(space.num_labels(labeling) for labeling in labelings))


def position_capacity(config: ml_collections.ConfigDict, kinds: Sequence[SequenceType]) -> int:
    """`model.num_positions`, or as many tokens as the longest of these sequences has."""
    if config.model.num_positions is not None:
        return config.model.num_positions
    return max(num_tokens(kind.seq_len, config.model.tokens) for kind in kinds)


def class_space(data: ml_collections.ConfigDict, shape: SourceShape) -> ClassSpace:
    """Classes and roles of `config.data`."""
    return ClassSpace(
        split=split_classes(data.split, shape.num_classes, shape.group_size),
        num_bank_classes=shape.num_classes,
        num_exemplars=shape.num_exemplars,
        zipf_exponent=data.sequences.zipf_exponent,
        zipf_within_roles=data.sequences.zipf_within_roles,
        label_multiplicity=data.sequences.label_multiplicity,
        num_shared_labels=data.sequences.num_shared_labels,
    )


def training_type(config: ml_collections.ConfigDict, space: ClassSpace) -> SequenceType:
    """The training sequences of a config."""
    sequences = config.data.sequences
    fewshot = _fewshot_options(sequences, sequences.labeling)
    return SEQUENCE_TYPES[sequences.type](space, _options(config, sequences.labeling, fewshot))


def evaluation_type(
    config: ml_collections.ConfigDict, space: ClassSpace, mode: str
) -> SequenceType:
    """The sequences of one evaluation mode.

    What is few-shot in it has the options of `config.evaluation`, the rest those of training.
    """
    fewshot = _fewshot_options(config.evaluation, config.evaluation.fewshot_labeling)
    return EVALUATION_MODES[mode](space, _options(config, fixed_labeling(config), fewshot))


def _fewshot_options(section: ml_collections.ConfigDict, labeling: str) -> FewshotOptions:
    return FewshotOptions(
        section.shots, section.ways, section.grouped, section.distinct_ways, labeling
    )


def _options(
    config: ml_collections.ConfigDict, labeling: str, fewshot: FewshotOptions
) -> SequenceOptions:
    sequences = config.data.sequences
    return SequenceOptions(
        seq_len=sequences.seq_len,
        shots=sequences.shots,
        ways=sequences.ways,
        p_bursty=sequences.p_bursty,
        p_bursty_zipfian=sequences.p_bursty_zipfian,
        p_bursty_common=sequences.p_bursty_common,
        non_bursty=sequences.non_bursty,
        grouped=sequences.grouped,
        p_fewshot=sequences.p_fewshot,
        labeling=labeling,
        fewshot=fewshot,
    )


def fixed_labeling(config: ml_collections.ConfigDict) -> str:
    """How classes are labelled where they keep their labels: as in training, if they do there."""
    labeling = config.data.sequences.labeling
    return "ordered" if labeling == "unfixed" else labeling


def resolve_steps_per_call(
    config: ml_collections.ConfigDict,
    first_step: int = 0,
    carried: int = 0,
    backend: str | None = None,
) -> int:
    """K: `training.steps_per_call`, or what suits the machine and divides every interval.

    Args:
      config: valid.
      first_step: K divides it, too: the same calls end where a line or a checkpoint is due.
      carried: K of the command before, 0 for none. Kept where it still divides everything: a
        run that is prolonged computes the same bits.
      backend: 'cpu', 'gpu' or 'tpu'; None asks JAX.
    """
    training = config.training
    if training.steps_per_call is not None:
        return training.steps_per_call
    most = MOST_STEPS
    if (backend or jax.default_backend()) == "cpu":
        most = MOST_STEPS_ON_CPU if config.model.encoder in PLAIN_ENCODERS else 1
    common = math.gcd(
        training.num_steps,
        training.log_every,
        config.evaluation.every,
        config.checkpoints.every,
        first_step,
    )
    if carried and common % carried == 0:
        return carried
    return max(steps for steps in range(1, most + 1) if common % steps == 0)
