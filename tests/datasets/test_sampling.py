import tracemalloc

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from emergent_icl.config.configs import with_options
from emergent_icl.data.sequences import sampling
from emergent_icl.data.sequences.classes import zipf_weights
from emergent_icl.data.task import make_task

# Normal quantile at 99.99%. Tests are seeded, so it limits how unlucky a seed may be.
Z_9999 = 3.719


def assert_distributed(counts, probabilities):
    """Chi-square test of goodness of fit (Wilson-Hilferty approximation of the quantile)."""
    expected = counts.sum() * probabilities
    assert expected.min() > 5
    statistic = np.sum((counts - expected) ** 2 / expected)
    freedom = len(counts) - 1
    limit = freedom * (1 - 2 / (9 * freedom) + Z_9999 * np.sqrt(2 / (9 * freedom))) ** 3
    assert statistic < limit


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_draws_follow_their_weights(exponent):
    weights = zipf_weights(20, exponent)
    draws = sampling.ClassDistribution.from_weights(5, weights).draw(rng(), (20_000, 5))
    assert draws.min() >= 5
    assert_distributed(np.bincount(draws.ravel() - 5, minlength=20), weights)


def test_classes_of_weight_zero_are_never_drawn():
    distribution = sampling.ClassDistribution.from_weights(0, np.array([0, 1, 0, 2, 0.0]))
    assert distribution.support == 2
    assert set(distribution.draw(rng(), 1000)) == {1, 3}
    # Even at the largest number below 1 that a generator can return.
    assert np.searchsorted(distribution.cumulative, np.nextafter(1, 0), side="right") == 3


def test_excluding_one_class_draws_from_the_conditional_distribution():
    weights = zipf_weights(6, 1.0)
    distribution = sampling.ClassDistribution.from_weights(0, weights)
    excluded = np.full((4000, 1), 5)
    draws = distribution.draw_excluding(rng(), excluded, 8)
    assert (draws != 5).all()
    assert_distributed(np.bincount(draws.ravel(), minlength=6)[:5], weights[:5] / weights[:5].sum())


def test_excluding_several_classes_draws_from_the_conditional_distribution():
    weights = zipf_weights(6, 1.0)
    distribution = sampling.ClassDistribution.from_weights(10, weights)
    # Unsorted, with one class listed twice.
    draws = distribution.draw_excluding(rng(), np.tile([15, 11, 15], (8000, 1)), 4) - 10
    left = [0, 2, 3, 4]
    counts = np.bincount(draws.ravel(), minlength=6)
    assert counts[[1, 5]].tolist() == [0, 0]
    assert_distributed(counts[left], weights[left] / weights[left].sum())


def test_excluding_nearly_all_of_the_mass_is_exact():
    distribution = sampling.ClassDistribution.from_weights(0, zipf_weights(1000, 10.0))
    draws = distribution.draw_distinct(rng(), 2000, 3)
    assert all(len(set(row)) == 3 for row in draws)
    assert np.mean(draws[:, 2] == 997) > 0.9


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_distinct_draws_are_distinct(support, count, seed):
    count = min(count, support)
    distribution = sampling.ClassDistribution.from_weights(3, np.ones(support))
    draws = distribution.draw_distinct(np.random.default_rng(seed), 16, count)
    assert all(len(set(row)) == count for row in draws)
    assert draws.min() >= 3
    assert draws.max() < 3 + support


@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(0, 1000))
def test_slots_contain_every_way_equally_often(shots, ways, grouped, seed):
    slots = sampling.draw_slots(np.random.default_rng(seed), 7, shots, ways, grouped)
    assert slots.shape == (7, shots * ways)
    for row in slots:
        assert np.bincount(row, minlength=ways).tolist() == [shots] * ways
        if grouped:
            assert all(set(block) == set(range(ways)) for block in row.reshape(shots, ways))


