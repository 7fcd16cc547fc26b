"""Sequence types that separate in-context from in-weights learning.

All but fewshot_holdout can also be trained on. Sources: paper section 2.1; flip is from Singh et
al. 2025 (arXiv 2503.05631).
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from emergent_icl.config.registry import EVALUATION_MODES, SEQUENCE_TYPES
from emergent_icl.data.sequences import sampling
from emergent_icl.data.sequences.classes import ClassSpace, SequenceBatch
from emergent_icl.data.sequences.types import (
    DrawPlaces,
    FewshotOptions,
    SequenceOptions,
    SequenceType,
    fixed_type,
    require_fixed_labeling,
)

# (generator, batch size) -> places [B, S], and the way at each position [B, S]
DrawWays = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def make_no_support(space: ClassSpace, options: SequenceOptions, role: str) -> SequenceType:
    """Queries whose class is absent from the context, so that only the weights can answer.

    The query is drawn first from the classes of a role; the context follows the same distribution
    without the query's class (reference implementation: get_no_support_seq). With label
    multiplicity, any label of the class is correct. Raises ValueError if the role has fewer than
    two classes, or the labeling is 'unfixed'.
    """
    require_fixed_labeling(f"no_support_{role}", options)
    draw_places = no_support_places(space, role, options.seq_len)
    valid, query = space.labels_of(role, options.labeling), space.distribution(role)
    kind = fixed_type(space, options, draw_places, valid, any_label=True, query=query)
    return kind._replace(role=role, follows_zipf=_is_uniform(space, role))


def _is_uniform(space: ClassSpace, role: str) -> bool:
    """Whether sequences of all trained classes follow Zipf's law, which is uniform."""
    return role == "zipfian" and space.zipf_exponent == 0


def no_support_places(space: ClassSpace, role: str, seq_len: int) -> DrawPlaces:
    """Draws a query and a context without its class; raises ValueError below two classes."""
    distribution = space.distribution(role)
    if distribution.support < 2:
        raise ValueError(f"a context without the query's class needs at least 2 {role} classes")

    def draw_places(rng: np.random.Generator, batch_size: int) -> np.ndarray:
        query = distribution.draw(rng, (batch_size, 1))
        context = distribution.draw_excluding(rng, query, seq_len - 1)
        return np.concatenate([context, query], axis=1)

    return draw_places


def make_fewshot(
    space: ClassSpace, options: SequenceOptions, role: str, labeling: str | None = None
) -> SequenceType:
    """Contexts of `ways` classes with `shots` examples each, and a query from one of the classes.

    Under the 'unfixed' labeling, labels 0 .. ways-1 are reassigned in each sequence, so that only
    the context can answer (reference implementation: get_fewshot_seq). With
    `distinct_ways=False`, as in the reference implementation, a class may have several labels.
    `labeling` overrides `options.fewshot.labeling`. Raises ValueError if the role has fewer classes
    than distinct ways.
    """
    fewshot = options.fewshot
    labeling = labeling or fewshot.labeling
    draw = _fewshot_places(space.distribution(role), fewshot, f"fewshot_{role}", role)
    if labeling == "unfixed":

        def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
            places_BS, slots = draw(rng, batch_size)
            names = sampling.shuffled_rows(rng, np.arange(fewshot.ways), batch_size)
            return space.batch(rng, places_BS, lambda _: np.take_along_axis(names, slots, axis=1))

        labels = np.arange(fewshot.ways)
        kind = SequenceType(sample, fewshot.seq_len, fewshot.ways, labels, labels, labeling)
        kind = kind._replace(best_constant=1 / fewshot.ways)
    else:
        fixed = dataclasses.replace(options, seq_len=fewshot.seq_len, labeling=labeling)
        valid = space.labels_of(role, labeling)
        # Distinct ways flatten a skewed distribution.
        query = space.distribution(role)
        query = None if fewshot.distinct_ways and np.ptp(query.weights) > 0 else query
        kind = fixed_type(
            space, fixed, lambda *args: draw(*args)[0], valid, any_label=False, query=query
        )
    reads = ("shots", "ways", "grouped", "distinct_ways")
    kind = kind._replace(reads=reads, role=role, shots=fewshot.shots, is_fewshot=True)
    return kind._replace(follows_zipf=_is_uniform(space, role))


