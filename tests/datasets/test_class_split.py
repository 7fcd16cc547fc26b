import numpy as np
import pytest
from ml_collections import ConfigDict

from emergent_icl.datasets.class_split import split_classes, zipf_weights


def make(num_rare, num_common, num_holdout, num_classes=1623, seed=1337):
    split = ConfigDict(
        {"seed": seed, "num_rare": num_rare, "num_common": num_common, "num_holdout": num_holdout}
    )
    return split_classes(split, num_classes)


def test_is_the_originals_permutation():
    split = make(1603, 10, 10)
    expected = np.random.default_rng(1337).choice(1623, 1623, replace=False)
    np.testing.assert_array_equal(split.class_ids, expected)
    # Golden: another NumPy might permute otherwise, and results would not compare.
    assert split.class_ids[:5].tolist() == [318, 1589, 543, 304, 851]
    assert sorted(split.class_ids) == list(range(1623))


def test_holdout_classes_are_the_last_of_the_permutation_even_if_classes_are_left_over():
    split, full = make(100, 10, 50), make(1613, 0, 10)
    np.testing.assert_array_equal(split.class_ids[-50:], full.class_ids[-50:])
    np.testing.assert_array_equal(split.class_ids[:110], full.class_ids[:110])
    assert (split.rare, split.common, split.holdout) == (
        range(100),
        range(100, 110),
        range(110, 160),
    )
    assert len(set(split.class_ids.tolist())) == 160


def test_too_many_classes_are_refused():
    with pytest.raises(ValueError, match="= 1624, but the data has 1623 classes"):
        make(1604, 10, 10)


def test_zipf_weights_by_hand():
    np.testing.assert_allclose(zipf_weights(4, 0.0), [0.25] * 4)
    # Ranks 3, 2, 1: the last place is the commonest.
    np.testing.assert_allclose(zipf_weights(3, 1.0), np.array([2, 3, 6]) / 11)
    np.testing.assert_allclose(zipf_weights(3, 2.0), np.array([4, 9, 36]) / 49)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 3.0, 10.0])
def test_zipf_weights_are_a_distribution(exponent):
    weights = zipf_weights(12_800, exponent)
    assert weights.sum() == pytest.approx(1)
    assert np.all(np.diff(weights) >= 0)
    assert np.isfinite(weights).all()
