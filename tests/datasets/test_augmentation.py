import numpy as np
import pytest

from emergent_icl.data.bank import NUM_VARIANTS
from emergent_icl.data.materialize import show_variants

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 2, 6, 6)).astype(np.uint8)


@pytest.mark.parametrize("variant", range(NUM_VARIANTS))
def test_variants_are_flips_and_counterclockwise_rotations(variant):
    flip, rotation = divmod(variant, 4)
    shown = show_variants(IMAGES, np.full((3, 2), variant))
    expected = np.rot90(IMAGES[..., ::-1] if flip else IMAGES, rotation, axes=(2, 3))
    np.testing.assert_array_equal(shown, expected)
    assert shown.dtype == np.uint8


def test_each_image_can_have_a_different_variant():
    variants = np.array([[0, 1], [2, 3], [4, 7]])
    together = show_variants(IMAGES, variants)
    for index in np.ndindex(3, 2):
        alone = show_variants(IMAGES[index], variants[index])
        np.testing.assert_array_equal(together[index], alone)


def test_all_variants_of_an_asymmetric_image_differ():
    shown = show_variants(np.stack([IMAGES[0, 0]] * 8), np.arange(8))
    assert len({image.tobytes() for image in np.asarray(shown)}) == 8
