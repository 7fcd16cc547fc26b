"""What a config means, before any data is loaded or anything is compiled."""

from __future__ import annotations

from typing import NamedTuple

import ml_collections

from emergent_icl.config.registry import EVALUATION_MODES, SEQUENCE_TYPES
from emergent_icl.data.bank import SourceShape
from emergent_icl.data.sequences.classes import ClassSpace, split_classes
from emergent_icl.data.sequences.types import FewshotOptions, SequenceOptions, SequenceType
from emergent_icl.data.sources.source import source_shape


class Task(NamedTuple):
    """Everything about the data of a run that follows from its config alone.

    Attributes:
      shape: of what the data source shows.
      space: classes, roles and labels.
      training: the training sequences.
      evaluation: the sequences of each evaluation mode, by name.
      num_labels: L, the model's capacity of labels.
    """

    shape: SourceShape
    space: ClassSpace
    training: SequenceType
    evaluation: dict[str, SequenceType]
    num_labels: int

    @property
    def longest_seq_len(self) -> int:
        """Examples in the longest sequence of training and evaluation."""
        return max(kind.seq_len for kind in (self.training, *self.evaluation.values()))


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
    return Task(shape, space, training, evaluation, label_capacity(config, space))


def label_capacity(config: ml_collections.ConfigDict, space: ClassSpace) -> int:
    """`model.num_labels`, or as many labels as the labelings of the config have.

    Not a matter of the evaluation modes: a run may be evaluated on others later.
    """
    if config.model.num_labels is not None:
        return config.model.num_labels
    labelings = {fixed_labeling(config), config.evaluation.fewshot_labeling} - {"unfixed"}
    ways = (config.data.sequences.ways, config.evaluation.ways)
    return max(*ways, *(space.num_labels(labeling) for labeling in labelings))


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