def test_ungrouped_slots_are_not_always_grouped():
    slots = sampling.draw_slots(rng(), 200, 2, 2, grouped=False)
    assert any(len(set(block)) == 1 for row in slots for block in row.reshape(2, 2))


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1000))
def test_interleaving_preserves_both_orders(first, second, seed):
    a = np.tile(np.arange(first), (9, 1))
    b = np.tile(np.arange(10, 10 + second), (9, 1))
    merged = sampling.interleave_at_random(np.random.default_rng(seed), a, b)
    for row in merged:
        assert [x for x in row if x < 10] == list(range(first))
        assert [x for x in row if x >= 10] == list(range(10, 10 + second))


def test_all_interleavings_are_equally_likely():
    a, b = np.zeros((12_000, 2), int), np.ones((12_000, 2), int)
    merged = sampling.interleave_at_random(rng(), a, b)
    _, counts = np.unique(merged, axis=0, return_counts=True)
    assert_distributed(counts, np.full(6, 1 / 6))


# Few exemplars are permuted, many are drawn one by one. Here, few are drawn one by one, too.
both_ways = pytest.mark.parametrize("most_permuted", [sampling.MOST_PERMUTED, 1])


@both_ways
@given(
    rows=st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=8),
    num_exemplars=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
def test_exemplars_repeat_only_if_necessary_and_evenly(rows, num_exemplars, seed, most_permuted):
    places = np.array(rows)
    occurrences = sampling.find_occurrences(places)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "MOST_PERMUTED", most_permuted)
        exemplars = sampling.draw_exemplars(np.random.default_rng(seed), occurrences, num_exemplars)
    assert exemplars.min() >= 0
    assert exemplars.max() < num_exemplars
    for row, shown in zip(places, exemplars, strict=True):
        for place in set(row.tolist()):
            counts = np.bincount(shown[row == place], minlength=num_exemplars)
            assert counts.max() - counts.min() <= 1


@both_ways
def test_every_exemplar_is_equally_likely(most_permuted, monkeypatch):
    monkeypatch.setattr(sampling, "MOST_PERMUTED", most_permuted)
    occurrences = sampling.find_occurrences(np.tile([0, 1, 0], (20_000, 1)))
    exemplars = sampling.draw_exemplars(rng(), occurrences, 5)
    for position in range(3):
        assert_distributed(np.bincount(exemplars[:, position]), np.full(5, 0.2))
    # Pairs of one class: every ordered pair of different exemplars.
    pairs = exemplars[:, 0] * 5 + exemplars[:, 2]
    counts = np.bincount(pairs, minlength=25).reshape(5, 5)
    assert np.trace(counts) == 0
    assert_distributed(counts[~np.eye(5, dtype=bool)], np.full(20, 1 / 20))


def test_all_ordered_selections_of_exemplars_are_equally_likely(monkeypatch):
    monkeypatch.setattr(sampling, "MOST_PERMUTED", 1)
    occurrences = sampling.find_occurrences(np.tile([0, 0, 1, 0, 0], (40_000, 1)))
    exemplars = sampling.draw_exemplars(rng(), occurrences, 5)
    codes = exemplars[:, [0, 1, 3, 4]] @ np.array([125, 25, 5, 1])
    assert_distributed(np.unique(codes, return_counts=True)[1], np.full(120, 1 / 120))
    # Draws of different classes are independent.
    pairs = np.bincount(exemplars[:, 0] * 5 + exemplars[:, 2], minlength=25)
    assert_distributed(pairs, np.full(25, 1 / 25))


def test_memory_does_not_grow_with_the_number_of_exemplars():
    occurrences = sampling.find_occurrences(rng().integers(12, size=(100, 9)))

    def peak_bytes(num_exemplars, draws):
        tracemalloc.start()
        sampling.draw_exemplars(rng(), occurrences, num_exemplars, draws)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(6000, 2) < 1.1 * peak_bytes(100, 2) < 200_000
    assert peak_bytes(1000, 1) > 5 * peak_bytes(100, 1)


