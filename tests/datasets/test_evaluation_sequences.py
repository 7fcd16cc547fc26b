"""Sequence types no_support_*, fewshot_*, and flip."""

import dataclasses

import numpy as np
import pytest
from draws import FEWSHOT, HOLDOUT, ROLES, SPACE, SPLIT, TRAIN, draw, places
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sampling import assert_distributed

from emergent_icl.data.sequences.classes import zipf_weights

# -------------------------------------------------------------------------- no_support


@pytest.mark.parametrize("role", ["rare", "common", "zipfian"])
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(0, 4))
def test_without_support_the_querys_class_is_never_in_the_context(role, seed, exponent):
    space = dataclasses.replace(SPACE, zipf_exponent=exponent)
    kind, batch = draw(f"no_support_{role}", 64, seed, space=space)
    assert (batch.class_ids[:, :-1] != batch.class_ids[:, -1:]).all()
    assert np.isin(places(batch), ROLES[role]).all()
    np.testing.assert_array_equal(kind.valid_labels, list(ROLES[role]))


def test_no_support_queries_follow_the_zipf_weights():
    space = dataclasses.replace(SPACE, zipf_exponent=1.0)
    _, batch = draw("no_support_zipfian", 20_000, space=space)
    counts = np.bincount(places(batch)[:, -1], minlength=TRAIN)
    assert_distributed(counts, zipf_weights(TRAIN, 1.0))


def test_no_support_needs_a_second_class():
    space = dataclasses.replace(SPACE, split=SPLIT._replace(num_common=1))
    with pytest.raises(ValueError, match="at least 2 common classes"):
        draw("no_support_common", space=space)


# ----------------------------------------------------------------------------- fewshot


@pytest.mark.parametrize("name", FEWSHOT)
def test_fewshot_shows_two_new_labels_four_times_each(name):
    kind, batch = draw(name, shots=4)
    assert kind.seq_len == 9
    assert kind.num_labels == 2
    for row, labels in zip(batch.class_ids, batch.labels, strict=True):
        assert np.bincount(labels[:-1]).tolist() == [4, 4]
        assert len(set(row)) == 2
        assert len(set(zip(row, labels, strict=True))) == 2
    role = ROLES[name.removeprefix("fewshot_")]
    assert np.isin(places(batch), role).all()


def test_unfixed_labels_are_balanced_and_independent_of_the_class():
    space = dataclasses.replace(SPACE, zipf_exponent=2.0)
    _, batch = draw("fewshot_zipfian", 20_000, space=space, shots=4)
    query_class, query_label = places(batch)[:, -1], batch.labels[:, -1]
    assert query_label.mean() == pytest.approx(0.5, abs=0.015)
    is_most_frequent = query_class == TRAIN - 1
    assert query_label[is_most_frequent].mean() == pytest.approx(0.5, abs=0.02)


def test_ways_with_replacement_may_give_one_class_both_labels():
    _, batch = draw("fewshot_holdout", 8000, shots=4, distinct_ways=False)
    one_class = (batch.class_ids == batch.class_ids[:, :1]).all(axis=1)
    assert one_class.mean() == pytest.approx(1 / HOLDOUT, abs=0.015)


def test_fewshot_can_keep_training_labels():
    kind, batch = draw("fewshot_holdout", labeling="ordered")
    np.testing.assert_array_equal(batch.labels, places(batch))
    np.testing.assert_array_equal(kind.valid_labels, list(ROLES["holdout"]))


def test_fewshot_needs_as_many_classes_as_ways():
    with pytest.raises(ValueError, match="at least ways = 9 holdout classes, but there are 8"):
        draw("fewshot_holdout", ways=9)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    shots=st.integers(1, 8),
    ways=st.integers(2, 8),
    grouped=st.booleans(),
)
def test_any_number_of_shots_and_distinct_ways(seed, shots, ways, grouped):
    kind, batch = draw("fewshot_holdout", 16, seed, shots=shots, ways=ways, grouped=grouped)
    assert kind.seq_len == shots * ways + 1
    for row, labels in zip(batch.class_ids, batch.labels, strict=True):
        assert len(set(row)) == ways
        assert np.bincount(labels[:-1], minlength=ways).tolist() == [shots] * ways
        if grouped:
            assert all(len(set(block)) == ways for block in row[:-1].reshape(shots, ways))


def share_of_distinct_pairs(weights):
    """A class is drawn first with its weight, or second after another class."""
    pairs = weights[:, None] * weights[None] / (1 - weights[:, None])
    np.fill_diagonal(pairs, 0)
    return (pairs.sum(axis=0) + pairs.sum(axis=1)) / 2


