"""The task of a config: classes, sequences, and labels, before data are loaded."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections

from emergent_icl.config import configs
from emergent_icl.config.identity import DERIVED
from emergent_icl.config.registry import EVALUATION_MODES, SEQUENCE_TYPES
from emergent_icl.data.bank import SourceShape
from emergent_icl.data.sequences.classes import ClassSpace
from emergent_icl.data.sequences.split import ClassSplit, split_classes
from emergent_icl.data.sequences.types import FewshotOptions, SequenceOptions, SequenceType
from emergent_icl.data.sources.source import source_classes, source_shape


class Task(NamedTuple):
    """Everything about the data of a run that follows from its config alone.

    `evaluation` maps evaluation modes to their sequences. `num_labels` is L, the label capacity of
    the model, which chooses among the first `used_labels`.
    """

    shape: SourceShape
    space: ClassSpace
    training: SequenceType
    evaluation: dict[str, SequenceType]
    num_labels: int
    used_labels: int

    @property
    def length_note(self) -> str:
        """Names the modes whose sequence length differs from that of training; '' if none does."""
        pairs = {mode: kind.seq_len - 1 for mode, kind in self.evaluation.items()}
        own = self.training.seq_len - 1
        others = ", ".join(f"{mode} {count}" for mode, count in pairs.items() if count != own)
        trained = f"trained on {own} pair{'s' if own > 1 else ''}"
        return f"{trained}, evaluated on {others}" if others else ""

    @property
    def longest_seq_len(self) -> int:
        """Examples in the longest sequence of training and evaluation."""
        return max(kind.seq_len for kind in (self.training, *self.evaluation.values()))


def make_task(config: ml_collections.ConfigDict) -> Task:
    """Derives the task; raises ValueError if parts of the config are inconsistent."""
    shape = source_shape(config.data)
    space = class_space(config.data, shape)
    training = training_type(config, space)
    evaluation = {mode: evaluation_type(config, space, mode) for mode in config.evaluation.modes}
    used = capacity = label_capacity(config, space)
    if config.model.own_labels:
        shown = (kind.num_labels for kind in (training, *evaluation.values()))
        used = max(_labels_of(config, space), *shown)
    return Task(shape, space, training, evaluation, capacity, used)


def label_capacity(config: ml_collections.ConfigDict, space: ClassSpace) -> int:
    """`model.num_labels`, or the number of labels in the config's labelings if it is unset."""
    given = config.model.num_labels
    return _labels_of(config, space) if given is None else given


def labelings(config: ml_collections.ConfigDict) -> set[str]:
    """The fixed labelings of a config, of training and of few-shot evaluation."""
    # Independent of evaluation.modes: a run may be evaluated on others later.
    return {fixed_labeling(config), config.evaluation.fewshot_labeling} - {"unfixed"}


def _labels_of(config: ml_collections.ConfigDict, space: ClassSpace) -> int:
    """Number of labels in the labelings of a config."""
    ways = (config.data.sequences.ways, fewshot_options(config).ways)
    return max(*ways, *map(space.num_labels, labelings(config)))


def class_space(
    data: ml_collections.ConfigDict, shape: SourceShape, split: ClassSplit | None = None
) -> ClassSpace:
    """Classes and roles of `config.data`, whose split is drawn if it is not given.

    Raises ValueError if the split is impossible; see `split_classes`.
    """
    if split is None:
        source = source_classes(data)
        split = split_classes(data.split, shape.num_classes, shape.group_size, source)
    options = _fields(ClassSpace, data.sequences)
    space = ClassSpace(split, shape.num_classes, shape.num_exemplars, **options)
    held_out = data.split.num_holdout_exemplars
    return space.with_exemplars_held_out(data.split.seed, held_out) if held_out else space


