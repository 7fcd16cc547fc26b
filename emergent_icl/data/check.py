"""Checks of data and sequences: their options, and what the source can provide."""

from collections.abc import Iterator
from typing import NamedTuple

import ml_collections
import numpy as np

from emergent_icl.config.options import MOST_ROWS
from emergent_icl.data import task as tasks
from emergent_icl.data.bank import SourceShape
from emergent_icl.data.sequences.classes import ClassSpace
from emergent_icl.data.sequences.split import ROLES, ClassSplit
from emergent_icl.data.sequences.types import SequenceType
from emergent_icl.data.sources.source import source_shape


class CheckedData(NamedTuple):
    """Problems with the data of a config, and their shape.

    `shape` is None if the source is unusable. `seq_len` is the length of the longest sequence, or
    None if no sequence can be drawn.
    """

    problems: list[str]
    shape: SourceShape | None = None
    seq_len: int | None = None


def check_data(config: ml_collections.ConfigDict, with_sequences: bool) -> CheckedData:
    """Checks `config.data`, whose options are valid individually.

    `with_sequences` also checks what is drawn; the options of evaluation and model must be valid.
    """
    problems = list(_option_problems(config.data))
    try:
        shape = source_shape(config.data)
    except (ValueError, OSError) as error:
        return CheckedData([*problems, str(error)])
    if not with_sequences:
        return CheckedData(problems, shape)
    problems += _source_problems(config.data, shape)
    space = _space(config.data, shape, problems)
    counts = {one: space.num_labels(one) for one in sorted(tasks.labelings(config))}
    if many := [
        f"data.sequences.label_multiplicity = {config.data.sequences.label_multiplicity} gives "
        f"{count:,} labels with the labeling '{labeling}'; there must be at most {MOST_ROWS:,}"
        for labeling, count in counts.items()
        if count > MOST_ROWS
    ]:
        return CheckedData([*problems, *many], shape)
    training, evaluation = _sequence_types(config, space, problems)
    kinds = [*training, *evaluation]
    problems += _exemplar_problems(config, space, training, evaluation)
    needed = max([counts[tasks.fixed_labeling(config)], *(kind.num_labels for kind in kinds)])
    capacity = tasks.label_capacity(config, space)
    if capacity < needed:
        problems.append(f"model.num_labels = {capacity} must be at least {needed} for these data")
    return CheckedData(problems, shape, max((kind.seq_len for kind in kinds), default=None))


def _option_problems(data: ml_collections.ConfigDict) -> Iterator[str]:
    """Problems of inconsistent options, regardless of the source."""
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
    """Problems of options that the source does not support."""
    for name in ("random_rare_images", "inverted"):
        if data[name] and shape.kind != "image":
            yield f"data.{name} needs images, not data.source = '{data.source}'"
    if data.noise_scale > 0 and shape.kind == "integer":
        yield (
            f"data.noise_scale = {data.noise_scale} needs images or vectors, not "
            f"data.source = '{data.source}'"
        )
    held_out = data.split.num_holdout_exemplars
    if held_out >= shape.num_exemplars and held_out:
        yield (
            f"data.split.num_holdout_exemplars = {held_out} must be less than "
            f"{shape.num_exemplars}, the number of exemplars per class"
        )
    if data.random_rare_images and data.split.num_rare == 0:
        yield "data.random_rare_images needs rare classes, but data.split.num_rare is 0"


def _space(data: ml_collections.ConfigDict, shape: SourceShape, problems: list[str]) -> ClassSpace:
    """The class space; if it is impossible, a substitute for checking the rest."""
    try:
        return tasks.class_space(data, shape)
    except ValueError as error:
        problems.append(f"{error} (data.source = '{data.source}')")
        rare, common, holdout = (data.split[f"num_{role}"] for role in ROLES)
        count = rare + common + holdout
        many = shape._replace(num_classes=2 * max(count, 1))
        split = ClassSplit(np.arange(count, dtype=np.int32), rare, common, holdout, holdout)
        return tasks.class_space(data, many, split)


def _sequence_types(
    config: ml_collections.ConfigDict, space: ClassSpace, problems: list[str]
) -> tuple[list[SequenceType], list[SequenceType]]:
    """The training and evaluation types that can be drawn."""
    sequences, training, evaluation = config.data.sequences, [], []
    try:
        training.append(tasks.training_type(config, space))
    except ValueError as error:
        problems.append(f"data.sequences (type '{sequences.type}'): {error}")
    for mode in config.evaluation.modes:
        try:
            evaluation.append(tasks.evaluation_type(config, space, mode))
        except ValueError as error:
            problems.append(f"evaluation.modes: '{mode}': {error}")
    return training, evaluation


def _exemplar_problems(
    config: ml_collections.ConfigDict,
    space: ClassSpace,
    training: list[SequenceType],
    evaluation: list[SequenceType],
) -> list[str]:
    """Classes that would be shown more often than they have exemplars."""
    held_out, found = config.data.split.num_holdout_exemplars, []
    # A single exemplar is deliberate (identical drawings), unless others are held out.
    least = 1 if held_out else 2
    shown = [("data.sequences", kind, space.num_exemplars) for kind in training]
    for kind in evaluation:
        if kind.is_fewshot or held_out:
            section = "evaluation" if kind.is_fewshot else "data.sequences"
            count = tasks.evaluated_space(config, space, kind.role).num_exemplars
            shown.append((section, kind, count))
    for section, kind, count in shown:
        if kind.shots and least <= count <= kind.shots:
            found.append(
                f"{section}.shots = {kind.shots} needs {kind.shots + 1} exemplars per class "
                f"(query included), but {count} can be shown"
            )
    return [*dict.fromkeys(found)]
