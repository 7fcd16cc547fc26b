"""What is wrong with data and sequences: in their options, and with what the source can give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import ml_collections

from emergent_icl.data import task as tasks
from emergent_icl.data.bank import SourceShape
from emergent_icl.data.sequences.classes import ClassSpace
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.sources.source import source_shape

# A label table of 64 numbers each would take 4 GiB.
MOST_LABELS = 2**24


class Data(NamedTuple):
    """What the data of a config are, and what is wrong with them.

    Attributes:
      problems: a sentence each.
      shape: of what the source shows; None where it cannot be told.
      seq_len: examples in the longest sequence; None where no sequence can be drawn.
    """

    problems: list[str]
    shape: SourceShape | None = None
    seq_len: int | None = None


def check_data(config: ml_collections.ConfigDict, with_sequences: bool) -> Data:
    """Checks `config.data`, whose options are possible by themselves.

    Args:
      config: the whole config.
      with_sequences: whether the options of evaluation and model are possible by themselves too,
        so that sequences can be checked.
    """
    problems = list(_option_problems(config.data))
    try:
        shape = source_shape(config.data)
    except (ValueError, OSError) as error:
        return Data([*problems, str(error)])
    if not with_sequences:
        return Data(problems, shape)
    problems += _source_problems(config.data, shape)
    found = _Sequences(config, shape)
    problems += found.problems()
    return Data(problems, shape, max((kind.seq_len for kind in found.kinds), default=None))


def _option_problems(data: ml_collections.ConfigDict) -> Iterator[str]:
    """Of options that contradict each other, whatever the source."""
    glyphs, sequences = data.glyphs, data.sequences
    for low, high in (("min_strokes", "max_strokes"), ("min_pen_width", "max_pen_width")):
        if glyphs[low] > glyphs[high]:
            yield f"data.glyphs.{low} = {glyphs[low]} must be at most {high} = {glyphs[high]}"
    if sequences.p_bursty_zipfian + sequences.p_bursty_common > 1 + 1e-9:
        yield (
            f"data.sequences.p_bursty_zipfian + p_bursty_common = "
            f"{sequences.p_bursty_zipfian} + {sequences.p_bursty_common} must be at most 1"
        )
    if sequences.label_multiplicity > 1 and sequences.labeling != "ordered":
        yield (
            f"data.sequences.label_multiplicity = {sequences.label_multiplicity} needs "
            f"data.sequences.labeling = 'ordered', not '{sequences.labeling}'"
        )


def _source_problems(data: ml_collections.ConfigDict, shape: SourceShape) -> Iterator[str]:
    """Of options that need other examples."""
    for name in ("random_rare_images", "inverted"):
        if data[name] and shape.kind != "image":
            yield f"data.{name} needs images, not data.source = '{data.source}'"
    if data.noise_scale > 0 and shape.kind == "integer":
        yield (
            f"data.noise_scale = {data.noise_scale} needs images or vectors, not "
            f"data.source = '{data.source}'"
        )
    if data.random_rare_images and data.split.num_rare == 0:
        yield "data.random_rare_images needs rare classes, but data.split.num_rare is 0"


class _Sequences:
    """The sequences of training and evaluation, as far as they can be drawn."""

    def __init__(self, config: ml_collections.ConfigDict, shape: SourceShape) -> None:
        self.config, self.shape = config, shape
        self.training: SequenceType | None = None
        self.evaluation: list[SequenceType] = []

    @property
    def kinds(self) -> list[SequenceType]:
        """All of them."""
        return [*([self.training] if self.training else []), *self.evaluation]

    def problems(self) -> Iterator[str]:
        """Makes them; yields why one cannot be, and what they need that is not there."""
        data, sequences = self.config.data, self.config.data.sequences
        try:
            space = tasks.class_space(data, self.shape)
        except ValueError as error:
            yield f"{error} (data.source = '{data.source}')"
            # As if there were enough classes, so that the rest is checked too.
            split = data.split
            enough = split.num_rare + split.num_common + split.num_holdout
            many = self.shape._replace(num_classes=2 * max(enough, 1), group_size=1)
            space = tasks.class_space(data, many)
        num_labels = space.num_labels(tasks.fixed_labeling(self.config))
        if num_labels > MOST_LABELS:
            yield (
                f"data.sequences.label_multiplicity = {sequences.label_multiplicity} gives "
                f"{num_labels:,} labels; there must be at most {MOST_LABELS:,}"
            )
            return
        yield from self._make(space)
        yield from self._exemplar_problems()
        needed = max((kind.num_labels for kind in self.kinds), default=0)
        capacity = tasks.label_capacity(self.config, space)
        if capacity < needed:
            yield f"model.num_labels = {capacity} must be at least {needed} for these data"

    def _make(self, space: ClassSpace) -> Iterator[str]:
        """Makes all types; yields why one cannot be."""
        sequences = self.config.data.sequences
        try:
            self.training = tasks.training_type(self.config, space)
        except ValueError as error:
            yield f"data.sequences (type '{sequences.type}'): {error}"
        else:
            if self.training.seq_len != sequences.seq_len:
                yield (
                    f"data.sequences.seq_len = {sequences.seq_len} must be "
                    f"{self.training.seq_len} for type '{sequences.type}' with shots = "
                    f"{sequences.shots}, ways = {sequences.ways}"
                )
        for mode in self.config.evaluation.modes:
            try:
                self.evaluation.append(tasks.evaluation_type(self.config, space, mode))
            except ValueError as error:
                yield f"evaluation.modes: '{mode}': {error}"

    def _exemplar_problems(self) -> Iterator[str]:
        """Of classes that are shown more often than they have exemplars.

        One exemplar is a condition of its own (identical drawings); a few would be reused in some
        sequences and not in others.
        """
        shots = {}
        if self.training is not None:
            shots["data.sequences"] = self.training.shots
        shots["evaluation"] = max(
            (kind.shots for kind in self.evaluation if kind.is_fewshot), default=0
        )
        for section, count in shots.items():
            if count and 1 < self.shape.num_exemplars < count + 1:
                yield (
                    f"{section}.shots = {count} needs {count + 1} exemplars of a class (query "
                    f"included), but the data has {self.shape.num_exemplars}"
                )