def _fewshot_places(
    distribution: sampling.ClassDistribution, fewshot: FewshotOptions, name: str, role: str
) -> DrawWays:
    """Draws places and ways; raises ValueError if there are fewer classes than distinct ways."""
    if fewshot.distinct_ways and distribution.support < fewshot.ways:
        raise ValueError(
            f"{name} needs at least ways = {fewshot.ways} {role} classes, but there are "
            f"{distribution.support}"
        )

    def draw(rng: np.random.Generator, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        if fewshot.distinct_ways:
            ways_BW = distribution.draw_distinct(rng, batch_size, fewshot.ways)
        else:
            ways_BW = distribution.draw(rng, (batch_size, fewshot.ways))
        slots = sampling.draw_slots(rng, batch_size, fewshot.shots, fewshot.ways, fewshot.grouped)
        query_slot = rng.integers(fewshot.ways, size=(batch_size, 1))
        slots = np.concatenate([slots, query_slot], axis=1)
        return np.take_along_axis(ways_BW, slots, axis=1), slots

    return draw


@SEQUENCE_TYPES.register("flip")
def flip(space: ClassSpace, options: SequenceOptions) -> SequenceType:
    """Few-shot sequences in which trained classes exchange labels: context versus weights.

    Two classes swap labels; more rotate them by a random shift. `accuracy` is the fraction of
    predictions that follow the context, `predicts_own_label` of those that follow the weights.
    (Under the 'shared' labeling, 1 of `num_shared_labels` pairs of classes shares a label.)

    Raises ValueError if there are fewer than two ways, fewer classes than ways, or the labeling is
    'unfixed'.
    """
    require_fixed_labeling("flip", options)
    fewshot, labeling = dataclasses.replace(options.fewshot, distinct_ways=True), options.labeling
    if fewshot.ways < 2:
        raise ValueError(f"flip needs at least 2 ways, not {fewshot.ways}")
    draw = _fewshot_places(space.distribution("zipfian"), fewshot, "flip", "trained")

    def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
        places_BS, slots = draw(rng, batch_size)
        shift = rng.integers(1, fewshot.ways, size=(batch_size, 1))
        where = np.argmax(slots[:, None] == np.arange(fewshot.ways)[:, None], axis=-1)
        ways_BW = np.take_along_axis(places_BS, where, axis=1)
        others_BS = np.take_along_axis(ways_BW, (slots + shift) % fewshot.ways, axis=1)
        # Exchanged classes repeat exactly where the classes themselves do.
        return space.batch(
            rng, places_BS, lambda repeats: space.draw_labels(rng, others_BS, repeats, labeling)
        )

    num_labels = space.num_labels(labeling)
    return SequenceType(
        sample,
        fewshot.seq_len,
        num_labels,
        valid_labels=space.labels_of("zipfian", labeling),
        answers=np.arange(num_labels),
        labeling=labeling,
        reads=("shots", "ways", "grouped"),  # Its ways are always distinct.
        shots=fewshot.shots,
        is_fewshot=True,
        follows_zipf=_is_uniform(space, "zipfian"),
    )


for _role in ("common", "rare", "zipfian"):
    SEQUENCE_TYPES.register(f"no_support_{_role}")(functools.partial(make_no_support, role=_role))
    SEQUENCE_TYPES.register(f"fewshot_{_role}")(functools.partial(make_fewshot, role=_role))
# Not a type of training sequences: holdout classes are never trained on.
EVALUATION_MODES.register("fewshot_holdout")(functools.partial(make_fewshot, role="holdout"))
