"""What a config means, before any data is loaded or anything is compiled."""

from __future__ import annotations

from typing import NamedTuple

import ml_collections

from emergent_icl.datasets import glyphs, omniglot, symbolic  # noqa: F401  (they register themselves)
from emergent_icl.datasets.bank import DATA_SOURCES, SourceShape
from emergent_icl.datasets.class_space import ClassSpace
from emergent_icl.datasets.class_split import split_classes
from emergent_icl.datasets.sequences import SEQUENCE_TYPES, SequenceOptions, SequenceType


class Plan(NamedTuple):
    """Everything about the data of a run that follows from its config alone.

    Attributes:
      shape: of the data source, `drawings` applied.
      space: classes, roles and labels.
      training: the training sequences.
      evaluation: the sequences of each evaluation mode, by name.
      num_labels: L, the model's capacity.
    """

    shape: SourceShape
    space: ClassSpace
    training: SequenceType
    evaluation: dict[str, SequenceType]
    num_labels: int


def make_plan(config: ml_collections.ConfigDict) -> Plan:
    """Derives the plan.

    Raises:
      ValueError: parts of the config contradict each other.
      KeyError: a name is not registered.
    """
    shape = source_shape(config.data)
    space = class_space(config.data, shape)
    training = training_type(config, space)
    evaluation = {mode: evaluation_type(config, space, mode) for mode in config.evaluation.modes}
    num_labels = config.model.num_labels
    if num_labels is None:
        num_labels = max(kind.num_labels for kind in (training, *evaluation.values()))
    return Plan(shape, space, training, evaluation, num_labels)


def source_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """Shape of the data, `drawings` applied."""
    shape = DATA_SOURCES[data.source].shape(data)
    return shape._replace(num_exemplars=1) if data.drawings == "single" else shape


def class_space(data: ml_collections.ConfigDict, shape: SourceShape) -> ClassSpace:
    """Classes and roles of `config.data`."""
    return ClassSpace(
        split=split_classes(data.split, shape.num_classes),
        num_bank_classes=shape.num_classes,
        num_exemplars=shape.num_exemplars,
        zipf_exponent=data.sequences.zipf_exponent,
        zipf_within_roles=data.sequences.zipf_within_roles,
        label_multiplicity=data.sequences.label_multiplicity,
    )


def training_type(config: ml_collections.ConfigDict, space: ClassSpace) -> SequenceType:
    """The training sequences of a config."""
    sequences = config.data.sequences
    options = SequenceOptions(
        seq_len=sequences.seq_len,
        shots=sequences.shots,
        ways=sequences.ways,
        p_bursty=sequences.p_bursty,
        p_bursty_zipfian=sequences.p_bursty_zipfian,
        p_bursty_common=sequences.p_bursty_common,
        non_bursty=sequences.non_bursty,
        grouped=sequences.grouped,
        distinct_ways=sequences.distinct_ways,
        labeling=sequences.labeling,
        fewshot_labeling=sequences.labeling,
    )
    return SEQUENCE_TYPES[sequences.type](space, options)


def evaluation_type(
    config: ml_collections.ConfigDict, space: ClassSpace, mode: str
) -> SequenceType:
    """The sequences of one evaluation mode.

    Few-shot modes relabel their classes as `evaluation.fewshot_labeling` says; all
    others keep the labels of training.
    """
    evaluation, sequences = config.evaluation, config.data.sequences
    options = SequenceOptions(
        seq_len=sequences.seq_len,
        shots=evaluation.shots,
        ways=evaluation.ways,
        grouped=evaluation.grouped,
        distinct_ways=evaluation.distinct_ways,
        labeling=fixed_labeling(config),
        fewshot_labeling=evaluation.fewshot_labeling,
    )
    return SEQUENCE_TYPES[mode](space, options)


def fixed_labeling(config: ml_collections.ConfigDict) -> str:
    """How classes are labelled where they keep their labels: as in training, if they do there."""
    labeling = config.data.sequences.labeling
    return "ordered" if labeling == "unfixed" else labeling
