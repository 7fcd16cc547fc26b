"""Sequence types: which classes, exemplars and labels stand where. No images, no loops.

A sequence is S examples with labels; the last is the query. A new sequence type is
one function `(ClassSpace, SequenceOptions) -> SequenceType` and one registry line.

Source: paper section 2.1. Where the original had a defect (ways with replacement in
few-shot evaluation, labels drawn per item, corrupted Zipf weights) this is the cure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from emergent_icl.datasets import sampling
from emergent_icl.datasets.class_space import ClassSpace, SequenceBatch
from emergent_icl.registry import Registry

NON_BURSTY_TYPES = ("zipfian", "common_uniform", "common_no_support")


# (generator, batch size) -> SequenceBatch [B, S]
Sampler = Callable[[np.random.Generator, int], SequenceBatch]


class SequenceType(NamedTuple):
    """A way to draw sequences, and how their queries are judged.

    Attributes:
      sample: the sampler.
      seq_len: S.
      num_labels: labels are below this.
      valid_labels: int [...], the labels among which "closed" accuracy chooses.
      answers: int [num_labels]; a prediction is right if its answer equals that of the
        label. Differs from the label itself only where a class owns several labels
        and nothing in the sequence tells which is meant.
    """

    sample: Sampler
    seq_len: int
    num_labels: int
    valid_labels: np.ndarray
    answers: np.ndarray


@dataclasses.dataclass(frozen=True)
class FewshotOptions:
    """Options of fewshot_* types; config.evaluation has their meaning."""

    shots: int = 4
    ways: int = 2
    grouped: bool = False
    distinct_ways: bool = True
    labeling: str = "unfixed"


@dataclasses.dataclass(frozen=True)
class SequenceOptions:
    """Options of sequence types; config.data.sequences has their meaning.

    Those under `fewshot` are of the fewshot_* types alone, which have others in
    evaluation than in training; the rest is of all other types.
    """

    seq_len: int = 9
    shots: int = 3
    ways: int = 2
    p_bursty: float = 1.0
    p_bursty_zipfian: float = 1.0
    p_bursty_common: float = 0.0
    non_bursty: str = "zipfian"
    grouped: bool = False
    labeling: str = "ordered"
    fewshot: FewshotOptions = FewshotOptions()


SequenceFactory = Callable[[ClassSpace, SequenceOptions], SequenceType]
SEQUENCE_TYPES: Registry[SequenceFactory] = Registry("sequence type")


# ------------------------------------------------------------------ training sequences


@SEQUENCE_TYPES.register("bursty")
def bursty(space: ClassSpace, options: SequenceOptions) -> SequenceType:
    """The paper's training sequences (original: get_bursty_seq).

    With probability `p_bursty`, `ways` classes are drawn (with replacement: distinct
    draws would change the class frequencies), `shots` of each stand in the context,
    the query is one of them, and the remaining context is drawn independently, so that
    it may repeat a bursting class by chance. Otherwise `non_bursty` says what is drawn.

    Raises:
      ValueError: the burst does not fit into the context, a needed role has no
        classes, or the labeling is 'unfixed'.
    """
    _require_fixed_labeling("bursty", options)
    remaining = options.seq_len - 1 - options.shots * options.ways
    if remaining < 0:
        raise ValueError(
            f"seq_len = {options.seq_len} is too short for a query and "
            f"shots * ways = {options.shots * options.ways} examples"
        )
    # Which classes burst, which fill the rest of the context, and how often.
    p_zipfian, p_common = options.p_bursty_zipfian, options.p_bursty_common
    mixture = [
        (space.distribution(burst), space.distribution(rest), p)
        for burst, rest, p in (
            ("zipfian", "zipfian", p_zipfian),
            ("common", "rare", p_common),
            ("rare", "common", max(0.0, 1.0 - p_zipfian - p_common)),
        )
        # A probability that is only rounding would ask for classes that need not exist.
        if p > 1e-9
    ]
    probabilities = np.array([p for _, _, p in mixture])
    draw_kind = sampling.ClassDistribution.from_weights(0, probabilities)
    draw_non_bursty = _non_bursty_places(space, options) if options.p_bursty < 1 else None

    def draw_bursty(rng: np.random.Generator, batch_size: int) -> np.ndarray:
        kind = draw_kind.draw(rng, (batch_size, 1)) if len(mixture) > 1 else 0
        ways_BW, rest_BN = 0, 0
        for i, (burst, rest, _) in enumerate(mixture):
            ways = burst.draw(rng, (batch_size, options.ways))
            ways_BW = np.where(kind == i, ways, ways_BW)
            rest_BN = np.where(kind == i, rest.draw(rng, (batch_size, remaining)), rest_BN)
        slots = sampling.draw_slots(rng, batch_size, options.shots, options.ways, options.grouped)
        burst_BM = np.take_along_axis(ways_BW, slots, axis=1)
        query_slot = rng.integers(options.ways, size=(batch_size, 1))
        query = np.take_along_axis(ways_BW, query_slot, axis=1)
        context = sampling.interleave_at_random(rng, burst_BM, rest_BN)
        return np.concatenate([context, query], axis=1)

    def draw_places(rng: np.random.Generator, batch_size: int) -> np.ndarray:
        if draw_non_bursty is None:
            return draw_bursty(rng, batch_size)
        is_bursty = rng.random((batch_size, 1)) < options.p_bursty
        return np.where(is_bursty, draw_bursty(rng, batch_size), draw_non_bursty(rng, batch_size))

    every_label = np.arange(space.num_labels(options.labeling))
    return _fixed_type(space, options, draw_places, every_label, any_label=False)


def _non_bursty_places(
    space: ClassSpace, options: SequenceOptions
) -> Callable[[np.random.Generator, int], np.ndarray]:
    if options.non_bursty == "common_no_support":
        return _no_support_places(space.distribution("common"), options.seq_len)
    if options.non_bursty == "common_uniform":
        distribution = space.distribution("common", uniform=True)
    else:
        distribution = space.distribution("zipfian")
    return lambda rng, batch_size: distribution.draw(rng, (batch_size, options.seq_len))


# ---------------------------------------------------------------- in-weights evaluation


def _register_no_support(role: str) -> None:
    @SEQUENCE_TYPES.register(f"no_support_{role}")
    def no_support(space: ClassSpace, options: SequenceOptions) -> SequenceType:
        """Queries whose class is absent from the context: only the weights can answer.

        The query is drawn first; the context follows the same distribution without
        the query's class (original: get_no_support_seq). With label multiplicity any
        of the class's labels is right.

        Raises:
          ValueError: the role has fewer than two classes, or the labeling is 'unfixed'.
        """
        _require_fixed_labeling(f"no_support_{role}", options)
        distribution = space.distribution(role)
        if distribution.support < 2:
            raise ValueError(f"no_support_{role} needs at least 2 {role} classes")
        draw_places = _no_support_places(distribution, options.seq_len)
        valid = space.labels_of(space.places(role), options.labeling)
        return _fixed_type(space, options, draw_places, valid, any_label=True)


def _no_support_places(
    distribution: sampling.ClassDistribution, seq_len: int
) -> Callable[[np.random.Generator, int], np.ndarray]:
    def draw_places(rng: np.random.Generator, batch_size: int) -> np.ndarray:
        query = distribution.draw(rng, (batch_size, 1))
        context = distribution.draw_excluding(rng, query, seq_len - 1)
        return np.concatenate([context, query], axis=1)

    return draw_places


# ---------------------------------------------------------------- in-context evaluation


def _register_fewshot(role: str) -> None:
    @SEQUENCE_TYPES.register(f"fewshot_{role}")
    def make_fewshot(space: ClassSpace, options: SequenceOptions) -> SequenceType:
        """`ways` classes, `shots` of each in the context, a query from one of them.

        Under the 'unfixed' labeling the classes are called 0 .. ways-1 at random in
        each sequence, so that only the context can answer (original: get_fewshot_seq).
        `distinct_ways=False` draws the ways with replacement, as the original did: a
        class may then stand under both labels.

        Raises:
          ValueError: the role has fewer classes than ways.
        """
        distribution, fewshot = space.distribution(role), options.fewshot
        if fewshot.distinct_ways and distribution.support < fewshot.ways:
            raise ValueError(
                f"fewshot_{role} needs at least ways = {fewshot.ways} {role} classes, "
                f"there are {distribution.support}"
            )

        def draw(rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
            if fewshot.distinct_ways:
                ways_BW = distribution.draw_distinct(rng, batch_size, fewshot.ways)
            else:
                ways_BW = distribution.draw(rng, (batch_size, fewshot.ways))
            slots = sampling.draw_slots(
                rng, batch_size, fewshot.shots, fewshot.ways, fewshot.grouped
            )
            query_slot = rng.integers(fewshot.ways, size=(batch_size, 1))
            slots = np.concatenate([slots, query_slot], axis=1)
            return np.take_along_axis(ways_BW, slots, axis=1), slots

        seq_len = fewshot.shots * fewshot.ways + 1
        if fewshot.labeling != "unfixed":
            fixed = dataclasses.replace(options, seq_len=seq_len, labeling=fewshot.labeling)
            valid = space.labels_of(space.places(role), fewshot.labeling)
            return _fixed_type(space, fixed, lambda *args: draw(*args)[0], valid, any_label=False)

        def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
            places_BS, slots = draw(rng, batch_size)
            names = sampling.shuffled_rows(rng, np.arange(fewshot.ways), batch_size)
            return space.batch(rng, places_BS, lambda _: np.take_along_axis(names, slots, axis=1))

        labels = np.arange(fewshot.ways)
        return SequenceType(sample, seq_len, fewshot.ways, labels, labels)


for _role in ("common", "rare", "zipfian"):
    _register_no_support(_role)
    _register_fewshot(_role)
_register_fewshot("holdout")


def _require_fixed_labeling(name: str, options: SequenceOptions) -> None:
    if options.labeling == "unfixed":
        raise ValueError(
            f"labeling 'unfixed' needs sequences whose classes are relabelled (fewshot_*), "
            f"which '{name}' is not; use 'ordered' or 'original'"
        )


def _fixed_type(
    space: ClassSpace,
    options: SequenceOptions,
    draw_places: Callable[[np.random.Generator, int], np.ndarray],
    valid_labels: np.ndarray,
    any_label: bool,
) -> SequenceType:
    """A type whose classes carry their own labels, given how places are drawn.

    Args:
      space: the classes.
      options: options of the type.
      draw_places: (rng, batch size) -> places [B, S].
      valid_labels: see SequenceType.
      any_label: whether any label of the query's class is right.
    """

    def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
        places_BS = draw_places(rng, batch_size)
        return space.batch(
            rng,
            places_BS,
            lambda occurrences: space.draw_labels(rng, places_BS, occurrences, options.labeling),
        )

    num_labels = space.num_labels(options.labeling)
    return SequenceType(
        sample,
        options.seq_len,
        num_labels,
        valid_labels,
        space.answers(options.labeling) if any_label else np.arange(num_labels),
    )