def test_exemplars_of_earlier_versions_are_reproduced():
    """Versions without the option `draws`; for few exemplars, both methods agree."""
    occurrences = sampling.find_occurrences(np.array([[0, 1, 0, 2, 0], [3, 3, 4, 4, 5]]))
    recorded = {
        5: [[3, 2, 4, 2, 2], [2, 1, 1, 2, 3]],
        64: [[23, 32, 42, 35, 44], [10, 48, 62, 14, 10]],
        65: [[23, 31, 42, 32, 44], [5, 43, 55, 57, 1]],
        100: [[23, 85, 42, 93, 44], [39, 54, 70, 31, 23]],
    }
    for num_exemplars, drawn in recorded.items():
        found = sampling.draw_exemplars(rng(), occurrences, num_exemplars, draws=1)
        assert found.tolist() == drawn
        found = sampling.draw_exemplars(rng(), occurrences, num_exemplars, draws=2)
        assert (found.tolist() == drawn) == (num_exemplars <= 64)


@pytest.mark.parametrize("draws", [1, 2])
def test_a_class_space_draws_exemplars_by_the_configured_method(draws, monkeypatch):
    seen = []
    own = sampling.draw_exemplars
    monkeypatch.setattr(sampling, "draw_exemplars", lambda *a: seen.append(a[-1]) or own(*a))
    config = with_options(tiny.get_config(), {"data.sequences.draws": draws})
    task = make_task(config)
    for kind in (task.training, *task.evaluation.values()):
        kind.sample(rng(), 2)
    assert set(seen) == {draws}


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=5, max_size=5), st.integers(1, 9))
def test_values_are_drawn_once_per_class(row, count):
    places = np.array([row])
    values = sampling.draw_per_class(rng(), sampling.find_occurrences(places), count)
    for place in set(row):
        assert len(set(values[places == place])) == 1


@pytest.mark.parametrize("exponent", [3.0, 10.0])
def test_a_tiny_remaining_mass_is_drawn_by_its_weights(exponent):
    """The 20 most frequent of 1,000 classes leave a mass far below rounding error."""
    weights = zipf_weights(1000, exponent)
    distribution = sampling.ClassDistribution.from_weights(0, weights)
    drawn = distribution.draw_distinct(rng(), 300, 24)
    assert all(len(set(row)) == 24 for row in drawn)
    excluded = np.tile(np.arange(980, 1000), (4000, 1))
    drawn = distribution.draw_excluding(rng(), excluded, 1)[:, 0]
    left = weights[:980][::-1] / weights[:980].sum()
    counts = np.bincount(979 - drawn, minlength=980)
    # The first five, and all others combined.
    together = np.append(counts[:5], counts[5:].sum())
    assert_distributed(together, np.append(left[:5], left[5:].sum()))


def test_too_few_classes_raise_an_error_instead_of_looping():
    distribution = sampling.ClassDistribution.from_weights(0, np.array([1.0, 0.0, 2.0]))
    assert distribution.support == 2
    with pytest.raises(ValueError, match="needs 3 different classes, but there are 2"):
        distribution.draw_distinct(rng(), 4, 3)
    with pytest.raises(ValueError, match="all 2 classes are excluded"):
        distribution.draw_excluding(rng(), np.array([[0, 2]]), 1)


@pytest.mark.parametrize(("count", "size"), [(3, 5), (3, 40), (5, 5), (1, 1)])
def test_all_distinct_rows_are_equally_likely(count, size):
    drawn = sampling.draw_distinct_rows(rng(), 20_000, count, size)
    assert drawn.shape == (20_000, count)
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    if size > 1:
        for position in range(count):
            counts = np.bincount(drawn[:, position], minlength=size)
            assert_distributed(counts, np.full(size, 1 / size))
    if (count, size) == (3, 5):
        codes = drawn @ np.array([25, 5, 1])
        assert_distributed(np.unique(codes, return_counts=True)[1], np.full(60, 1 / 60))
