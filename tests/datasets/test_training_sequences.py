"""Sequence types bursty, relabelled, and mixed."""

import dataclasses

import numpy as np
import pytest
from draws import COMMON, HOLDOUT, RARE, ROLES, SPACE, SPLIT, TRAIN, draw, many_classes, places
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sampling import assert_distributed

from emergent_icl.data.sequences.classes import zipf_weights

# ------------------------------------------------------------------------------ bursty


def test_bursty_contexts_contain_the_querys_class_at_least_shots_times():
    _, batch = draw("bursty", p_bursty=1.0)
    support = (batch.class_ids[:, :-1] == batch.class_ids[:, -1:]).sum(axis=1)
    assert support.min() == 3


def test_bursty_contexts_contain_two_bursty_classes_and_two_others():
    _, batch = draw("bursty", 500, space=many_classes())
    counts = [sorted(np.unique(row[:-1], return_counts=True)[1]) for row in batch.class_ids]
    typical = sum(count == [1, 1, 3, 3] for count in counts)
    assert typical > 490


def test_the_fraction_of_bursty_sequences_is_p_bursty():
    _, batch = draw("bursty", 20_000, space=many_classes(), p_bursty=0.3)
    supported = (batch.class_ids[:, :-1] == batch.class_ids[:, -1:]).any(axis=1)
    assert supported.mean() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
@pytest.mark.parametrize("p_bursty", [0.0, 0.9, 1.0])
def test_bursty_marginals_follow_the_zipf_weights(exponent, p_bursty):
    space = dataclasses.replace(SPACE, zipf_exponent=exponent)
    _, batch = draw("bursty", 20_000, space=space, p_bursty=p_bursty)
    # Test single positions, since examples within a sequence are not independent.
    for position in (0, -1):
        counts = np.bincount(places(batch)[:, position], minlength=TRAIN)
        assert_distributed(counts, zipf_weights(TRAIN, exponent))


def test_ways_are_drawn_with_replacement_in_training():
    _, batch = draw("bursty", 4000)
    # With 26 classes, both ways are the same class in 1 of 26 sequences; it occurs 6 or more times.
    most = np.array([np.unique(row[:-1], return_counts=True)[1].max() for row in batch.class_ids])
    assert (most >= 6).mean() == pytest.approx(1 / TRAIN, abs=0.012)


def test_bursts_of_common_classes_appear_among_rare_ones_and_vice_versa():
    for p_common, burst, rest in ((1.0, "common", "rare"), (0.0, "rare", "common")):
        _, batch = draw("bursty", 500, p_bursty_zipfian=0.0, p_bursty_common=p_common)
        of_burst = np.isin(places(batch), ROLES[burst])
        assert of_burst[:, -1].all()
        assert (of_burst[:, :-1].sum(axis=1) == 6).all()
        assert np.isin(places(batch)[~of_burst], ROLES[rest]).all()


def test_kinds_of_bursts_have_their_configured_frequencies():
    _, batch = draw("bursty", 20_000, p_bursty_zipfian=0.0, p_bursty_common=0.25)
    assert np.isin(places(batch)[:, -1], ROLES["common"]).mean() == pytest.approx(0.25, abs=0.015)


def test_non_bursty_sequences_of_common_classes():
    _, uniform = draw("bursty", p_bursty=0.0, non_bursty="common_uniform")
    assert np.isin(places(uniform), ROLES["common"]).all()
    skewed = dataclasses.replace(SPACE, zipf_exponent=2.0, zipf_within_roles=True)
    _, uniform = draw("bursty", 20_000, space=skewed, p_bursty=0.0, non_bursty="common_uniform")
    assert_distributed(np.bincount(places(uniform)[:, 0] - RARE), np.full(COMMON, 1 / COMMON))
    _, alone = draw("bursty", p_bursty=0.0, non_bursty="common_no_support")
    assert np.isin(places(alone), ROLES["common"]).all()
    assert (alone.class_ids[:, :-1] != alone.class_ids[:, -1:]).all()


