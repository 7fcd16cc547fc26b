import numpy as np
import pytest

from emergent_icl import randomness
from emergent_icl.data.sources import glyphs
from emergent_icl.data.sources.source import DataUnavailableError
from emergent_icl.presets import base


@pytest.fixture(scope="module")
def data():
    data = base.get_config().data.unlock()
    data.source = "glyphs"
    data.image_size = 28
    data.glyphs.num_classes = 130
    return data


@pytest.fixture(scope="module")
def images(data):
    return glyphs.draw_glyphs(data)


def ink(images):
    return 1 - images / 255.0


def test_shape_and_range(images):
    assert images.shape == (130, 20, 28, 28)
    assert images.dtype == np.uint8
    # Background at the corners, fully dark ink, and gray in between.
    assert (images[:, :, 0, 0] == 255).mean() > 0.99
    assert images.min() == 0
    assert ((images > 0) & (images < 255)).any()


def test_every_drawing_has_a_plausible_amount_of_ink(images):
    covered = ink(images).mean(axis=(2, 3))
    assert covered.min() > 0.03
    assert covered.max() < 0.4


def test_drawings_depend_on_the_seed_alone(data, images):
    np.testing.assert_array_equal(glyphs.draw_glyphs(data), images)
    other = data.copy_and_resolve_references()
    other.glyphs.seed = 1
    assert not np.array_equal(glyphs.draw_glyphs(other)[0], images[0])


def test_a_class_does_not_depend_on_the_number_of_classes(data, images):
    fewer = data.copy_and_resolve_references()
    fewer.glyphs.num_classes = 30
    np.testing.assert_array_equal(glyphs.draw_glyphs(fewer), images[:30])


def test_skeletons_have_minimum_lengths_and_extents(data):
    skeletons = glyphs.draw_skeletons(randomness.generator(0, "test"), 300, data.glyphs)
    present = ~np.isnan(skeletons[:, :, 0, 0])
    assert set(present.sum(axis=1)) == {2, 3, 4}
    assert glyphs.stroke_lengths(skeletons)[present].min() >= data.glyphs.min_stroke_length
    points = glyphs.bezier_points(skeletons, 50).reshape(300, -1, 2)
    extent = np.nanmax(points, axis=1) - np.nanmin(points, axis=1)
    assert extent.min() >= 0.95 * glyphs.MIN_EXTENT


def test_exemplars_differ_but_resemble_their_class(images):
    vectors = ink(images).reshape(130, 20, -1)
    assert all(len({v.tobytes() for v in of_class}) == 20 for of_class in vectors)
    # With half of the drawings as templates, the other half is nearest to its own class far more
    # often than by chance (1 in 130).
    templates = vectors[:, :10].mean(axis=1)
    queries = vectors[:, 10:].reshape(-1, templates.shape[1])
    distances = ((queries[:, None] - templates[None]) ** 2).sum(axis=-1)
    right = distances.argmin(axis=1) == np.repeat(np.arange(130), 10)
    assert right.mean() > 0.7


def test_options_that_reject_nearly_all_characters_are_refused(data, monkeypatch):
    monkeypatch.setattr(glyphs, "MAX_REDRAWS", 200)
    impossible = data.copy_and_resolve_references()
    impossible.glyphs.min_strokes = impossible.glyphs.max_strokes = 16
    impossible.glyphs.min_stroke_length = 0.5
    with pytest.raises(
        DataUnavailableError, match=r"hardly any character.*min_stroke_length = 0\.5"
    ):
        glyphs.draw_skeletons(randomness.generator(0, "test"), 5, impossible.glyphs)


def test_golden_drawing(images):
    """A seed determines these drawings; if they change, increase DRAWING_VERSION."""
    assert glyphs.DRAWING_VERSION == 1
    np.testing.assert_allclose(ink(images[:3, 0]).sum(axis=(1, 2)), GOLDEN_INK, rtol=1e-3)


GOLDEN_INK = [109.2824, 91.9725, 91.2157]


def test_bezier_points_by_hand():
    control = np.array([[0, 0], [0, 1], [1, 1], [1, 0.0]])
    points = glyphs.bezier_points(control, 3)
    np.testing.assert_allclose(points, [[0, 0], [0.5, 0.75], [1, 0]])
    straight = np.array([[0, 0], [1, 0], [2, 0], [3, 0.0]])
    assert glyphs.stroke_lengths(straight) == pytest.approx(3)


def test_a_line_is_as_wide_as_the_pen():
    line = np.array([[[[0.1, 0.5], [0.4, 0.5], [0.6, 0.5], [0.9, 0.5]]]])
    image = glyphs.render(line, np.array([0.1]), 40)[0]
    column = ink(image)[:, 20]
    assert column.sum() == pytest.approx(0.1 * 40, abs=0.3)
    np.testing.assert_allclose(column[18:22], 1)
    assert column[:17].max() == column[23:].max() == 0


def test_the_bank_is_cached(data, images, tmp_path, monkeypatch):
    cached = data.copy_and_resolve_references()
    cached.cache_dir = str(tmp_path)
    first = glyphs.load_glyphs(cached)
    np.testing.assert_array_equal(first.examples, images)
    assert len(first.class_names) == len(first.examples) == 130
    monkeypatch.setattr(glyphs, "draw_glyphs", lambda data: pytest.fail("drawn again"))
    np.testing.assert_array_equal(glyphs.load_glyphs(cached).examples, images)
