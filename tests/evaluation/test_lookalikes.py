"""Similar classes are found by pixels or an encoder, and excluded from accuracy."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from emergent_icl.data.bank import DeviceBank, SourceShape
from emergent_icl.data.materialize import make_materialize, show_variants
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.split import ClassSplit
from emergent_icl.data.sources.source import load_bank
from emergent_icl.data.task import make_task
from emergent_icl.evaluation import lookalikes
from emergent_icl.evaluation.lookalikes import (
    Nearest,
    accuracy_without,
    by_encoder,
    by_examples,
    find_nearest,
)


def split_of(num_train, num_holdout, seed=0):
    count = num_train + num_holdout
    class_ids = np.random.default_rng(seed).permutation(count).astype(np.int32)
    return ClassSplit(class_ids, num_train, 0, num_holdout, num_holdout)


@settings(max_examples=40)
@given(
    num_train=st.integers(1, 12),
    num_holdout=st.integers(1, 12),
    width=st.integers(1, 5),
    at_once=st.sampled_from((1, 30, 10**6)),
    seed=st.integers(0, 100),
)
def test_nearest_classes_agree_with_a_plain_comparison(
    num_train, num_holdout, width, at_once, seed
):
    split = split_of(num_train, num_holdout, seed)
    vectors = np.random.default_rng(seed).normal(size=(len(split.class_ids), width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookalikes, "MOST_DISTANCES", at_once)
        found = find_nearest(split, 1, lambda ids: vectors[ids])
    train, holdout = np.split(split.class_ids, [num_train])
    center = vectors[train].mean(axis=0)
    for held_out, training, distance in zip(*found, strict=True):
        lengths = [np.linalg.norm(vectors[i] - center) for i in train]
        products = [(vectors[i] - center) @ (vectors[held_out] - center) for i in train]
        length = np.linalg.norm(vectors[held_out] - center)
        # A single class equals the mean.
        distances = 1 - np.array(products) / np.maximum(np.multiply(lengths, length), 1e-30)
        assert distance == pytest.approx(distances.min(), abs=1e-6)
        assert distances[list(train).index(training)] == pytest.approx(distance, abs=1e-6)
    assert sorted(found.holdout) == sorted(holdout)
    assert (np.diff(found.distances) >= 0).all()


def test_a_rotated_copy_is_found_among_variants_and_each_character_counts_once():
    config = tiny.get_config("images").unlock()
    config.data.update(augment=True, noise_scale=0.0)
    config.data.split.update(num_rare=240, num_holdout=40)
    task, bank = make_task(config), load_bank(config.data)
    split = task.space.split
    train, holdout = np.split(split.class_ids // 8, [split.num_train])
    # The first held-out character is a flipped and rotated training character.
    rotated = show_variants(bank.examples[train[0]], np.full(len(bank.examples[0]), 5))
    bank.examples[holdout[0]] = np.asarray(rotated)
    materialize = make_materialize(config.data, task.shape)
    _, describe = by_examples(materialize, DeviceBank(bank.examples), task.shape)
    found = find_nearest(split, task.shape.group_size, describe)
    assert found.holdout[0] // 8 == holdout[0]
    assert found.training[0] // 8 == train[0]
    assert found.distances[0] == pytest.approx(0, abs=1e-5)
    assert found.distances[1] > 0.01
    assert sorted(found.holdout // 8) == sorted(set(holdout))
    assert not set(found.holdout // 8) & set(found.training // 8)


def plain(bank, class_ids, exemplar_ids, keys, noise_scale):
    """Returns examples as stored."""
    return bank.examples[class_ids, exemplar_ids]


def by_pixels(examples):
    shape = SourceShape(*examples.shape[:2], examples.shape[2:], "image")
    way, describe = by_examples(plain, DeviceBank(examples), shape)
    assert way == "blurred pixels"
    return describe


def test_a_line_is_close_to_a_parallel_one_a_pixel_away():
    split = split_of(32, 8)
    train, holdout = np.split(split.class_ids, [32])
    columns = dict(zip(holdout, range(2, 26, 3), strict=True))
    others = [column for column in range(28) if column not in columns.values()]
    columns |= dict(zip(train, others, strict=False))
    rows = dict(zip(train[len(others) :], range(8, 20), strict=True))
    examples = np.full((40, 1, 28, 28), 255, np.uint8)
    for class_id, column in columns.items():
        examples[class_id, ..., column] = 0
    # Without a blur, rows are nearer, since they share a pixel with a column.
    for class_id, row in rows.items():
        examples[class_id, :, row] = 0
    for held_out, training, _ in zip(*find_nearest(split, 1, by_pixels(examples)), strict=True):
        assert abs(columns[held_out] - columns[training]) == 1


def test_large_images_are_compared_at_low_resolution():
    describe = by_pixels(np.zeros((4, 2, 105, 105), np.uint8))
    assert describe(np.arange(4)).shape == (4, 26 * 26)


def test_an_encoder_describes_classes_by_mean_embeddings_without_noise(monkeypatch):
    def embed(model, class_ids, exemplar_ids, keys):
        *_, noise_scale = model
        assert noise_scale == 0
        assert len(class_ids) == 3
        return np.stack([class_ids, 10.0**exemplar_ids], axis=-1)

    config = SimpleNamespace(evaluation=SimpleNamespace(batch_size=3))
    evaluator = SimpleNamespace(config=config, compiled=SimpleNamespace(embed=embed))
    split = split_of(8, 2)
    found = by_encoder(evaluator, {}, {}, np.zeros(1), split, 4)(np.array([7, 2], np.int32))
    np.testing.assert_allclose(found, [[7, 1111 / 4], [2, 1111 / 4]])
    # With many classes, only the first exemplars.
    monkeypatch.setattr(lookalikes, "MOST_EXAMPLES", 20)
    found = by_encoder(evaluator, {}, {}, np.zeros(1), split, 4)(np.array([7, 2], np.int32))
    np.testing.assert_allclose(found, [[7, 11 / 2], [2, 11 / 2]])


def test_sequences_that_show_a_similar_character_are_excluded():
    class_ids = np.array([[0, 1], [2, 3], [4, 5], [2, 6], [8, 2]])
    batch = SequenceBatch(class_ids, class_ids, class_ids)
    right = np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    everything = accuracy_without(np.zeros(0, int), 1, batch, right)
    assert (everything.num_left_out, everything.num_sequences) == (0, 5)
    assert everything.accuracy.mean == 0.6
    # Classes 2 and 3 are variants of one character.
    without = accuracy_without(np.array([2]), 2, batch, right)
    assert (without.num_left_out, without.num_sequences) == (1, 2)
    assert without.accuracy.mean == 1.0
    assert 0 < without.accuracy.low < without.accuracy.high == 1.0
    assert accuracy_without(np.arange(9), 1, batch, right) == (9, 0, None)


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (19, 1), (20, 1), (21, 2), (100, 5)])
def test_a_share_of_the_nearest_is_rounded_up(count, expected):
    first = Nearest(*(np.arange(count) + 10 * i for i in range(3))).first(0.05)
    assert [len(column) for column in first] == [expected] * 3
    assert [column[0] for column in first] == [0, 10, 20]