def test_grouped_bursts_contain_each_way_once_per_block():
    _, batch = draw("bursty", 300, space=many_classes(), grouped=True)
    checked = 0
    for row in batch.class_ids[:, :-1]:
        classes, counts = np.unique(row, return_counts=True)
        if sorted(counts) == [1, 1, 3, 3]:
            burst = row[np.isin(row, classes[counts == 3])]
            assert all(len(set(block)) == 2 for block in burst.reshape(3, 2))
            checked += 1
    assert checked > 290


def test_draws_within_a_role_are_uniform_by_default():
    options = {"p_bursty_zipfian": 0.0, "p_bursty_common": 1.0}
    skewed = dataclasses.replace(SPACE, zipf_exponent=2.0)
    _, batch = draw("bursty", 20_000, space=skewed, **options)
    counts = np.bincount(places(batch)[:, -1] - RARE)
    assert_distributed(counts, np.full(COMMON, 1 / COMMON))
    _, batch = draw(
        "bursty", 20_000, space=dataclasses.replace(skewed, zipf_within_roles=True), **options
    )
    weights = zipf_weights(TRAIN, 2.0)[RARE:]
    assert_distributed(np.bincount(places(batch)[:, -1] - RARE), weights / weights.sum())


def test_sequences_that_are_never_drawn_impose_no_requirements():
    """Without bursts, a short context and a missing role are allowed."""
    space = dataclasses.replace(SPACE, split=SPLIT._replace(num_rare=TRAIN, num_common=0))
    options = {"p_bursty": 0.0, "p_bursty_zipfian": 0.0}
    assert draw("bursty", space=space, seq_len=5, **options)[1].labels.shape == (2000, 5)
    # Bursts of rare classes that fill the context leave no place for common ones.
    options |= {"p_bursty": 1.0, "seq_len": 7}
    assert places(draw("bursty", space=space, **options)[1]).shape == (2000, 7)
    with pytest.raises(ValueError, match="common"):
        draw("bursty", space=space, **options | {"seq_len": 8})


def test_common_no_support_needs_two_common_classes():
    space = dataclasses.replace(SPACE, split=SPLIT._replace(num_common=1))
    with pytest.raises(ValueError, match="at least 2 common classes"):
        draw("bursty", space=space, p_bursty=0.5, non_bursty="common_no_support")


def test_a_context_too_short_for_the_burst_is_refused():
    with pytest.raises(ValueError, match="seq_len = 6 is too short"):
        draw("bursty", seq_len=6)


# ------------------------------------------------------------------ label multiplicity


@pytest.mark.parametrize("p_bursty", [0.0, 1.0])
def test_multiple_labels_are_drawn_once_per_class_and_sequence(p_bursty):
    space = dataclasses.replace(SPACE, label_multiplicity=5)
    kind, batch = draw("bursty", space=space, p_bursty=p_bursty)
    np.testing.assert_array_equal(batch.labels // 5, places(batch))
    for row, labels in zip(batch.class_ids, batch.labels, strict=True):
        assert len(set(zip(row, labels, strict=True))) == len(set(row))
    assert kind.num_labels == 5 * TRAIN + HOLDOUT
    used = np.bincount(batch.labels[:, -1], minlength=kind.num_labels)
    assert (used[: 5 * TRAIN] > 0).all()
    assert (used[5 * TRAIN :] == 0).all()


def test_any_label_of_the_class_is_correct_without_support():
    space = dataclasses.replace(SPACE, label_multiplicity=3)
    kind, _ = draw("no_support_zipfian", space=space)
    assert kind.answers[0] == kind.answers[2]
    assert kind.answers[2] != kind.answers[3]
    # In training, the context determines which label is correct.
    assert len(set(draw("bursty", space=space)[0].answers)) == kind.num_labels


# -------------------------------------------------------------------------- relabelled


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), multiplicity=st.integers(1, 3))
def test_relabelled_classes_have_one_distinct_label_each(seed, multiplicity):
    space = dataclasses.replace(SPACE, label_multiplicity=multiplicity)
    kind, batch = draw("relabelled", 64, seed, space=space)
    for row, labels in zip(batch.class_ids, batch.labels, strict=True):
        pairs = set(zip(row, labels, strict=True))
        assert len(pairs) == len(set(row)) == len(set(labels))
    # The context answers every query.
    assert (batch.class_ids[:, :-1] == batch.class_ids[:, -1:]).any(axis=1).all()
    assert batch.labels.max() < multiplicity * TRAIN
    np.testing.assert_array_equal(kind.valid_labels, np.arange(multiplicity * TRAIN))


