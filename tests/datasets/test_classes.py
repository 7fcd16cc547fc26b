import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from emergent_icl.data.sequences.classes import zipf_weights
from emergent_icl.data.sequences.split import split_classes


def split_options(num_rare, num_common, num_holdout, seed=1337):
    numbers = {"num_rare": num_rare, "num_common": num_common, "num_holdout": num_holdout}
    names = {"groups": "", "rare": (), "common": (), "holdout": ()}
    return ConfigDict({"seed": seed, **numbers, **names})


def make(num_rare, num_common, num_holdout, num_classes=1623):
    return split_classes(split_options(num_rare, num_common, num_holdout), num_classes)


def test_split_is_the_permutation_of_the_reference_implementation():
    split = make(1603, 10, 10)
    expected = np.random.default_rng(1337).choice(1623, 1623, replace=False)
    np.testing.assert_array_equal(split.class_ids, expected)
    # Golden values: if NumPy's permutation changed, results would not be comparable.
    assert split.class_ids[:5].tolist() == [318, 1589, 543, 304, 851]
    assert sorted(split.class_ids) == list(range(1623))


def test_holdout_classes_are_the_last_of_the_permutation_even_if_some_classes_are_unused():
    split, full = make(100, 10, 50), make(1613, 0, 10)
    np.testing.assert_array_equal(split.class_ids[-50:], full.class_ids[-50:])
    np.testing.assert_array_equal(split.class_ids[:110], full.class_ids[:110])
    places = [split.places(role) for role in ("rare", "common", "holdout", "zipfian")]
    assert places == [range(100), range(100, 110), range(110, 160), range(110)]
    assert len(set(split.class_ids.tolist())) == 160


def test_too_many_classes_are_refused():
    with pytest.raises(ValueError, match="= 1624, but the data has 1623 classes"):
        make(1604, 10, 10)


def test_zipf_weights_by_hand():
    np.testing.assert_allclose(zipf_weights(4, 0.0), [0.25] * 4)
    # Ranks 3, 2, 1: the last place is the most frequent.
    np.testing.assert_allclose(zipf_weights(3, 1.0), np.array([2, 3, 6]) / 11)
    np.testing.assert_allclose(zipf_weights(3, 2.0), np.array([4, 9, 36]) / 49)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 3.0, 10.0])
def test_zipf_weights_are_a_distribution(exponent):
    weights = zipf_weights(12_800, exponent)
    assert weights.sum() == pytest.approx(1)
    assert np.all(np.diff(weights) >= 0)
    assert np.isfinite(weights).all()


@settings(max_examples=60)
@given(
    num_groups=st.integers(1, 30),
    group_size=st.integers(1, 9),
    num_rare=st.integers(0, 100),
    num_common=st.integers(0, 20),
    num_holdout=st.integers(0, 60),
    seed=st.integers(0, 5),
)
def test_variants_stay_on_one_side_of_the_split(
    num_groups, group_size, num_rare, num_common, num_holdout, seed
):
    options = split_options(num_rare, num_common, num_holdout, seed)
    try:
        split = split_classes(options, num_groups * group_size, group_size)
    except ValueError:
        groups = -(-(num_rare + num_common) // group_size) + -(-num_holdout // group_size)
        assert groups > num_groups
        return
    assert len(set(split.class_ids)) == num_rare + num_common + num_holdout
    groups = split.class_ids // group_size
    train, holdout = groups[: split.num_train], groups[split.num_train :]
    assert not set(train) & set(holdout)


def test_groups_of_variants_are_permuted_like_single_classes():
    """The held-out characters are the same with and without their variants."""
    plain = split_classes(split_options(0, 1600, 10), 1623)
    grouped = split_classes(split_options(0, 12_800, 80), 1623 * 8, 8)
    np.testing.assert_array_equal(grouped.class_ids[::8] // 8, plain.class_ids)
    np.testing.assert_array_equal(grouped.class_ids.reshape(-1, 8)[5] % 8, range(8))


def test_a_split_that_divides_a_group_is_refused():
    with pytest.raises(ValueError, match=r"need 3 groups of 8 variants, .* but the data has 2"):
        split_classes(split_options(9, 0, 4), 16, 8)
