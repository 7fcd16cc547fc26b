"""Properties of every sequence type."""

import dataclasses
import time

import numpy as np
import pytest
from draws import HOLDOUT, KEEP_LABELS, OPTIONS, SPACE, SPLIT, TRAIN, draw, places
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sampling import assert_distributed

from emergent_icl.config.registry import EVALUATION_MODES, SEQUENCE_TYPES
from emergent_icl.data.feed import FeedSpec, sample_block
from emergent_icl.data.sequences.classes import ClassSpace, SequenceBatch
from emergent_icl.data.sequences.split import ClassSplit


@pytest.mark.parametrize("name", list(EVALUATION_MODES))
@settings(max_examples=15)
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


@pytest.mark.parametrize("name", KEEP_LABELS)
def test_ordered_labels_are_places(name):
    _, batch = draw(name, p_bursty=0.5)
    np.testing.assert_array_equal(batch.labels, places(batch))


@pytest.mark.parametrize("name", KEEP_LABELS)
def test_original_labels_are_bank_classes(name):
    kind, batch = draw(name, labeling="original")
    np.testing.assert_array_equal(batch.labels, batch.class_ids)
    assert kind.num_labels == 101


@pytest.mark.parametrize("name", [*KEEP_LABELS, "relabelled", "mixed", "flip"])
def test_types_with_fixed_labels_refuse_unfixed_ones(name):
    with pytest.raises(ValueError, match="labeling 'unfixed' needs"):
        draw(name, labeling="unfixed")


@pytest.mark.parametrize("name", KEEP_LABELS)
def test_shared_labels_are_assigned_evenly(name):
    space = dataclasses.replace(SPACE, num_shared_labels=7)
    kind, batch = draw(name, space=space, labeling="shared")
    np.testing.assert_array_equal(batch.labels, places(batch) % 7)
    assert kind.num_labels == 7
    owned = np.bincount(space.first_labels(np.arange(TRAIN), "shared"))
    assert owned.max() - owned.min() <= 1


def test_batches_have_the_role_and_shots_that_their_type_states():
    for name in EVALUATION_MODES:
        kind, batch = draw(name, 64, p_bursty=1.0)
        roles = SPACE.roles_of(batch.class_ids)
        allowed = {"zipfian": {"rare", "common"}, "each": {"rare", "common"}}
        assert set(roles.ravel()) <= allowed.get(kind.role, {kind.role}), name
        support = (batch.class_ids[:, :-1] == batch.class_ids[:, -1:]).sum(axis=1)
        # In ordinary sequences of 'mixed', support is a matter of chance.
        assert kind.role == "each" or support.min() >= kind.shots, name


def test_roles_are_those_of_the_split():
    expected = ["rare"] * SPLIT.num_rare + ["common"] * SPLIT.num_common
    expected += ["holdout"] * SPLIT.num_holdout
    np.testing.assert_array_equal(SPACE.roles_of(SPLIT.class_ids), expected)
    np.testing.assert_array_equal(SPACE.roles_of(SPLIT.class_ids[:4].reshape(2, 2)), "rare")


def test_a_missing_role_is_named():
    space = dataclasses.replace(SPACE, split=SPLIT._replace(num_common=0, num_holdout=0))
    with pytest.raises(ValueError, match=r"needs common classes, but data\.split\.num_common is 0"):
        draw("fewshot_common", space=space)
    with pytest.raises(ValueError, match=r"data\.split\.num_holdout is 0"):
        draw("fewshot_holdout", space=space)


@pytest.mark.parametrize("name", list(EVALUATION_MODES))
def test_exemplars_are_drawn_evenly(name):
    space = dataclasses.replace(SPACE, num_exemplars=5)
    _, batch = draw(name, 20_000, space=space, p_bursty=0.5)
    counts = np.bincount(batch.exemplar_ids[:, -1], minlength=5)
    assert_distributed(counts, np.full(5, 0.2))


@pytest.mark.parametrize("name", list(EVALUATION_MODES))
def test_contexts_of_64_pairs_reuse_exemplars_evenly(name):
    """A class that occurs more often than it has exemplars reuses them evenly."""
    space = dataclasses.replace(SPACE, num_exemplars=5, num_shared_labels=500)
    space = dataclasses.replace(space, zipf_exponent=1.0)
    # Few-shot: 4 ways x 16 shots. Bursts: 4 ways x 6 shots, and 40 other examples.
    options = {"shots": 16} if name in ("mixed", "flip") or "fewshot" in name else {"shots": 6}
    labeling = {"labeling": "shared"} if name == "relabelled" else {}
    kind, batch = draw(name, 200, space=space, ways=4, seq_len=65, **options, **labeling)
    assert batch.labels.shape == (200, 65) == (200, kind.seq_len)
    for row, exemplars in zip(batch.class_ids, batch.exemplar_ids, strict=True):
        for one_class in np.unique(row):
            uses = np.bincount(exemplars[row == one_class], minlength=5)
            assert uses.max() - uses.min() <= 1


@pytest.mark.parametrize("name", list(SEQUENCE_TYPES))
@pytest.mark.parametrize("process_count", [2, 4])
def test_batches_do_not_depend_on_the_number_of_processes(name, process_count):
    kind, _ = draw(name, 1)
    spec = FeedSpec((kind.sample,), (3,), batch_size=8, seq_len=kind.seq_len)
    shares = [
        sample_block(spec._replace(process_index=i, process_count=process_count), 1)
        for i in range(process_count)
    ]
    whole = SequenceBatch(*(np.concatenate(rows, axis=2) for rows in zip(*shares, strict=True)))
    for ours, theirs in zip(sample_block(spec, 1), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_places_of_inverts_class_ids():
    everywhere = np.arange(TRAIN + HOLDOUT)
    np.testing.assert_array_equal(SPACE.places_of(SPLIT.class_ids), everywhere)


# ------------------------------------------------------------------------------- speed


def test_sampling_exceeds_fifty_thousand_sequences_per_second_on_one_core():
    split = ClassSplit(np.arange(1623, dtype=np.int32), 1603, 10, 10, 10)
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
