"""Figures of single sequences show the traced values legibly."""

import numpy as np
import pytest
from layout import clashes
from matplotlib.colors import to_hex

from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.evaluation.trace import Trace, token_names
from emergent_icl.plots import style
from emergent_icl.plots.traces import attention_figure, predictions_figure, query_class

CLASS_IDS = np.array([[5, 7, 5, 7, 5], [7, 7, 5, 5, 7]], np.int32)
LABELS = (CLASS_IDS == 7).astype(np.int32)


def make_trace(interleaved=True, layers=2, heads=3):
    rng = np.random.default_rng(0)
    tokens = token_names(LABELS, interleaved)
    attention = np.tril(rng.random((layers, 2, heads, *2 * tokens.shape[1:])))
    probabilities = rng.random((2, 5, 4))
    return Trace(
        SequenceBatch(CLASS_IDS, CLASS_IDS, LABELS),
        rng.random((2, 5, 12, 12, 1)),
        probabilities / probabilities.sum(axis=-1, keepdims=True),
        np.arange(5),
        attention / attention.sum(axis=-1, keepdims=True),
        tokens,
        np.arange(4),
    )


def test_bars_are_the_probabilities_of_the_true_labels():
    trace = make_trace()
    figure = predictions_figure(trace, "A title")
    bars = [axes for axes in figure.axes if axes.get_ylabel() == "p(true label)"]
    for axes, labels, probabilities in zip(bars, LABELS, trace.probabilities, strict=True):
        heights = [bar.get_height() for bar in axes.patches]
        np.testing.assert_allclose(heights, probabilities[np.arange(5), labels])
        said = [text.get_text() for text in axes.texts]
        assert said == [str(label) for label in probabilities.argmax(axis=-1)]
    titles = [axes.get_title() for axes in figure.axes if axes.get_images()]
    assert titles == ["0", "1", "0", "1", "query: 0", "1", "1", "0", "0", "query: 1"]
    assert clashes(figure) == []


def test_any_label_of_the_class_is_right_if_the_mode_accepts_it():
    # Labels 0 and 2 belong to one class, 1 and 3 to the other; label 2 is never the true label.
    probabilities = np.tile([0.3, 0.1, 0.5, 0.1], (2, 5, 1))
    trace = make_trace()._replace(probabilities=probabilities, answers=np.array([0, 1, 0, 1]))
    figure = predictions_figure(trace, "A title")
    (bars, _) = (axes.patches for axes in figure.axes if axes.get_ylabel() == "p(true label)")
    np.testing.assert_allclose([bar.get_height() for bar in bars], [0.8, 0.2, 0.8, 0.2, 0.8])
    right = [to_hex(bar.get_facecolor()).upper() == style.BLUE for bar in bars]
    assert right == [True, False, True, False, True]
    assert "all labels of the class" in figure.get_suptitle()


def test_a_prediction_of_the_query_alone_is_drawn_below_it():
    trace = make_trace()
    alone = trace._replace(probabilities=trace.probabilities[:, -1:], positions=np.array([4]))
    (bar,) = predictions_figure(alone, "A title").axes[5].patches
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx(4)


@pytest.mark.parametrize("interleaved", [True, False])
def test_maps_show_the_attention_of_one_sequence(interleaved):
    trace = make_trace(interleaved)
    figure = attention_figure(trace, 1, "A title")
    maps = [axes.get_images()[0].get_array() for axes in figure.axes[:6]]
    np.testing.assert_array_equal(maps, trace.attention[:, 1].reshape(6, *maps[0].shape))
    named = figure.axes[0].get_yticklabels()
    assert [text.get_text() for text in named] == trace.tokens[1].tolist()
    is_marked = [text.get_color() == style.VERMILLION for text in named]
    assert is_marked == query_class(trace, 1)
    assert clashes(figure) == []


def test_tokens_of_the_querys_class_are_marked():
    assert query_class(make_trace(False), 0) == [True, False, True, False, True]
    pairs = [True, True, False, False, True, True, False, False, True]
    assert query_class(make_trace(True), 0) == pairs
