"""Sequence types: how classes, exemplars, and labels of sequences are drawn.

A sequence is S labeled examples; the last is the query. To add a type, register a function
`(ClassSpace, SequenceOptions) -> SequenceType`, as in bursty.py and probes.py.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import ml_collections
import numpy as np

from emergent_icl.data.sequences.classes import ClassSpace, SequenceBatch
from emergent_icl.data.sequences.sampling import ClassDistribution

# (generator, batch size) -> SequenceBatch [B, S]
Sampler = Callable[[np.random.Generator, int], SequenceBatch]
# (generator, batch size) -> places of classes, int [B, S]
DrawPlaces = Callable[[np.random.Generator, int], np.ndarray]


class SequenceType(NamedTuple):
    """A distribution of sequences, and how predictions for their queries are judged.

    Attributes:
      sample: the sampler.
      seq_len: S, examples per sequence.
      num_labels: exclusive upper bound of labels.
      valid_labels: int [...], the choices of "closed" accuracy.
      answers: int [num_labels]; predictions with the same answer as the label are correct. Answers
        are labels, unless a class owns several that the sequence does not distinguish.
      labeling: how classes are labeled; '' if captions need not state it.
      reads: options that the type depends on, besides classes and labels.
      role: of its classes: 'zipfian' (rare and common, joint distribution), 'rare', 'common',
        'holdout', or 'each' (rare and common, drawn separately).
      shots: examples of the query's class in the contexts that are drawn to have some; 0 for none.
      is_fewshot: evaluation has separate options for it; see FewshotOptions.
      follows_zipf: class frequencies are those of the joint Zipf distribution.
      best_constant: accuracy of always giving the most frequent answer, in [0, 1]; None if unknown.
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
    best_constant: float | None = None


@dataclasses.dataclass(frozen=True)
class FewshotOptions:
    """Options of few-shot sequences; see config.evaluation."""

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
    """Options of sequence types; see config.data.sequences.

    Sequences of only `ways` classes (fewshot_*, flip, and part of mixed) read `fewshot`, which
    differs between training and evaluation. `data` is config.data, for options of extensions.
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
    data: ml_collections.ConfigDict | None = None


def require_fixed_labeling(name: str, options: SequenceOptions) -> None:
    """Raises ValueError if the labeling is 'unfixed'."""
    if options.labeling == "unfixed":
        raise ValueError(
            f"labeling 'unfixed' needs few-shot sequences (fewshot_*), which '{name}' is not; use "
            "'ordered', 'original', or 'shared', or type 'relabelled'"
        )


def fixed_type(
    space: ClassSpace,
    options: SequenceOptions,
    draw_places: DrawPlaces,
    valid_labels: np.ndarray,
    any_label: bool,
    query: ClassDistribution | None = None,
) -> SequenceType:
    """A type whose classes keep their labels, given a function that draws their places.

    With `any_label`, every label of the query's class is correct. `query` is the marginal
    distribution of the query's class, if known. Callers set the other fields with `_replace`.
    """
    labeling, num_labels = options.labeling, space.num_labels(options.labeling)

    def sample(rng: np.random.Generator, batch_size: int) -> SequenceBatch:
        places_BS = draw_places(rng, batch_size)
        return space.batch(
            rng, places_BS, lambda repeats: space.draw_labels(rng, places_BS, repeats, labeling)
        )

    answers = space.answers(labeling) if any_label else np.arange(num_labels)
    best_constant = None
    if query:
        places = query.first + np.arange(len(query.weights))
        weights = query.weights
        if labeling == "ordered" and not any_label:
            weights = weights / np.where(
                places < space.split.num_train, space.label_multiplicity, 1
            )
        by_answer = np.bincount(answers[space.first_labels(places, labeling)], weights)
        best_constant = float(by_answer.max())
    kind = SequenceType(sample, options.seq_len, num_labels, valid_labels, answers, labeling)
    return kind._replace(best_constant=best_constant)
