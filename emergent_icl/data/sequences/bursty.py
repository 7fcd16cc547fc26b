"""Sequence types for training: bursty (the paper's), relabelled, and mixed.

Source: paper sections 2.1 and 3. Defects of the reference implementation (labels drawn per item,
corrupted Zipf weights) are corrected.
"""

import dataclasses
from typing import Any, cast

import numpy as np

from emergent_icl.config.registry import SEQUENCE_TYPES
from emergent_icl.data.sequences import sampling
from emergent_icl.data.sequences.classes import ClassSpace, SequenceBatch
from emergent_icl.data.sequences.probes import make_fewshot, no_support_places
from emergent_icl.data.sequences.types import (
    DrawPlaces,
    SequenceOptions,
    SequenceType,
    fixed_type,
    require_fixed_labeling,
)

_BURST_OPTIONS = ("shots", "ways", "grouped", "p_bursty_zipfian", "p_bursty_common")


@SEQUENCE_TYPES.register("bursty")
def bursty(space: ClassSpace, options: SequenceOptions) -> SequenceType:
    """The paper's training sequences (reference implementation: get_bursty_seq).

    With probability `p_bursty`, the context shows `shots` examples of each of `ways` classes, and
    the query is from one of them. Classes are drawn with replacement, since distinct draws would
    change class frequencies. The remaining context is independent and may repeat a bursty class.
    Otherwise, `non_bursty` determines how the sequence is drawn.

    Raises ValueError if the context is too short, a required role has no classes, or the labeling
    is 'unfixed'.
    """
    require_fixed_labeling("bursty", options)
    # Sequences that are never drawn must not require classes.
    kinds = ((_bursty_places, options.p_bursty > 0), (_non_bursty_places, options.p_bursty < 1))
    draws = [make(space, options) for make, is_drawn in kinds if is_drawn]

    def draw_places(rng: np.random.Generator, batch_size: int) -> np.ndarray:
        if len(draws) == 1:
            return draws[0](rng, batch_size)
        is_bursty = rng.random((batch_size, 1)) < options.p_bursty
        return np.where(is_bursty, *(draw(rng, batch_size) for draw in draws))

    every_label = np.arange(space.num_labels(options.labeling))
    bursts_follow = options.p_bursty == 0 or options.p_bursty_zipfian == 1
    rest_follows = options.p_bursty == 1 or options.non_bursty == "zipfian"
    follows = bursts_follow and rest_follows
    query = space.distribution("zipfian") if follows else None
    kind = fixed_type(space, options, draw_places, every_label, any_label=False, query=query)
    return kind._replace(
        reads=("seq_len", "p_bursty", *_BURST_OPTIONS, "non_bursty"),
        shots=options.shots if options.p_bursty > 0 else 0,
        follows_zipf=follows,
    )


@SEQUENCE_TYPES.register("relabelled")
def relabelled(space: ClassSpace, options: SequenceOptions) -> SequenceType:
    """Bursty sequences with new labels in each, so that only the context can answer.

    Labels are drawn uniformly, without replacement, from all training labels. All sequences are
    bursty, regardless of `p_bursty`: other queries would have no answer. Raises ValueError like
    `bursty`, or if a sequence may have more classes than there are labels.
    """
    require_fixed_labeling("relabelled", options)
    draw_places = _bursty_places(space, options)
    pool = space.labels_of("zipfian", options.labeling)
    remaining = options.seq_len - 1 - options.shots * options.ways
    most = min(options.ways + remaining, space.split.num_train)
    if len(pool) < most:
        raise ValueError(
            f"relabelled sequences show up to {most} classes, but there are {len(pool)} labels"
        )

    def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
        def new_labels(occurrences: sampling.Occurrences) -> np.ndarray:
            # Number classes in order of first occurrence.
            numbers = np.cumsum(occurrences.rank == 0, axis=1) - 1
            numbers = np.take_along_axis(numbers, occurrences.first, axis=1)
            drawn = sampling.draw_distinct_rows(rng, batch_size, most, len(pool))
            return pool[np.take_along_axis(drawn, numbers, axis=1)]

        return space.batch(rng, draw_places(rng, batch_size), new_labels)

    return fixed_type(space, options, draw_places, pool, any_label=False)._replace(
        sample=sample,
        reads=("seq_len", *_BURST_OPTIONS),
        shots=options.shots,
        follows_zipf=options.p_bursty_zipfian == 1,
        best_constant=1 / len(pool),
    )


