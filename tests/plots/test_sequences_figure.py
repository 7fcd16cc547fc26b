"""Pictures of sequences: what is drawn is what was given, nothing covers anything else."""

import numpy as np
import pytest
from layout import clashes
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from emergent_icl.plots import style
from emergent_icl.plots.sequences import (
    BELOW,
    BETWEEN,
    CELL,
    FOOTER,
    GAP,
    HAIR,
    MARGIN,
    NUMBER,
    QUERY_COLOUR,
    REPEAT_COLOURS,
    THICK,
    THIN,
    Shown,
    class_colours,
    draw_sequences,
    sequences_figure,
    value_range,
    vector_square,
)

SUBTITLE = "seq_len=9, p_bursty=0.9, shots=3, ways=2, zipf_exponent=0, labeling=ordered\nData: x"
NOTE = "Small print: the class's role. 'own': its label in training, where it stands under another."


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
def test_no_text_covers_another_or_an_image(kind, seq_len, label, title):
    shown = make(kind, 1 + (seq_len < 65), seq_len, label, f"common\nown {label}")
    figure = sequences_figure(shown, title, SUBTITLE, NOTE)
    assert clashes(figure, images=True) == []


def test_the_overlap_check_sees_overlaps():
    figure = sequences_figure(make("image", note="x" * 40), "title", SUBTITLE, NOTE)
    assert any("x' and 'x" in clash for clash in clashes(figure))


@pytest.mark.parametrize("seq_len", [9, 18, 65])
def test_every_example_has_its_label_and_the_query_asks_for_it(seq_len):
    shown = make("integer", 3, seq_len)
    labels = np.arange(3 * seq_len).reshape(3, seq_len) + 1000
    figure = sequences_figure(shown._replace(labels=labels), "title", SUBTITLE, NOTE)
    texts = [text.get_text() for text in figure.findobj(Text)]
    for row in labels:
        assert texts.count(f"? \N{RIGHTWARDS ARROW} {row[-1]}") == 1
        assert all(texts.count(f"{label}") == 1 for label in row[:-1])
    assert texts.count("12345") == labels.size


def test_long_sequences_continue_on_balanced_lines():
    figure = sequences_figure(make("integer", 1, 65), "title", SUBTITLE, NOTE)
    labels = [t.get_position() for t in figure.findobj(Text) if t.get_text().endswith("17")]
    heights = [round(y, 3) for _, y in labels]
    assert [heights.count(y) for y in sorted(set(heights))] == [17, 17, 17, 14]


def test_frames_tell_query_support_repeats_and_the_rest_apart():
    figure = sequences_figure(make("image", 1), "title", SUBTITLE, NOTE)
    frames = [
        (patch.get_edgecolor(), patch.get_linewidth())
        for patch in figure.axes[0].findobj(Rectangle)
        if CELL / 2 < patch.get_width() < 2 * CELL and patch.get_linewidth()
    ]
    names = {0: (QUERY_COLOUR, THIN), 1: (REPEAT_COLOURS[0], THIN)}
    expected = [names.get(name, (style.PALE, HAIR)) for name in [0, 1, 0, 2, 1, 0, 3, 4]]
    assert frames == [(rgba(colour), width) for colour, width in [*expected, (QUERY_COLOUR, THICK)]]


def rgba(colour):
    return (*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0)


def test_colours_of_classes():
    blue, green, purple = REPEAT_COLOURS
    assert class_colours(np.array([5, 6, 7])) == {7: QUERY_COLOUR}
    assert class_colours(np.array([8, 6, 6, 8, 8, 5, 7])) == {7: QUERY_COLOUR, 8: blue, 6: green}
    many = np.array([1, 1, 2, 2, 3, 3, 4, 4, 4, 9, 9, 9])
    assert class_colours(many) == {9: QUERY_COLOUR, 4: blue, 1: green, 2: purple}


def test_pixels_are_drawn_as_they_are(tmp_path):
    """A 28 x 28 image of noise beyond [0, 1]: each of its pixels is 3 x 3 of the picture."""
    shown = make("image", 1)
    noise = np.random.default_rng(1).normal(0.5, 0.5, shown.examples.shape).astype(np.float32)
    shown = shown._replace(examples=noise)
    draw_sequences(shown, "title", SUBTITLE, NOTE, tmp_path / "deep" / "picture.png")
    with Image.open(tmp_path / "deep" / "picture.png") as image:
        picture = np.asarray(image.convert("L"), float) / 255
    low, high = value_range(shown)
    assert low == noise.min() < 0
    assert high == noise.max() > 1
    greys = (noise[0, :, :, :, 0] - low) / (high - low)
    top = first_row_of_cells(picture.shape[0])
    for column in range(9):
        left = round((MARGIN + NUMBER + column * (CELL + GAP)) * style.DPI)
        # Frames lie on half a pixel at each edge.
        inside = slice(3, 81)
        drawn = picture[top : top + 84, left : left + 84][inside, inside]
        expected = np.kron(greys[column], np.ones((3, 3)))[inside, inside]
        np.testing.assert_allclose(drawn, expected, atol=2.5 / 255)


def first_row_of_cells(height):
    """Where the only row of cells begins, counted from the bottom of the picture."""
    return height - round((FOOTER + BETWEEN + BELOW + CELL) * style.DPI)


def test_ranges_show_plain_images_as_they_are_and_vectors_around_zero():
    assert value_range(make("image")) == (0.0, 1.0)
    vectors = make("vector")
    vectors.examples[0, 0, 0] = -3.0
    assert value_range(vectors) == (-3.0, 3.0)


def test_vectors_become_squares():
    np.testing.assert_array_equal(vector_square(np.arange(4.0)), [[0, 1], [2, 3]])
    padded = vector_square(np.arange(5.0))
    assert padded.shape == (3, 3)
    np.testing.assert_array_equal(padded.ravel()[:5], range(5))
    assert np.isnan(padded.ravel()[5:]).all()


def test_a_very_tall_picture_is_drawn_more_coarsely(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "MAX_PIXELS", 500)
    draw_sequences(make("integer", 6), "title", SUBTITLE, NOTE, tmp_path / "tall.png")
    with Image.open(tmp_path / "tall.png") as image:
        assert 400 < max(image.size) <= 501
