"""What a config means, before any data is loaded or anything is compiled."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import ml_collections

from emergent_icl.config.registry import EVALUATION_MODES, SEQUENCE_TYPES
from emergent_icl.data.bank import SourceShape
from emergent_icl.data.sequences.classes import ClassSpace, split_classes
from emergent_icl.data.sequences.types import FewshotOptions, SequenceOptions, SequenceType
from emergent_icl.data.sources.source import source_shape


class Task(NamedTuple):
    """Everything about the data of a run that follows from its config alone.

    `evaluation` has the sequences of each evaluation mode, by name; `num_labels` is L, the model's
    capacity of labels.
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
    """Derives the task; raises ValueError where parts of the config contradict each other."""
    shape = source_shape(config.data)
    space = class_space(config.data, shape)
    training = training_type(config, space)
    evaluation = {mode: evaluation_type(config, space, mode) for mode in config.evaluation.modes}
    return Task(shape, space, training, evaluation, label_capacity(config, space))


def label_capacity(config: ml_collections.ConfigDict, space: ClassSpace) -> int:
    """`model.num_labels`, or as many labels as the labelings of the config have."""
    # Not a matter of the evaluation modes: a run may be evaluated on others later.
    if config.model.num_labels is not None:
        return config.model.num_labels
    labelings = {fixed_labeling(config), config.evaluation.fewshot_labeling} - {"unfixed"}
    ways = (config.data.sequences.ways, config.evaluation.ways)
    return max(*ways, *(space.num_labels(labeling) for labeling in labelings))


def class_space(data: ml_collections.ConfigDict, shape: SourceShape) -> ClassSpace:
    """Classes and roles of `config.data`; raises ValueError if there are not as many classes."""
    return ClassSpace(
        split_classes(data.split, shape.num_classes, shape.group_size),
        shape.num_classes,
        shape.num_exemplars,
        **_fields(ClassSpace, data.sequences),
    )


def training_type(config: ml_collections.ConfigDict, space: ClassSpace) -> SequenceType:
    """The training sequences of a config."""
    sequences = config.data.sequences
    fewshot = FewshotOptions(**_fields(FewshotOptions, sequences))
    options = SequenceOptions(**_fields(SequenceOptions, sequences), fewshot=fewshot)
    return SEQUENCE_TYPES[sequences.type](space, options)


def evaluation_type(
    config: ml_collections.ConfigDict, space: ClassSpace, mode: str
) -> SequenceType:
    """The sequences of one evaluation mode.

    What is few-shot in it has the options of `config.evaluation`, the rest those of training.
    """
    labeling = config.evaluation.fewshot_labeling
    fewshot = FewshotOptions(**_fields(FewshotOptions, config.evaluation), labeling=labeling)
    options = SequenceOptions(**_fields(SequenceOptions, config.data.sequences), fewshot=fewshot)
    return EVALUATION_MODES[mode](
        space, dataclasses.replace(options, labeling=fixed_labeling(config))
    )


def _fields(kind: type, section: ml_collections.ConfigDict) -> dict[str, Any]:
    """The options of a section that are fields of a dataclass."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: section[name] for name in names if name in section}


def fixed_labeling(config: ml_collections.ConfigDict) -> str:
    """How classes are labeled where they keep their labels: as in training, if they do there."""
    labeling = config.data.sequences.labeling
    return "ordered" if labeling == "unfixed" else labeling
