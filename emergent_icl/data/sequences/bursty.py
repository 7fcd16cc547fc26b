"""Sequence types to train on: bursty (the paper's), relabelled, mixed.

Source: paper section 2.1 and 3. Where the original had a defect (labels drawn per item,
corrupted Zipf weights) this is the cure.
"""

from __future__ import annotations

import dataclasses
from typing import Any

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
    """The paper's training sequences (original: get_bursty_seq).

    With probability `p_bursty`, `ways` classes are drawn (with replacement: distinct
    draws would change the class frequencies), `shots` of each stand in the context,
    the query is one of them, and the remaining context is drawn independently, so that
    it may repeat a bursting class by chance. Otherwise `non_bursty` says what is drawn.

    Raises ValueError if the burst does not fit into the context, a needed role has no classes, or
    the labeling is 'unfixed'.
    """
    require_fixed_labeling("bursty", options)
    # What is never drawn may ask for classes that need not exist.
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
        shots=options.shots,
        follows_zipf=follows,
    )


@SEQUENCE_TYPES.register("relabelled")
def relabelled(space: ClassSpace, options: SequenceOptions) -> SequenceType:
    """Bursty sequences whose classes get new labels every time: only the context can answer.

    Each class of a sequence is given a label of its own among all the labels of training,
    uniformly and without replacement. Every sequence is bursty, whatever `p_bursty`: in
    another the query could not be answered at all. Raises ValueError as `bursty` does, or if
    there are fewer labels than classes in a sequence.
    """
    require_fixed_labeling("relabelled", options)
    draw_places = _bursty_places(space, options)
    pool = space.labels_of("zipfian", options.labeling)
    # The bursting classes, one of which is the query's, and the rest of the context.
    remaining = options.seq_len - 1 - options.shots * options.ways
    most = min(options.ways + remaining, space.split.num_train)
    if len(pool) < most:
        raise ValueError(
            f"relabelled sequences show up to {most} classes, but there are {len(pool)} labels"
        )

    def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
        def new_labels(occurrences: sampling.Occurrences) -> np.ndarray:
            # A class's number in its sequence: 0 for the first class that is shown, ...
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
        commonest=1 / len(pool),
    )


@SEQUENCE_TYPES.register("mixed")
def mixed(space: ClassSpace, options: SequenceOptions) -> SequenceType:
    """Meta-training beside ordinary training (original: train_seqs 'mixed').

    With probability `p_fewshot` a few-shot sequence of rare classes, renamed 0 .. ways-1;
    otherwise common classes, drawn independently, with their own labels. Raises ValueError if
    there are no common classes, or fewer rare ones than ways; or the labeling is 'unfixed'.
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
        commonest=None,
    )


def _bursty_places(space: ClassSpace, options: SequenceOptions) -> DrawPlaces:
    """Places of sequences that are all bursty; see `bursty`."""
    remaining = options.seq_len - 1 - options.shots * options.ways
    if remaining < 0:
        raise ValueError(
            f"seq_len = {options.seq_len} is too short for a query and "
            f"shots * ways = {options.shots * options.ways} examples"
        )
    # Which classes burst, which fill the rest of the context, and how often.
    p_zipfian, p_common = options.p_bursty_zipfian, options.p_bursty_common
    kinds = (
        ("zipfian", "zipfian", p_zipfian),
        ("common", "rare", p_common),
        ("rare", "common", 1.0 - p_zipfian - p_common),
    )
    # A probability that is only rounding would ask for classes that need not exist.
    kinds = [kind for kind in kinds if kind[2] > 1e-9]
    mixture = [(space.distribution(burst), space.distribution(rest)) for burst, rest, _ in kinds]
    draw_kind = sampling.ClassDistribution.from_weights(0, np.array([p for *_, p in kinds]))

    def draw_bursty(rng: np.random.Generator, batch_size: int) -> np.ndarray:
        kind = draw_kind.draw(rng, (batch_size, 1)) if len(mixture) > 1 else 0
        ways_BW: Any = 0
        rest_BN: Any = 0
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
