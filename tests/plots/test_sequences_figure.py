"""Figures of sequences show the given examples, without overlaps."""

import numpy as np
import pytest
from layout import clashes
from matplotlib.text import Text
from PIL import Image

from emergent_icl.plots import style
from emergent_icl.plots.sequences import (
    HAIR,
    QUERY_COLOR,
    REPEAT_COLORS,
    THICK,
    THIN,
    Shown,
    class_colors,
    sequences_figure,
    value_range,
    vector_square,
)

SUBTITLE = "seq_len=9, p_bursty=0.9, shots=3, ways=2, zipf_exponent=0, labeling=ordered\nData: x"
NOTE = "Small print: role of the class. 'own': its label in training, if a different one is shown."


def make(kind, num_sequences=2, seq_len=9, label=17, note="rare", size=28):
    """Sequences of random examples: classes 0 1 0 2 1 0 3 ... and a query of class 0."""
    rng = np.random.default_rng(0)
    shape = (num_sequences, seq_len)
    example = {"image": (size, size, 1), "vector": (size,), "integer": ()}[kind]
    examples = rng.random((*shape, *example), dtype=np.float32)
    if kind == "integer":
        examples = np.full(shape, 12345)
    class_ids = np.tile(np.resize([0, 1, 0, 2, 1, 0, 3, 4], seq_len), (num_sequences, 1))
    class_ids[:, -1] = 0
    return Shown(kind, examples, class_ids, np.full(shape, label), np.full(shape, note))


@pytest.mark.parametrize("kind", ["image", "vector", "integer"])
@pytest.mark.parametrize(
    ("seq_len", "label", "title"),
    [(9, 17, "title"), (2, 0, "a title that is long " * 5), (65, 1_234_567, "title")],
)
def test_no_text_overlaps_another_or_an_image(kind, seq_len, label, title):
    shown = make(kind, 1 + (seq_len < 65), seq_len, label, f"common\nown {label}")
    figure = sequences_figure(shown, title, SUBTITLE, NOTE)
    assert clashes(figure, images=True) == []


def test_the_overlap_check_finds_overlaps():
    figure = sequences_figure(make("image", note="x" * 40), "title", SUBTITLE, NOTE)
    assert any("x' and 'x" in clash for clash in clashes(figure))


@pytest.mark.parametrize("seq_len", [9, 18, 65])
def test_each_example_has_its_label_and_the_query_a_question_mark(seq_len):
    shown = make("integer", 3, seq_len)
    labels = np.arange(3 * seq_len).reshape(3, seq_len) + 1000
    figure = sequences_figure(shown._replace(labels=labels), "title", SUBTITLE, NOTE)
    texts = [text.get_text() for text in figure.findobj(Text)]
    for row in labels:
        assert texts.count(f"? \N{RIGHTWARDS ARROW} {row[-1]}") == 1
        assert all(texts.count(f"{label}") == 1 for label in row[:-1])
    assert texts.count("12345") == labels.size


def test_a_signature_does_not_change_the_layout():
    figure = sequences_figure(make("integer", 1), "title", SUBTITLE, NOTE)
    (legend,) = figure.legends
    before = legend.get_window_extent().bounds
    style.sign(figure, "config 12345678")
    assert legend.get_window_extent().bounds == before


def test_long_sequences_are_wrapped_into_balanced_lines():
    figure = sequences_figure(make("integer", 1, 65), "title", SUBTITLE, NOTE)
    tops = [round(axes.get_position().y0, 3) for axes in examples(figure)]
    assert [tops.count(top) for top in sorted(set(tops), reverse=True)] == [17, 17, 17, 14]


def examples(figure):
    """The axes of single examples."""
    return [axes for axes in figure.axes if axes.get_xlabel()]


def test_frames_distinguish_query_support_and_repeats():
    figure = sequences_figure(make("image", 1), "title", SUBTITLE, NOTE)
    frames = [
        (axes.spines["left"].get_edgecolor(), axes.spines["left"].get_linewidth())
        for axes in examples(figure)
    ]
    names = {0: (QUERY_COLOR, THIN), 1: (REPEAT_COLORS[0], THIN)}
    expected = [names.get(name, (style.PALE, HAIR)) for name in [0, 1, 0, 2, 1, 0, 3, 4]]
    assert frames == [(rgba(color), width) for color, width in [*expected, (QUERY_COLOR, THICK)]]


def rgba(color):
    return (*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0)


def test_repeated_classes_have_colors_by_frequency():
    blue, green, purple = REPEAT_COLORS
    assert class_colors(np.array([5, 6, 7])) == {7: QUERY_COLOR}
    assert class_colors(np.array([8, 6, 6, 8, 8, 5, 7])) == {7: QUERY_COLOR, 8: blue, 6: green}
    many = np.array([1, 1, 2, 2, 3, 3, 4, 4, 4, 9, 9, 9])
    assert class_colors(many) == {9: QUERY_COLOR, 4: blue, 1: green, 2: purple}


def test_images_are_not_clipped():
    shown = make("image", 1)
    noise = np.random.default_rng(1).normal(0.5, 0.5, shown.examples.shape).astype(np.float32)
    figure = sequences_figure(shown._replace(examples=noise), "title", SUBTITLE, NOTE)
    for axes, example in zip(examples(figure), noise[0], strict=True):
        (image,) = axes.get_images()
        np.testing.assert_array_equal(image.get_array(), example[..., 0])
        assert image.get_clim() == (noise.min(), noise.max())


def test_ranges_are_0_to_1_for_images_and_symmetric_for_vectors():
    assert value_range(make("image").examples) == (0.0, 1.0)
    vectors = make("vector")
    vectors.examples[0, 0, 0] = -3.0
    assert value_range(vectors.examples) == (-3.0, 3.0)


def test_vectors_become_squares():
    np.testing.assert_array_equal(vector_square(np.arange(4.0)), [[0, 1], [2, 3]])
    padded = vector_square(np.arange(5.0))
    assert padded.shape == (3, 3)
    np.testing.assert_array_equal(padded.ravel()[:5], range(5))
    assert np.isnan(padded.ravel()[5:]).all()


def test_a_very_tall_figure_is_saved_at_a_lower_resolution(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "MAX_PIXELS", 500)
    figure = sequences_figure(make("integer", 6), "title", SUBTITLE, NOTE)
    style.save(figure, tmp_path / "tall.png")
    with Image.open(tmp_path / "tall.png") as image:
        assert 400 < max(image.size) <= 501
