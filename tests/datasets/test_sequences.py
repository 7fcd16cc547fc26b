import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sampling import assert_distributed

from emergent_icl.datasets.class_space import ClassSpace
from emergent_icl.datasets.class_split import ClassSplit, zipf_weights
from emergent_icl.datasets.sequences import SEQUENCE_TYPES, FewshotOptions, SequenceOptions

RARE, COMMON, HOLDOUT = 20, 6, 8
TRAIN = RARE + COMMON
# Bank classes in reverse, so that a mix-up of places and class numbers is seen.
SPLIT = ClassSplit(np.arange(100, 100 - TRAIN - HOLDOUT, -1, dtype=np.int32), RARE, COMMON, HOLDOUT)
SPACE = ClassSpace(SPLIT, num_bank_classes=101, num_exemplars=20)
OPTIONS = SequenceOptions()
ROLES = {"rare": SPLIT.rare, "common": SPLIT.common, "zipfian": SPLIT.train}
FEWSHOT = ("fewshot_rare", "fewshot_common", "fewshot_zipfian", "fewshot_holdout")


def draw(name, batch_size=2000, seed=1, space=SPACE, **options):
    if name in FEWSHOT:
        known = {field.name for field in dataclasses.fields(FewshotOptions)}
        chosen = {key: options.pop(key) for key in known & options.keys()}
        options["fewshot"] = FewshotOptions(**chosen)
    kind = SEQUENCE_TYPES[name](space, dataclasses.replace(OPTIONS, **options))
    return kind, kind.sample(np.random.default_rng(seed), batch_size)


def places(batch):
    return 100 - batch.class_ids


@pytest.mark.parametrize("name", list(SEQUENCE_TYPES))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shots=st.integers(1, 3), ways=st.integers(2, 3))
def test_every_type_is_well_formed(name, seed, shots, ways):
    kind, batch = draw(name, 16, seed, shots=shots, ways=ways, seq_len=11, p_bursty=0.5)
    for leaf in batch:
        assert leaf.dtype == np.int32
        assert leaf.shape == (16, kind.seq_len)
    assert batch.labels.min() >= 0
    assert batch.labels.max() < kind.num_labels
    assert set(batch.class_ids.ravel()) <= set(SPLIT.class_ids)
    assert set(batch.labels[:, -1]) <= set(kind.valid_labels)
    assert len(kind.answers) == kind.num_labels
    for row, exemplars in zip(batch.class_ids, batch.exemplar_ids, strict=True):
        assert len(set(zip(row, exemplars, strict=True))) == kind.seq_len
    again = kind.sample(np.random.default_rng(seed), 16)
    np.testing.assert_array_equal(batch, again)


@pytest.mark.parametrize("name", [n for n in SEQUENCE_TYPES if n not in FEWSHOT])
def test_ordered_labels_are_places(name):
    _, batch = draw(name, p_bursty=0.5)
    np.testing.assert_array_equal(batch.labels, places(batch))


@pytest.mark.parametrize("name", [n for n in SEQUENCE_TYPES if n not in FEWSHOT])
def test_original_labels_are_the_banks_numbers(name):
    kind, batch = draw(name, labeling="original")
    np.testing.assert_array_equal(batch.labels, batch.class_ids)
    assert kind.num_labels == 101


@pytest.mark.parametrize("name", [n for n in SEQUENCE_TYPES if n not in FEWSHOT])
def test_types_with_lasting_labels_refuse_unfixed_ones(name):
    with pytest.raises(ValueError, match="labeling 'unfixed' needs"):
        draw(name, labeling="unfixed")


# ------------------------------------------------------------------------------ bursty


def test_bursty_queries_stand_in_the_context_at_least_shots_times():
    _, batch = draw("bursty", p_bursty=1.0)
    support = (batch.class_ids[:, :-1] == batch.class_ids[:, -1:]).sum(axis=1)
    assert support.min() == 3


def test_bursty_contexts_hold_two_bursting_classes_and_two_others():
    # So many classes that chance repeats are rare.
    split = ClassSplit(np.arange(50_000, dtype=np.int32), 50_000, 0, 0)
    space = ClassSpace(split, 50_000, 20)
    _, batch = draw("bursty", 500, space=space)
    counts = [sorted(np.unique(row[:-1], return_counts=True)[1]) for row in batch.class_ids]
    typical = sum(count == [1, 1, 3, 3] for count in counts)
    assert typical > 490