@SEQUENCE_TYPES.register("mixed")
def mixed(space: ClassSpace, options: SequenceOptions) -> SequenceType:
    """A mixture of few-shot and ordinary sequences (reference implementation: train_seqs 'mixed').

    With probability `p_fewshot`, a few-shot sequence of rare classes with labels 0 .. ways-1;
    otherwise independent draws of common classes with their own labels. Raises ValueError if there
    are no common classes, fewer rare ones than ways, or the labeling is 'unfixed'.
    """
    require_fixed_labeling("mixed", options)
    few = make_fewshot(space, options, "rare", labeling="unfixed")
    draw_common = _independent_places(space.distribution("common"), few.seq_len)
    labels = np.arange(max(space.num_labels(options.labeling), few.num_labels))
    same_length = dataclasses.replace(options, seq_len=few.seq_len)
    ordinary = fixed_type(space, same_length, draw_common, labels, any_label=False)

    def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
        is_few = rng.random((batch_size, 1)) < options.p_fewshot
        both = zip(few.sample(rng, batch_size), ordinary.sample(rng, batch_size), strict=True)
        return SequenceBatch(*(np.where(is_few, left, right) for left, right in both))

    return few._replace(
        sample=sample,
        num_labels=len(labels),
        valid_labels=labels,
        answers=labels,
        labeling=options.labeling,
        reads=("p_fewshot", *few.reads),
        role="each",
        best_constant=None,
    )


def _bursty_places(space: ClassSpace, options: SequenceOptions) -> DrawPlaces:
    """Draws bursty sequences only; see `bursty`."""
    remaining = options.seq_len - 1 - options.shots * options.ways
    if remaining < 0:
        raise ValueError(
            f"seq_len = {options.seq_len} is too short for a query and "
            f"shots * ways = {options.shots * options.ways} examples"
        )
    # (bursty classes, remaining context, probability)
    p_zipfian, p_common = options.p_bursty_zipfian, options.p_bursty_common
    kinds = (
        ("zipfian", "zipfian", p_zipfian),
        ("common", "rare", p_common),
        ("rare", "common", 1.0 - p_zipfian - p_common),
    )
    # A probability that is rounding error must not require classes.
    kinds = [kind for kind in kinds if kind[2] > 1e-9]
    mixture = [
        # A context without other examples must not require classes for them.
        (space.distribution(burst), space.distribution(rest if remaining else burst))
        for burst, rest, _ in kinds
    ]
    draw_kind = sampling.ClassDistribution.from_weights(0, np.array([p for *_, p in kinds]))

    def draw_bursty(rng: np.random.Generator, batch_size: int) -> np.ndarray:
        kind = draw_kind.draw(rng, (batch_size, 1)) if len(mixture) > 1 else 0
        ways_BW, rest_BN = cast(Any, (0, 0))
        for i, (burst, rest) in enumerate(mixture):
            ways = burst.draw(rng, (batch_size, options.ways))
            ways_BW = np.where(kind == i, ways, ways_BW)
            rest_BN = np.where(kind == i, rest.draw(rng, (batch_size, remaining)), rest_BN)
        slots = sampling.draw_slots(rng, batch_size, options.shots, options.ways, options.grouped)
        burst_BM = np.take_along_axis(ways_BW, slots, axis=1)
        query_slot = rng.integers(options.ways, size=(batch_size, 1))
        query = np.take_along_axis(ways_BW, query_slot, axis=1)
        context = sampling.interleave_at_random(rng, burst_BM, rest_BN)
        return np.concatenate([context, query], axis=1)

    return draw_bursty


def _non_bursty_places(space: ClassSpace, options: SequenceOptions) -> DrawPlaces:
    if options.non_bursty == "common_no_support":
        return no_support_places(space, "common", options.seq_len)
    is_uniform = options.non_bursty == "common_uniform"
    distribution = space.distribution("common" if is_uniform else "zipfian", uniform=is_uniform)
    return _independent_places(distribution, options.seq_len)


def _independent_places(distribution: sampling.ClassDistribution, seq_len: int) -> DrawPlaces:
    return lambda rng, batch_size: distribution.draw(rng, (batch_size, seq_len))
