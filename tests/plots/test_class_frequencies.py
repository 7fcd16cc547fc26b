import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layout import clashes
from matplotlib.text import Text

from emergent_icl.config.registry import SEQUENCE_TYPES
from emergent_icl.data.sequences.burstiness import binned_frequency
from emergent_icl.data.sequences.classes import ClassSpace, zipf_weights
from emergent_icl.data.sequences.split import ClassSplit
from emergent_icl.data.sequences.types import SequenceOptions
from emergent_icl.plots.class_frequencies import (
    ClassFrequencies,
    class_frequencies_figure,
    law_ranks,
    rank_edges,
)


def make_split(num_rare, num_common, num_holdout=5):
    ids = np.arange(num_rare + num_common + num_holdout, dtype=np.int32)
    return ClassSplit(ids, num_rare, num_common, num_holdout, num_holdout)


def sample(split, exponent, count=4000, name="bursty", **options):
    """Class ids are places: the split is the identity."""
    space = ClassSpace(split, len(split.class_ids), 20, exponent)
    kind = SEQUENCE_TYPES[name](space, SequenceOptions(**options))
    places = kind.sample(np.random.default_rng(0), count).class_ids
    return ClassFrequencies(split, exponent, places)


def test_rank_1_is_the_last_common_class():
    data = ClassFrequencies(make_split(3, 2), 1.0, np.array([[4, 3, 2, 0]]))
    np.testing.assert_array_equal(data.ranks, [[1, 2, 3, 5]])


@given(st.integers(0, 3000), st.integers(0, 300), st.booleans())
def test_bins_cover_each_rank_once_and_do_not_mix_roles(num_rare, num_common, is_log):
    if num_rare + num_common == 0:
        return
    edges = rank_edges(make_split(num_rare, num_common), is_log)
    assert (edges[0], edges[-1]) == (1, num_rare + num_common + 1)
    assert (np.diff(edges) > 0).all()
    assert num_common + 1 in edges
    assert len(edges) < 60


@given(st.sampled_from([0.0, 0.3, 1.0, 3.0, 40.0]), st.integers(1, 200), st.integers(0, 20))
def test_a_bin_that_follows_the_law_is_drawn_on_its_line(exponent, num_rare, num_common):
    edges = rank_edges(make_split(num_rare, num_common), exponent > 0)
    law = zipf_weights(num_rare + num_common, exponent)[::-1]
    means = [law[low - 1 : high - 1].mean() for low, high in itertools.pairwise(edges)]
    where = law_ranks(edges, exponent)
    np.testing.assert_allclose(law[0] * where**-exponent, means, rtol=1e-6)
    assert ((edges[:-1] <= where + 1e-9) & (where < edges[1:])).all()


@pytest.mark.parametrize("exponent", [0.0, 1.0])
@pytest.mark.parametrize("p_bursty", [0.0, 1.0])
def test_bursty_sequences_follow_the_law(exponent, p_bursty):
    split = make_split(80, 20)
    data = sample(split, exponent, 20_000, p_bursty=p_bursty)
    edges = rank_edges(split, exponent > 0)
    law = zipf_weights(100, exponent)[::-1]
    means = [law[low - 1 : high - 1].mean() for low, high in itertools.pairwise(edges)]
    for ranks in (data.ranks, data.ranks[:, -1:]):
        binned = binned_frequency(ranks, edges)
        # At most 4.5 standard errors in about 20 bins.
        assert (np.abs(binned.frequency - means) < 4.5 * binned.error).all()


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_the_figure_shows_the_law_classes_and_empty_bins():
    data = sample(make_split(30, 4), 1.0, name="no_support_common")
    figure = class_frequencies_figure(data, "title", "options")
    drawn = lines(figure)
    ranks, law = drawn["Zipf's law, exponent 1"].get_data()
    np.testing.assert_array_equal(ranks, np.arange(1, 35))
    np.testing.assert_allclose(law, zipf_weights(34, 1.0)[::-1])
    shown, frequencies = drawn["single class (if it occurs)"].get_data()
    np.testing.assert_array_equal(shown, [1, 2, 3, 4])
    assert sum(frequencies) == pytest.approx(1)
    assert min(drawn["empty bin"].get_xdata()) > 4
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("exponent", [1.5, 3.0])
def test_all_bins_that_occur_are_within_the_axes(exponent):
    split = make_split(1000, 20)
    data = sample(split, exponent, 5000)
    axes = class_frequencies_figure(data, "title", "options").axes[0]
    edges = rank_edges(split, True)
    means = [binned_frequency(ranks, edges).frequency for ranks in (data.ranks, data.ranks[:, -1:])]
    lowest = np.concatenate(means)[np.concatenate(means) > 0].min()
    assert axes.get_ylim()[0] < lowest


def test_empty_bins_of_a_linear_axis_are_at_0():
    data = sample(make_split(300, 40), 0.0, name="no_support_common")
    edges = rank_edges(data.split, False)
    axes = class_frequencies_figure(data, "title", "options").axes[0]
    shown = axes.containers[0].lines[0].get_ydata()
    assert len(shown) == len(edges) - 1
    assert min(shown) == 0


def test_a_uniform_law_has_linear_axes():
    figure = class_frequencies_figure(sample(make_split(30, 4), 0.0), "title", "options")
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "linear")
    assert axes.get_ylim()[0] == 0
    np.testing.assert_allclose(lines(figure)["uniform"].get_ydata(), 1 / 34)
    # Classes that do not occur are drawn at 0.
    assert len(lines(figure)["single class"].get_xdata()) == 34


@pytest.mark.parametrize("exponent", [0.0, 1.0, 30.0])
@pytest.mark.parametrize(("num_rare", "num_common"), [(1600, 10), (0, 5), (5, 0), (2, 1000)])
def test_no_text_overlaps_another(exponent, num_rare, num_common):
    data = sample(make_split(num_rare, num_common), exponent, 300)
    options = "seq_len=9, p_bursty=0.9, shots=3, ways=2, zipf_exponent=1, labeling=ordered " * 2
    figure = class_frequencies_figure(data, "A name of an experiment: " * 3, options)
    assert clashes(figure) == []
    texts = [text.get_text() for text in figure.findobj(Text)]
    for count, role in ((num_rare, "rare"), (num_common, "common")):
        assert (f"{count:,} {role} classes" in texts) == (count > 0)
