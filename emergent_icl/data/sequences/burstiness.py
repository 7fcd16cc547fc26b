"""What sequences look like in numbers: bursts, repeats, and how often each class is shown."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from emergent_icl import randomness
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.types import Sampler

# Value -> its share of the sequences, in (0, 1]; the shares sum to 1.
Distribution = dict[int, float]

# Sequences of one draw. Part of what a seed means: another value gives another sample.
BLOCK_SEQUENCES = 1000


class SequenceStatistics(NamedTuple):
    """What a sample of sequences has in common (paper section 2.1: burstiness).

    Attributes:
      num_sequences, seq_len: of the sample; S includes the query.
      support: share of the sequences whose query's class stands in the context, in [0, 1].
      support_examples: of the number of context examples of the query's class.
      classes, labels: of the number of different ones in a sequence, query included.
      commonest_in_sequence: share of a sequence's examples that its commonest class has,
        mean over the sequences, in (0, 1].
      commonest_overall: share of all examples of the sample that its commonest class has.
    """

    num_sequences: int
    seq_len: int
    support: float
    support_examples: Distribution
    classes: Distribution
    labels: Distribution
    commonest_in_sequence: float
    commonest_overall: float


def sequence_statistics(batch: SequenceBatch) -> SequenceStatistics:
    """Measures a batch of sequences, int [B, S] each."""
    class_ids = np.asarray(batch.class_ids)
    num_sequences, seq_len = class_ids.shape
    support = count_support(class_ids)
    return SequenceStatistics(
        num_sequences,
        seq_len,
        float(np.mean(support > 0)),
        distribution(support),
        distribution(count_distinct(class_ids)),
        distribution(count_distinct(batch.labels)),
        float(np.mean(count_commonest(class_ids)) / seq_len),
        float(np.unique(class_ids, return_counts=True)[1].max() / class_ids.size),
    )


def count_support(class_ids_BS: np.ndarray) -> np.ndarray:
    """Context examples of the query's class; int [B], in [0, S)."""
    return np.count_nonzero(class_ids_BS[:, :-1] == class_ids_BS[:, -1:], axis=1)


def count_distinct(ids_BS: np.ndarray) -> np.ndarray:
    """Different values in each row; int [B], in [1, S]."""
    ordered = np.sort(ids_BS, axis=1)
    return 1 + np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1)


def count_commonest(ids_BS: np.ndarray) -> np.ndarray:
    """How often the commonest value of each row occurs; int [B], in [1, S]."""
    ordered = np.sort(ids_BS, axis=1)
    position = np.broadcast_to(np.arange(ids_BS.shape[1]), ids_BS.shape)
    is_first = np.ones(ids_BS.shape, bool)
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = np.maximum.accumulate(np.where(is_first, position, 0), axis=1)
    return 1 + (position - start).max(axis=1)


def distribution(values: np.ndarray) -> Distribution:
    """Shares of the values that occur; int [B] -> {value: share}, ascending."""
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), (counts / len(values)).tolist(), strict=True))


def mean(shares: Distribution) -> float:
    """The mean of a distribution."""
    return sum(value * share for value, share in shares.items())


def draw_sample(sampler: Sampler, seed: int, name: str, count: int) -> SequenceBatch:
    """Draws `count` >= 1 sequences; the first ones are the same however many are drawn.

    Samples of other names, 'inspect/fewshot_holdout' say, are independent of each other.
    """
    blocks = [
        sampler(randomness.generator(seed, name, block), BLOCK_SEQUENCES)
        for block in range(math.ceil(count / BLOCK_SEQUENCES))
    ]
    return SequenceBatch(*(np.concatenate(leaves)[:count] for leaves in zip(*blocks, strict=True)))


class BinnedFrequency(NamedTuple):
    """How often the classes of each bin of ranks are shown.

    Attributes:
      frequency: float64 [N], the mean over the bin's classes of the probability that an
        example is of that class.
      error: float64 [N], its standard error. Sequences are independent of each other, the
        examples of a bursty one are not: errors come from whole sequences.
    """

    frequency: np.ndarray
    error: np.ndarray


def binned_frequency(ranks_BS: np.ndarray, edges: np.ndarray) -> BinnedFrequency:
    """Frequencies of classes by class rank, averaged over bins: bin n is [edges[n], edges[n + 1]).

    Ranks outside all bins count as examples of none.
    """
    bins_BS = np.searchsorted(edges, ranks_BS, side="right") - 1
    shares_NB = np.stack([np.mean(bins_BS == n, axis=1) for n in range(len(edges) - 1)])
    widths = np.diff(edges)
    errors = shares_NB.std(axis=1) / np.sqrt(len(ranks_BS))
    return BinnedFrequency(shares_NB.mean(axis=1) / widths, errors / widths)