def test_the_fraction_of_bursty_sequences_is_p_bursty():
    split = ClassSplit(np.arange(50_000, dtype=np.int32), 50_000, 0, 0)
    _, batch = draw("bursty", 20_000, space=ClassSpace(split, 50_000, 20), p_bursty=0.3)
    supported = (batch.class_ids[:, :-1] == batch.class_ids[:, -1:]).any(axis=1)
    assert supported.mean() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
@pytest.mark.parametrize("p_bursty", [0.0, 0.9, 1.0])
def test_bursty_marginals_are_the_zipf_weights(exponent, p_bursty):
    space = dataclasses.replace(SPACE, zipf_exponent=exponent)
    _, batch = draw("bursty", 20_000, space=space, p_bursty=p_bursty)
    # One position alone: examples of a sequence are not independent.
    for position in (0, -1):
        counts = np.bincount(places(batch)[:, position], minlength=TRAIN)
        assert_distributed(counts, zipf_weights(TRAIN, exponent))


def test_ways_are_drawn_with_replacement_in_training():
    _, batch = draw("bursty", 4000)
    # 26 classes: one in 26 pairs of ways is one class, which then stands 6 times or more.
    most = np.array([np.unique(row[:-1], return_counts=True)[1].max() for row in batch.class_ids])
    assert (most >= 6).mean() == pytest.approx(1 / TRAIN, abs=0.012)


def test_bursts_of_common_classes_stand_among_rare_ones_and_the_reverse():
    for p_common, burst, rest in ((1.0, "common", "rare"), (0.0, "rare", "common")):
        _, batch = draw("bursty", 500, p_bursty_zipfian=0.0, p_bursty_common=p_common)
        of_burst = np.isin(places(batch), ROLES[burst])
        assert of_burst[:, -1].all()
        assert (of_burst[:, :-1].sum(axis=1) == 6).all()
        assert np.isin(places(batch)[~of_burst], ROLES[rest]).all()


def test_kinds_of_bursts_mix_as_told():
    _, batch = draw("bursty", 20_000, p_bursty_zipfian=0.0, p_bursty_common=0.25)
    assert np.isin(places(batch)[:, -1], SPLIT.common).mean() == pytest.approx(0.25, abs=0.015)


def test_non_bursty_types():
    _, uniform = draw("bursty", p_bursty=0.0, non_bursty="common_uniform")
    assert np.isin(places(uniform), SPLIT.common).all()
    skewed = dataclasses.replace(SPACE, zipf_exponent=2.0, zipf_within_roles=True)
    _, uniform = draw("bursty", 20_000, space=skewed, p_bursty=0.0, non_bursty="common_uniform")
    assert_distributed(np.bincount(places(uniform)[:, 0] - RARE), np.full(COMMON, 1 / COMMON))
    _, alone = draw("bursty", p_bursty=0.0, non_bursty="common_no_support")
    assert np.isin(places(alone), SPLIT.common).all()
    assert (alone.class_ids[:, :-1] != alone.class_ids[:, -1:]).all()


def test_grouped_bursts_hold_each_way_once_a_block():
    split = ClassSplit(np.arange(50_000, dtype=np.int32), 50_000, 0, 0)
    _, batch = draw("bursty", 300, space=ClassSpace(split, 50_000, 20), grouped=True)
    checked = 0
    for row in batch.class_ids[:, :-1]:
        classes, counts = np.unique(row, return_counts=True)
        if sorted(counts) == [1, 1, 3, 3]:
            burst = row[np.isin(row, classes[counts == 3])]
            assert all(len(set(block)) == 2 for block in burst.reshape(3, 2))
            checked += 1
    assert checked > 290


def test_draws_within_a_role_are_uniform_unless_told():
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


def test_the_context_must_hold_the_burst():
    with pytest.raises(ValueError, match="seq_len = 6 is too short"):
        draw("bursty", seq_len=6)


def test_a_missing_role_is_named():
    space = dataclasses.replace(SPACE, split=SPLIT._replace(num_common=0, num_holdout=0))
    with pytest.raises(ValueError, match=r"needs common classes, but data\.split\.num_common is 0"):
        draw("fewshot_common", space=space)
    with pytest.raises(ValueError, match=r"data\.split\.num_holdout is 0"):
        draw("fewshot_holdout", space=space)


# ------------------------------------------------------------------ label multiplicity


