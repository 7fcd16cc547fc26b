import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.data.bank import DeviceBank, SourceShape
from emergent_icl.data.materialize import is_stochastic, make_materialize
from emergent_icl.data.sources import gaussian
from emergent_icl.presets import base
from emergent_icl.randomness import sequence_keys

IMAGES = SourceShape(7, 3, (4, 5), "image")
BANK = DeviceBank(np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5)).astype(np.uint8))
CLASSES = np.array([[0, 3], [6, 6]])
EXEMPLARS = np.array([[0, 1], [2, 0]])
KEYS = sequence_keys(jax.random.PRNGKey(0), jnp.arange(2))


def materialize(shape, **options):
    data = base.get_config().data.unlock()
    data.update({"source": "glyphs", **options})
    return make_materialize(data, shape)


def test_images_are_gathered_and_scaled():
    shown = materialize(IMAGES)(BANK, CLASSES, EXEMPLARS, KEYS, 0.0)
    assert shown.shape == (2, 2, 4, 5, 1)
    assert shown.dtype == jnp.float32
    np.testing.assert_allclose(shown[0, 1, ..., 0], BANK.examples[3, 1] / 255.0, rtol=1e-6)
    np.testing.assert_allclose(shown[1, 0, ..., 0], BANK.examples[6, 2] / 255.0, rtol=1e-6)


def test_inverted_images_and_plain_ones_add_up_to_one():
    plain, inverted = (
        materialize(IMAGES, inverted=flag)(BANK, CLASSES, EXEMPLARS, KEYS, 0.0)
        for flag in (False, True)
    )
    np.testing.assert_allclose(plain + inverted, 1, atol=1e-6)


def test_integers_stay_integers():
    symbols = materialize(SourceShape(5, 1, (), "integer"), source="symbolic")
    bank = DeviceBank(np.arange(5, dtype=np.int32)[:, None])
    classes = np.array([[4, 0, 2]])
    shown = symbols(bank, classes, np.zeros_like(classes), KEYS[:1], 0.0)
    np.testing.assert_array_equal(shown, classes)
    assert jnp.issubdtype(shown.dtype, jnp.integer)


def test_noise_is_unclipped_and_has_the_given_scale():
    bank = DeviceBank(np.full((1, 1, 40, 40), 255, np.uint8))
    noisy = materialize(SourceShape(1, 1, (40, 40), "image"), noise_scale=0.5)
    zeros = np.zeros((4, 3), int)
    keys = sequence_keys(jax.random.PRNGKey(1), jnp.arange(4))
    noise = np.asarray(noisy(bank, zeros, zeros, keys, 0.5)) - 1
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.max() > 0.5
    # Different in every sequence and at every position.
    assert len({image.tobytes() for image in noise.reshape(12, -1)}) == 12


def test_noise_depends_on_the_row_of_the_global_batch():
    noisy = materialize(IMAGES, noise_scale=0.1)
    key = jax.random.PRNGKey(2)
    whole = noisy(BANK, CLASSES, EXEMPLARS, sequence_keys(key, jnp.arange(2)), 0.1)
    second = noisy(BANK, CLASSES[1:], EXEMPLARS[1:], sequence_keys(key, jnp.array([1])), 0.1)
    np.testing.assert_array_equal(whole[1:], second)


def test_augmented_classes_are_variants_of_the_banks_classes():
    bank = DeviceBank(np.random.default_rng(1).integers(0, 256, (7, 3, 5, 5)).astype(np.uint8))
    show = materialize(SourceShape(56, 3, (5, 5), "image"), augment=True)
    classes = np.array([[8 * 3, 8 * 6 + 5]])
    shown = show(bank, classes, np.array([[1, 2]]), KEYS[:1], 0.0)
    np.testing.assert_allclose(shown[0, 0, ..., 0], bank.examples[3, 1] / 255.0, rtol=1e-6)
    turned = np.rot90(bank.examples[6, 2][:, ::-1])
    np.testing.assert_allclose(shown[0, 1, ..., 0], turned / 255.0, rtol=1e-6)


def test_rare_classes_can_be_random_images_that_differ_between_sequences():
    is_random = np.arange(7) < 5
    show = materialize(SourceShape(7, 3, (9, 9), "image"), random_rare_images=True)
    bank = DeviceBank(np.full((7, 3, 9, 9), 128, np.uint8), is_random)
    classes = np.array([[0, 1, 0, 6], [0, 1, 2, 6]])
    exemplars = np.array([[0, 1, 2, 0], [0, 0, 0, 1]])
    shown = np.asarray(show(bank, classes, exemplars, KEYS, 0.0))
    noise = shown[:, :3]
    assert set(np.unique(noise)) == {0, 1}
    assert noise.mean() == pytest.approx(0.5, abs=0.08)
    np.testing.assert_array_equal(shown[0, 0], shown[0, 2])  # One image per class ...
    distinct = {shown[0, 0].tobytes(), shown[0, 1].tobytes(), shown[1, 0].tobytes()}
    assert len(distinct) == 3  # ... and sequence.
    np.testing.assert_allclose(shown[:, 3], 128 / 255, rtol=1e-6)


def test_noise_on_vectors_is_defined_by_their_source():
    bank = DeviceBank(np.ones((2, 1, 6), np.float32))
    classes = np.zeros((2, 3), int)
    shape = SourceShape(2, 1, (6,), "vector")
    plain = materialize(shape, source="gaussian")(bank, classes, classes, KEYS, 0.0)
    np.testing.assert_array_equal(plain, 1)
    varied = materialize(shape, source="gaussian", noise_scale=2.0)
    shown = varied(bank, classes, classes, KEYS, 2.0)
    expected = gaussian.draw_around_mean(bank.examples[[0, 0, 0], 0], KEYS[1], 2.0)
    np.testing.assert_allclose(shown[1], expected, rtol=1e-5)


def test_examples_are_stochastic_with_noise_or_random_images():
    data = base.get_config().data.unlock()
    assert not is_stochastic(data)
    data.noise_scale = 0.1
    assert is_stochastic(data)
    data.noise_scale, data.random_rare_images = 0.0, True
    assert is_stochastic(data)
