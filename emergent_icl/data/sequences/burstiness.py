"""Statistics of sequences: burstiness, repeats, and class frequencies."""

from typing import NamedTuple

import numpy as np

from emergent_icl.data.sequences.classes import SequenceBatch

# Value -> its fraction of the sequences, in (0, 1].
Distribution = dict[int, float]


class SequenceStatistics(NamedTuple):
    """Statistics of a sample of sequences (paper section 2.1: burstiness).

    Attributes:
      num_sequences, seq_len: size of the sample; S includes the query.
      support: fraction of sequences whose context contains the query's class.
      support_examples: distribution of the number of context examples of the query's class.
      classes, labels: distributions of the number of distinct ones per sequence, query included.
      commonest_in_sequence: fraction of examples in a sequence's most frequent class, averaged.
      commonest_overall: fraction of all examples in the most frequent class.
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
    """Computes the statistics of a batch of sequences, int [B, S]."""
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
        float(np.mean(count_most_frequent(class_ids)) / seq_len),
        float(np.unique(class_ids, return_counts=True)[1].max() / class_ids.size),
    )


def count_support(class_ids_BS: np.ndarray) -> np.ndarray:
    """Counts context examples of the query's class; int [B], in [0, S)."""
    return np.count_nonzero(class_ids_BS[:, :-1] == class_ids_BS[:, -1:], axis=1)


def count_distinct(ids_BS: np.ndarray) -> np.ndarray:
    """Counts distinct values in each row; int [B], in [1, S]."""
    ordered = np.sort(ids_BS, axis=1)
    return 1 + np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1)


def count_most_frequent(ids_BS: np.ndarray) -> np.ndarray:
    """Counts the most frequent value of each row; int [B], in [1, S]."""
    ordered = np.sort(ids_BS, axis=1)
    count = np.ones(len(ids_BS), int)
    for lag in range(1, ids_BS.shape[1]):  # Equal sorted values at this lag: a run of lag + 1.
        count[(ordered[:, lag:] == ordered[:, :-lag]).any(axis=1)] = lag + 1
    return count


def distribution(values: np.ndarray) -> Distribution:
    """Fraction of each value that occurs, ascending; int [B] -> {value: fraction}."""
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), (counts / len(values)).tolist(), strict=True))


def mean(shares: Distribution) -> float:
    """Mean of a distribution."""
    return sum(value * share for value, share in shares.items())


class BinnedFrequency(NamedTuple):
    """Mean probability of the classes in each bin of ranks, and its standard error; float64 [N].

    Errors are computed over sequences, since examples within a sequence are dependent.
    """

    frequency: np.ndarray
    error: np.ndarray


def binned_frequency(ranks_BS: np.ndarray, edges: np.ndarray) -> BinnedFrequency:
    """Averages class frequencies over bins of class rank; bin n is [edges[n], edges[n + 1]).

    Ranks outside all bins are not counted in any.
    """
    bins_BS = np.searchsorted(edges, ranks_BS, side="right") - 1
    shares_NB = np.stack([np.mean(bins_BS == n, axis=1) for n in range(len(edges) - 1)])
    widths = np.diff(edges)
    errors = shares_NB.std(axis=1) / np.sqrt(len(ranks_BS))
    return BinnedFrequency(shares_NB.mean(axis=1) / widths, errors / widths)
