"""Statistics of sequences, compared with counts by hand and with plain counting."""

from collections import Counter

import numpy as np
import pytest
from draws import SPACE, draw
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emergent_icl.config.registry import EVALUATION_MODES
from emergent_icl.data.sequences.burstiness import (
    binned_frequency,
    count_distinct,
    count_most_frequent,
    count_support,
    mean,
    sequence_statistics,
)
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.samples import BLOCK_SEQUENCES, draw_sample
from emergent_icl.data.sequences.types import SequenceOptions

ids = hnp.arrays(
    np.int32,
    st.tuples(st.integers(1, 6), st.integers(1, 7)),
    elements=st.integers(0, 4),
)


def as_batch(class_ids, labels=None):
    class_ids = np.array(class_ids, np.int32)
    labels = class_ids if labels is None else np.array(labels, np.int32)
    return SequenceBatch(class_ids, np.zeros_like(class_ids), labels)


def test_statistics_by_hand():
    classes = [[7, 7, 3, 7], [1, 2, 3, 4], [5, 5, 5, 5], [2, 2, 9, 9]]
    labels = [[0, 0, 1, 0], [1, 1, 1, 1], [0, 1, 2, 3], [0, 0, 1, 1]]
    measured = sequence_statistics(as_batch(classes, labels))
    assert (measured.num_sequences, measured.seq_len) == (4, 4)
    assert measured.support == 0.75
    assert measured.support_examples == {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25}
    assert measured.classes == {1: 0.25, 2: 0.5, 4: 0.25}
    assert measured.labels == {1: 0.25, 2: 0.5, 4: 0.25}
    # 3, 1, 4 and 2 of 4 examples.
    assert measured.commonest_in_sequence == 10 / 16
    # Class 5.
    assert measured.commonest_overall == 4 / 16
    assert mean(measured.classes) == 9 / 4


def test_classes_and_labels_are_not_mixed_up():
    measured = sequence_statistics(as_batch([[1, 1, 1]], [[4, 5, 6]]))
    assert measured.classes == {1: 1.0}
    assert measured.labels == {3: 1.0}
    assert measured.support_examples == {2: 1.0}


@given(ids)
def test_counts_agree_with_plain_counting(rows):
    np.testing.assert_array_equal(count_distinct(rows), [len(set(row)) for row in rows.tolist()])
    np.testing.assert_array_equal(
        count_most_frequent(rows), [max(Counter(row).values()) for row in rows.tolist()]
    )
    np.testing.assert_array_equal(
        count_support(rows), [row[:-1].count(row[-1]) for row in rows.tolist()]
    )


@given(ids, st.randoms(use_true_random=False))
def test_statistics_ignore_context_order_and_class_names(rows, random):
    before = sequence_statistics(as_batch(rows))
    order = list(range(rows.shape[1] - 1))
    random.shuffle(order)
    names = list(range(100, 105))
    random.shuffle(names)
    after = sequence_statistics(as_batch(np.array(names)[rows[:, [*order, rows.shape[1] - 1]]]))
    assert after == before


@given(ids)
def test_distributions_sum_to_one_and_are_consistent(rows):
    measured = sequence_statistics(as_batch(rows))
    for shares in (measured.support_examples, measured.classes, measured.labels):
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) > 0
    assert measured.support == pytest.approx(1 - measured.support_examples.get(0, 0.0))
    assert measured.commonest_overall <= measured.commonest_in_sequence + 1e-12


@pytest.mark.parametrize("mode", list(EVALUATION_MODES))
def test_statistics_of_every_type(mode):
    measured = sequence_statistics(draw(mode, p_bursty=1.0)[1])
    if mode.startswith("no_support"):
        assert measured.support_examples == {0: 1.0}
    elif mode.startswith("fewshot") or mode == "flip":
        assert measured.support_examples == {4: 1.0}
        assert measured.classes == measured.labels == {2: 1.0}
    elif mode in ("bursty", "relabelled"):
        assert measured.support == 1
        assert min(measured.support_examples) == 3


# ------------------------------------------------------------------------------ samples


def sampler(name="bursty"):
    return EVALUATION_MODES[name](SPACE, SequenceOptions()).sample


def test_a_larger_sample_begins_with_the_smaller_one():
    small = draw_sample(sampler(), 3, "x", 7)
    large = draw_sample(sampler(), 3, "x", BLOCK_SEQUENCES + 5)
    assert small.labels.shape == (7, 9)
    assert large.labels.shape == (BLOCK_SEQUENCES + 5, 9)
    for few, many in zip(small, large, strict=True):
        np.testing.assert_array_equal(few, many[:7])
    # The second block does not repeat the first.
    assert (large.class_ids[BLOCK_SEQUENCES:] != large.class_ids[:5]).any()


def test_a_sample_depends_on_seed_and_name():
    first = draw_sample(sampler(), 3, "x", 50).class_ids
    np.testing.assert_array_equal(draw_sample(sampler(), 3, "x", 50).class_ids, first)
    assert (draw_sample(sampler(), 4, "x", 50).class_ids != first).any()
    assert (draw_sample(sampler(), 3, "y", 50).class_ids != first).any()


# ------------------------------------------------------------------------- frequencies


def test_binned_frequency_by_hand():
    ranks = np.array([[1, 1, 2, 3], [1, 5, 5, 9]])
    binned = binned_frequency(ranks, np.array([1, 2, 4]))
    # Rank 1: 2/4 and 1/4 of a sequence. Ranks 2 and 3 combined: 2/4 and 0. Ranks 5 and 9: no bin.
    np.testing.assert_allclose(binned.frequency, [3 / 8, 1 / 8])
    # Standard deviations 0.125 and 0.25 over two sequences; two classes in the second bin.
    np.testing.assert_allclose(binned.error, 1 / np.sqrt(2) * np.array([0.125, 0.125]))


@given(seed=st.integers(0, 1000), count=st.sampled_from([1, 50, BLOCK_SEQUENCES + 50]))
def test_bins_of_one_class_are_plain_frequencies(seed, count):
    ranks = np.random.default_rng(seed).integers(1, 6, (count, 4))
    binned = binned_frequency(ranks, np.arange(1, 7))
    counts = [np.count_nonzero(ranks == rank) for rank in range(1, 6)]
    np.testing.assert_allclose(binned.frequency, np.array(counts) / ranks.size)
    np.testing.assert_allclose(binned.frequency.sum(), 1)


def test_errors_are_computed_over_sequences():
    """Repeats within a sequence add no information, so the interval keeps its width."""
    once = np.random.default_rng(0).integers(1, 3, (500, 1))
    single = binned_frequency(once, np.arange(1, 4))
    repeated = binned_frequency(np.repeat(once, 8, axis=1), np.arange(1, 4))
    np.testing.assert_allclose(repeated.error, single.error)
    # p = 1/2: sqrt(0.25 / 500).
    np.testing.assert_allclose(single.error, np.sqrt(0.25 / 500), rtol=0.01)
