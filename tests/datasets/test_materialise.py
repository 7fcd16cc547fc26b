import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.datasets.bank import DeviceBank, SourceShape
from emergent_icl.datasets.materialise import make_materialise, sequence_keys

IMAGES = SourceShape(7, 3, (4, 5), "image")
BANK = DeviceBank(np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5)).astype(np.uint8))
CLASSES = np.array([[0, 3], [6, 6]])
EXEMPLARS = np.array([[0, 1], [2, 0]])
KEYS = sequence_keys(jax.random.PRNGKey(0), jnp.arange(2))


def test_images_are_gathered_and_scaled():
    shown = make_materialise(IMAGES, False, noisy=False)(BANK, CLASSES, EXEMPLARS, KEYS, 0.0)
    assert shown.shape == (2, 2, 4, 5, 1)
    assert shown.dtype == jnp.float32
    np.testing.assert_allclose(shown[0, 1, ..., 0], BANK.examples[3, 1] / 255.0, rtol=1e-6)
    np.testing.assert_allclose(shown[1, 0, ..., 0], BANK.examples[6, 2] / 255.0, rtol=1e-6)


def test_inverted_images_add_up_to_one_with_the_others():
    plain, inverted = (
        make_materialise(IMAGES, flag, noisy=False)(BANK, CLASSES, EXEMPLARS, KEYS, 0.0)
        for flag in (False, True)
    )
    np.testing.assert_allclose(plain + inverted, 1, atol=1e-6)


def test_integers_stay_integers():
    symbols = make_materialise(SourceShape(5, 1, (), "integer"), False, noisy=False)
    bank = DeviceBank(np.arange(5, dtype=np.int32)[:, None])
    classes = np.array([[4, 0, 2]])
    shown = symbols(bank, classes, np.zeros_like(classes), KEYS[:1], 0.0)
    np.testing.assert_array_equal(shown, classes)
    assert jnp.issubdtype(shown.dtype, jnp.integer)


def test_noise_is_gaussian_unclipped_and_of_the_given_scale():
    bank = DeviceBank(np.full((1, 1, 40, 40), 255, np.uint8))
    noisy = make_materialise(SourceShape(1, 1, (40, 40), "image"), False, noisy=True)
    zeros = np.zeros((4, 3), int)
    keys = sequence_keys(jax.random.PRNGKey(1), jnp.arange(4))
    noise = np.asarray(noisy(bank, zeros, zeros, keys, 0.5)) - 1
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.max() > 0.5
    # Different in every sequence and at every position.
    assert len({image.tobytes() for image in noise.reshape(12, -1)}) == 12


def test_noise_follows_the_row_of_the_global_batch():
    noisy = make_materialise(IMAGES, False, noisy=True)
    key = jax.random.PRNGKey(2)
    whole = noisy(BANK, CLASSES, EXEMPLARS, sequence_keys(key, jnp.arange(2)), 0.1)
    second = noisy(BANK, CLASSES[1:], EXEMPLARS[1:], sequence_keys(key, jnp.array([1])), 0.1)
    np.testing.assert_array_equal(whole[1:], second)