@pytest.mark.parametrize("name", FEWSHOT)
def test_fewshot_queries_follow_their_role(name):
    space = dataclasses.replace(SPACE, zipf_exponent=1.0)
    _, batch = draw(name, 20_000, space=space)
    role = ROLES[name.removeprefix("fewshot_")]
    counts = np.bincount(places(batch)[:, -1] - role.start, minlength=len(role))
    if name != "fewshot_zipfian":
        assert_distributed(counts, np.full(len(role), 1 / len(role)))
        return
    assert_distributed(counts, share_of_distinct_pairs(zipf_weights(TRAIN, 1.0)))


# -------------------------------------------------------------------------------- flip


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    shots=st.integers(1, 4),
    ways=st.integers(2, 5),
    multiplicity=st.integers(1, 3),
)
def test_flipped_classes_exchange_labels(seed, shots, ways, multiplicity):
    space = dataclasses.replace(SPACE, label_multiplicity=multiplicity)
    kind, batch = draw("flip", 32, seed, space=space, shots=shots, ways=ways)
    assert kind.seq_len == shots * ways + 1
    shown, owners = places(batch), batch.labels // multiplicity
    assert (shown != owners).all()
    for row, labels, of in zip(shown, batch.labels, owners, strict=True):
        assert len(set(row)) == len(set(labels)) == ways
        assert len(set(zip(row, labels, strict=True))) == ways
        assert set(of) == set(row)


def test_flipped_queries_follow_the_training_distribution():
    space = dataclasses.replace(SPACE, zipf_exponent=1.0)
    _, batch = draw("flip", 20_000, space=space)
    counts = np.bincount(places(batch)[:, -1], minlength=TRAIN)
    assert_distributed(counts, share_of_distinct_pairs(zipf_weights(TRAIN, 1.0)))


def test_three_ways_rotate_in_both_directions():
    _, batch = draw("flip", ways=3)
    partner = np.array([labels[0] for labels in batch.labels])
    first = places(batch)[:, 0]
    ordered = np.sort(np.stack([np.unique(row) for row in places(batch)]), axis=1)
    where = (ordered == first[:, None]).argmax(axis=1)
    to = (ordered == partner[:, None]).argmax(axis=1)
    shift = (to - where) % 3
    assert set(shift) == {1, 2}
    assert (shift == 1).mean() == pytest.approx(0.5, abs=0.04)


def test_flip_needs_at_least_two_ways_and_as_many_classes():
    with pytest.raises(ValueError, match="at least 2 ways"):
        draw("flip", ways=1)
    with pytest.raises(ValueError, match="at least ways = 27 trained classes"):
        draw("flip", ways=27)


# ---------------------------------------------------------------- best constant answer


@pytest.mark.parametrize(
    ("name", "changes", "options"),
    [
        ("no_support_zipfian", {"zipf_exponent": 1.5}, {}),
        ("no_support_zipfian", {"zipf_exponent": 1.0, "label_multiplicity": 3}, {}),
        ("no_support_rare", {}, {"labeling": "shared"}),
        ("no_support_common", {"zipf_exponent": 2.0, "zipf_within_roles": True}, {}),
        ("fewshot_holdout", {}, {"ways": 3}),
        ("fewshot_common", {"num_shared_labels": 4}, {"labeling": "shared"}),
        (
            "fewshot_zipfian",
            {"zipf_exponent": 1.0},
            {"labeling": "original", "distinct_ways": False},
        ),
        ("bursty", {"zipf_exponent": 1.0, "label_multiplicity": 2}, {"p_bursty": 0.5}),
        ("relabelled", {"zipf_exponent": 1.0}, {}),
    ],
)
def test_the_best_constant_answer_has_the_stated_accuracy(name, changes, options):
    count = 20_000
    kind, batch = draw(name, count, space=dataclasses.replace(SPACE, **changes), **options)
    answers = kind.answers[batch.labels[:, -1]]
    most = np.bincount(answers).max() / count
    # The maximum of many equal frequencies exceeds their mean somewhat.
    error = np.sqrt(kind.best_constant / count)
    assert -4 * error < most - kind.best_constant < 5 * error


def test_types_without_a_known_best_constant_answer_state_none():
    skewed = dataclasses.replace(SPACE, zipf_exponent=1.0)
    for name in ("flip", "mixed", "fewshot_zipfian"):
        options = {"labeling": "ordered"} if name.startswith("fewshot") else {}
        assert draw(name, 4, space=skewed, **options)[0].best_constant is None