def test_relabelled_sequences_are_bursty():
    _, batch = draw("relabelled", 500, space=many_classes(), p_bursty=0.0)
    counts = [sorted(np.unique(row[:-1], return_counts=True)[1]) for row in batch.class_ids]
    assert sum(count == [1, 1, 3, 3] for count in counts) > 490


def test_new_labels_are_balanced_and_independent_of_the_class():
    space = dataclasses.replace(SPACE, zipf_exponent=1.0)
    _, batch = draw("relabelled", 40_000, space=space)
    uniform = np.full(TRAIN, 1 / TRAIN)
    query_class, query_label = places(batch)[:, -1], batch.labels[:, -1]
    assert_distributed(np.bincount(query_label, minlength=TRAIN), uniform)
    assert_distributed(np.bincount(query_class, minlength=TRAIN), zipf_weights(TRAIN, 1.0))
    of_most_frequent = query_label[query_class == TRAIN - 1]
    assert_distributed(np.bincount(of_most_frequent, minlength=TRAIN), uniform)
    assert (query_label == query_class).mean() == pytest.approx(1 / TRAIN, abs=0.005)


def test_relabelled_classes_use_the_labels_of_their_labeling():
    space = dataclasses.replace(SPACE, num_shared_labels=9)
    _, batch = draw("relabelled", space=space, labeling="shared")
    assert set(batch.labels.ravel()) == set(range(9))
    # At most two bursty classes and two others.
    few = dataclasses.replace(SPACE, num_shared_labels=4)
    _, batch = draw("relabelled", space=few, labeling="shared")
    assert set(batch.labels.ravel()) == set(range(4))
    with pytest.raises(ValueError, match="show up to 4 classes, but there are 3 labels"):
        draw("relabelled", space=dataclasses.replace(SPACE, num_shared_labels=3), labeling="shared")


# ------------------------------------------------------------------------------- mixed


def test_mixed_sequences_are_fewshot_or_ordinary():
    kind, batch = draw("mixed", 20_000, p_fewshot=0.3, shots=4)
    assert kind.seq_len == 9
    rare = np.isin(places(batch), ROLES["rare"])
    is_few = rare.all(axis=1)
    assert (is_few | ~rare.any(axis=1)).all()
    assert is_few.mean() == pytest.approx(0.3, abs=0.015)
    # Few-shot: two rare classes with new labels. Ordinary: common classes with their own labels.
    for row, labels in zip(batch.class_ids[is_few][:500], batch.labels[is_few], strict=False):
        assert len(set(zip(row, labels, strict=True))) == len(set(row)) == 2
        assert set(labels) == {0, 1}
    np.testing.assert_array_equal(batch.labels[~is_few], places(batch)[~is_few])
    counts = np.bincount(places(batch)[~is_few][:, 0] - RARE, minlength=COMMON)
    assert_distributed(counts, np.full(COMMON, 1 / COMMON))
    counts = np.bincount(places(batch)[is_few][:, -1], minlength=RARE)
    assert_distributed(counts, np.full(RARE, 1 / RARE))


def test_mixed_has_at_least_as_many_labels_as_ways():
    space = dataclasses.replace(SPACE, num_shared_labels=2)
    kind, batch = draw("mixed", space=space, labeling="shared", shots=2, ways=4, p_fewshot=0.5)
    assert kind.num_labels == 4 == len(kind.answers)
    assert set(batch.labels.ravel()) == set(range(4)) == set(kind.valid_labels)


def test_mixed_needs_common_and_rare_classes():
    for split, message in (
        (SPLIT._replace(num_rare=TRAIN, num_common=0), "num_common is 0"),
        (SPLIT._replace(num_rare=1), "at least ways = 2 rare classes"),
    ):
        with pytest.raises(ValueError, match=message):
            draw("mixed", space=dataclasses.replace(SPACE, split=split))
