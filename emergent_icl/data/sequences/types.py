"""Sequence types: which classes, exemplars and labels stand where. No images, no loops.

A sequence is S examples with labels; the last is the query. A new type is one function
`(ClassSpace, SequenceOptions) -> SequenceType` and one registry line, as in bursty.py, probes.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from emergent_icl.data.sequences.classes import ClassSpace, SequenceBatch
from emergent_icl.data.sequences.sampling import ClassDistribution

# (generator, batch size) -> SequenceBatch [B, S]
Sampler = Callable[[np.random.Generator, int], SequenceBatch]
# (generator, batch size) -> places of classes, int [B, S]
DrawPlaces = Callable[[np.random.Generator, int], np.ndarray]


# Smaller differences of accuracies are not mentioned.
VISIBLE = 0.02


class SequenceType(NamedTuple):
    """A way to draw sequences, how their queries are judged, and facts about it.

    Attributes:
      sample: the sampler.
      seq_len: S, examples per sequence.
      num_labels: labels are below this number.
      valid_labels: int [...], the labels from which "closed" accuracy chooses.
      answers: int [num_labels]; a prediction is correct if its answer equals that of the label. It
        is the label itself unless a class owns several that the sequence does not distinguish.
      labeling: how classes are labeled; '' if captions need not state it.
      reads: the options that it depends on, besides the classes and their labels.
      role: role of the classes it draws: 'zipfian' (rare and common by their joint distribution),
        'rare', 'common', 'holdout', or 'each' (rare and common, drawn separately).
      shots: examples of the query's class in every context; 0 for none.
      is_fewshot: whether it shows only a few classes and has separate options in evaluation; see
        FewshotOptions.
      follows_zipf: whether classes occur with the frequencies of the joint Zipf distribution.
      commonest: accuracy of the most frequent answer to its queries, in [0, 1]; None if unknown.
    """

    sample: Sampler
    seq_len: int
    num_labels: int
    valid_labels: np.ndarray
    answers: np.ndarray
    labeling: str = ""
    reads: tuple[str, ...] = ("seq_len",)
    role: str = "zipfian"
    shots: int = 0
    is_fewshot: bool = False
    follows_zipf: bool = False
    commonest: float | None = None

    @property
    def constant(self) -> float | None:
        """`commonest`, if it is visibly above guessing among the valid labels; otherwise None."""
        chance = 1 / len(np.unique(self.answers[self.valid_labels]))
        is_visible = self.commonest is not None and self.commonest > chance + VISIBLE
        return self.commonest if is_visible else None


@dataclasses.dataclass(frozen=True)
class FewshotOptions:
    """Options of few-shot sequences; config.evaluation has their meaning."""

    shots: int = 4
    ways: int = 2
    grouped: bool = False
    distinct_ways: bool = True
    labeling: str = "unfixed"

    @property
    def seq_len(self) -> int:
        """Examples in a sequence, query included."""
        return self.shots * self.ways + 1


@dataclasses.dataclass(frozen=True)
class SequenceOptions:
    """Options of sequence types; config.data.sequences has their meaning.

    Those under `fewshot` are of sequences that show `ways` classes and nothing else (fewshot_*,
    flip, the few-shot part of mixed), which have others in evaluation than in training.
    """

    seq_len: int = 9
    shots: int = 3
    ways: int = 2
    p_bursty: float = 1.0
    p_bursty_zipfian: float = 1.0
    p_bursty_common: float = 0.0
    non_bursty: str = "zipfian"
    grouped: bool = False
    p_fewshot: float = 0.1
    labeling: str = "ordered"
    fewshot: FewshotOptions = FewshotOptions()


def require_fixed_labeling(name: str, options: SequenceOptions) -> None:
    """Raises ValueError if the labels of a type that keeps them are 'unfixed'."""
    if options.labeling == "unfixed":
        raise ValueError(
            f"labeling 'unfixed' needs sequences whose classes are renamed (fewshot_*), which "
            f"'{name}' is not; use 'ordered', 'original' or 'shared', or type 'relabelled'"
        )


def fixed_type(
    space: ClassSpace,
    options: SequenceOptions,
    draw_places: DrawPlaces,
    valid_labels: np.ndarray,
    any_label: bool,
    query: ClassDistribution | None = None,
) -> SequenceType:
    """A type whose classes carry their own labels, given how places are drawn.

    With `any_label` every label of the query's class is right. `query` is what the class of the
    query, or of its label, is drawn from by itself. The rest is set by `_replace`.
    """
    labeling, num_labels = options.labeling, space.num_labels(options.labeling)

    def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
        places_BS = draw_places(rng, batch_size)
        return space.batch(
            rng, places_BS, lambda repeats: space.draw_labels(rng, places_BS, repeats, labeling)
        )

    answers = space.answers(labeling) if any_label else np.arange(num_labels)
    commonest = _commonest(space, answers, labeling, any_label, query) if query else None
    return SequenceType(
        sample, options.seq_len, num_labels, valid_labels, answers, labeling, commonest=commonest
    )


def _commonest(
    space: ClassSpace,
    answers: np.ndarray,
    labeling: str,
    any_label: bool,
    query: ClassDistribution,
) -> float:
    """How often the commonest answer is right."""
    places = query.first + np.arange(len(query.weights))
    owns_several = labeling == "ordered" and not any_label
    owned = np.where(places < space.split.num_train, space.label_multiplicity, 1)
    weights = query.weights / (owned if owns_several else 1)
    return float(np.bincount(answers[space.first_labels(places, labeling)], weights).max())