def training_type(config: ml_collections.ConfigDict, space: ClassSpace) -> SequenceType:
    """The training sequences of a config, of `data.sequences.seq_len` examples each.

    Raises ValueError if other options imply another length, or the type cannot be drawn.
    """
    sequences = config.data.sequences
    fewshot = FewshotOptions(**_fields(FewshotOptions, sequences))
    options = _sequence_options(config, fewshot)
    kind = SEQUENCE_TYPES[sequences.type](space, options)
    if kind.seq_len != sequences.seq_len:
        raise ValueError(
            f"seq_len = {sequences.seq_len} must be {kind.seq_len} with shots = "
            f"{sequences.shots}, ways = {sequences.ways}"
        )
    return kind


def fewshot_options(config: ml_collections.ConfigDict) -> FewshotOptions:
    """Options of few-shot evaluation; unset ones give sequences as long as in training.

    Unset ways are those of training, but at least 2. Unset shots are as many as fit;
    `evaluation_type` raises ValueError if they do not fill the sequence.
    """
    evaluation, sequences = config.evaluation, config.data.sequences
    ways = evaluation.ways or max(sequences.ways, 2)
    shots = evaluation.shots or max((sequences.seq_len - 1) // ways, 1)
    derived = {"ways": ways, "shots": shots, "labeling": evaluation.fewshot_labeling}
    return FewshotOptions(**_fields(FewshotOptions, evaluation) | derived)


def _in_all_replicas(option: str) -> Callable[[ml_collections.ConfigDict], int | None]:
    """Derives an unset option of few-shot evaluation; None if replicas differ in it."""

    def derived(config: ml_collections.ConfigDict) -> int | None:
        singles = (configs.alone(config, own) for _, own in configs.named_overrides(config))
        values = {getattr(fewshot_options(single), option) for single in singles}
        return values.pop() if len(values) == 1 else None

    return derived


DERIVED.update({f"evaluation.{name}": _in_all_replicas(name) for name in ("shots", "ways")})


def evaluated_space(config: ml_collections.ConfigDict, space: ClassSpace, role: str) -> ClassSpace:
    """The space for evaluating a role, with held-out exemplars if so configured.

    Held-out classes are shown with the exemplars of training: all of theirs are new. Raises
    ValueError if no exemplars are held out.
    """
    if config.evaluation.exemplars != "holdout":
        return space
    held_out = space.of_holdout_exemplars()
    return space if role == "holdout" else held_out


def evaluation_type(
    config: ml_collections.ConfigDict, space: ClassSpace, mode: str
) -> SequenceType:
    """The sequences of one evaluation mode.

    Few-shot modes use the options of `config.evaluation`, others those of training. Raises
    ValueError if the mode cannot be drawn, or a derived length does not fit.
    """
    sequences, fewshot = config.data.sequences, fewshot_options(config)
    options = _sequence_options(config, fewshot)
    options = dataclasses.replace(options, labeling=fixed_labeling(config))
    # Twice: the role, on which the exemplars depend, is known only then.
    kind = EVALUATION_MODES[mode](space, options)
    kind = EVALUATION_MODES[mode](evaluated_space(config, space, kind.role), options)
    pairs = sequences.seq_len - 1
    if kind.is_fewshot and config.evaluation.shots is None and pairs % fewshot.ways:
        below = pairs - pairs % fewshot.ways
        nearest = " or ".join(str(n + 1) for n in (below, below + fewshot.ways) if n)
        raise ValueError(
            f"evaluation.shots is unset, and the {pairs} pairs of data.sequences.seq_len = "
            f"{sequences.seq_len} are not a multiple of {fewshot.ways} ways: set "
            f"evaluation.shots, evaluation.ways, or a seq_len of {nearest}"
        )
    return kind


def _sequence_options(
    config: ml_collections.ConfigDict, fewshot: FewshotOptions
) -> SequenceOptions:
    own = _fields(SequenceOptions, config.data.sequences)
    return SequenceOptions(**own, fewshot=fewshot, data=config.data)


def _fields(kind: type, section: ml_collections.ConfigDict) -> dict[str, Any]:
    """Options of a section that are fields of a dataclass."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: section[name] for name in names if name in section}


def fixed_labeling(config: ml_collections.ConfigDict) -> str:
    """Labeling of classes that keep their labels: that of training, unless it is 'unfixed'."""
    labeling = config.data.sequences.labeling
    return "ordered" if labeling == "unfixed" else labeling