@pytest.mark.parametrize("p_bursty", [0.0, 1.0])
def test_multiple_labels_are_drawn_once_a_class_and_sequence(p_bursty):
    space = dataclasses.replace(SPACE, label_multiplicity=5)
    kind, batch = draw("bursty", space=space, p_bursty=p_bursty)
    np.testing.assert_array_equal(batch.labels // 5, places(batch))
    for row, labels in zip(batch.class_ids, batch.labels, strict=True):
        assert len(set(zip(row, labels, strict=True))) == len(set(row))
    assert kind.num_labels == 5 * TRAIN + HOLDOUT
    used = np.bincount(batch.labels[:, -1], minlength=kind.num_labels)
    assert (used[: 5 * TRAIN] > 0).all()
    assert (used[5 * TRAIN :] == 0).all()


def test_any_label_of_the_class_answers_a_query_without_support():
    space = dataclasses.replace(SPACE, label_multiplicity=3)
    kind, _ = draw("no_support_zipfian", space=space)
    assert kind.answers[0] == kind.answers[2]
    assert kind.answers[2] != kind.answers[3]
    # In training the context says which one is meant.
    assert len(set(draw("bursty", space=space)[0].answers)) == kind.num_labels


# -------------------------------------------------------------------------- no_support


@pytest.mark.parametrize("role", list(ROLES))
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(0, 4))
def test_the_querys_class_is_never_in_the_context(role, seed, exponent):
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


def test_no_support_needs_another_class():
    space = dataclasses.replace(SPACE, split=SPLIT._replace(num_common=1))
    with pytest.raises(ValueError, match="at least 2 common classes"):
        draw("no_support_common", space=space)


# ----------------------------------------------------------------------------- fewshot


@pytest.mark.parametrize("name", FEWSHOT)
def test_fewshot_shows_two_new_names_four_times_each(name):
    kind, batch = draw(name, shots=4)
    assert kind.seq_len == 9
    assert kind.num_labels == 2
    for row, labels in zip(batch.class_ids, batch.labels, strict=True):
        assert np.bincount(labels[:-1]).tolist() == [4, 4]
        assert len(set(row)) == 2
        assert len(set(zip(row, labels, strict=True))) == 2
    role = {**ROLES, "holdout": SPLIT.holdout}[name.removeprefix("fewshot_")]
    assert np.isin(places(batch), role).all()


def test_names_are_balanced_and_tell_nothing_of_the_class():
    space = dataclasses.replace(SPACE, zipf_exponent=2.0)
    _, batch = draw("fewshot_zipfian", 20_000, space=space, shots=4)
    query_class, query_label = places(batch)[:, -1], batch.labels[:, -1]
    assert query_label.mean() == pytest.approx(0.5, abs=0.015)
    commonest = query_class == TRAIN - 1
    assert query_label[commonest].mean() == pytest.approx(0.5, abs=0.02)


def test_ways_with_replacement_show_one_class_under_both_names():
    _, batch = draw("fewshot_holdout", 8000, shots=4, distinct_ways=False)
    one_class = (batch.class_ids == batch.class_ids[:, :1]).all(axis=1)
    assert one_class.mean() == pytest.approx(1 / HOLDOUT, abs=0.015)


def test_fewshot_may_keep_the_labels_of_training():
    kind, batch = draw("fewshot_holdout", labeling="ordered")
    np.testing.assert_array_equal(batch.labels, places(batch))
    np.testing.assert_array_equal(kind.valid_labels, list(SPLIT.holdout))


def test_fewshot_needs_as_many_classes_as_ways():
    with pytest.raises(ValueError, match="at least ways = 9 holdout classes, there are 8"):
        draw("fewshot_holdout", ways=9)


# ------------------------------------------------------------------------------- speed


def test_samples_fifty_thousand_sequences_a_second_on_one_core():
    split = ClassSplit(np.arange(1623, dtype=np.int32), 1603, 10, 10)
    space = ClassSpace(split, 1623, 20)
    kind = SEQUENCE_TYPES["bursty"](space, dataclasses.replace(OPTIONS, p_bursty=0.9))
    rng = np.random.default_rng(0)
    kind.sample(rng, 32)
    best = np.inf
    for _ in range(20):
        start = time.thread_time()
        for _ in range(20):
            kind.sample(rng, 32)
        best = min(best, time.thread_time() - start)
    assert 20 * 32 / best > 50_000
