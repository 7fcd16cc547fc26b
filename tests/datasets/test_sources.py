import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import needs_omniglot

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sources import gaussian, omniglot
from emergent_icl.data.sources.source import (
    DataSource,
    DataUnavailableError,
    load_bank,
    source_shape,
)
from emergent_icl.data.tensorflow import import_tensorflow
from emergent_icl.presets import base
from emergent_icl.randomness import sequence_keys


def data_options(tmp_path, source, **options):
    data = base.get_config().data.unlock()
    data.source = source
    data.image_size = 12
    data.cache_dir = str(tmp_path)
    data.glyphs.num_classes = 6
    data.glyphs.num_exemplars = 3
    data.symbolic.num_classes = 6
    data.gaussian.num_classes = 6
    data.gaussian.dimension = 5
    data.features.path = str(tmp_path / "vectors.npy")
    np.save(data.features.path, np.ones((6, 3, 5)))
    data.images.path = str(tmp_path / "images.npz")
    np.savez(data.images.path, x=np.zeros((18, 9, 10)), y=np.repeat(np.arange(6), 3))
    data.images.update(array="x", labels="y")
    data.update(options)
    return data


@pytest.mark.parametrize("source", [name for name in DATA_SOURCES if name != "omniglot"])
@pytest.mark.parametrize("drawings", ["all", "single", "separated"])
def test_shapes_are_known_before_anything_is_loaded(source, drawings, tmp_path):
    data = data_options(tmp_path, source, drawings=drawings)
    shape, bank = source_shape(data), load_bank(data)
    assert bank.examples.shape == (shape.num_classes, shape.num_exemplars, *shape.example_shape)
    assert len(bank.class_names) == len(set(bank.class_names)) == shape.num_classes
    assert (
        bank.examples.dtype
        == {"image": np.uint8, "vector": np.float32, "integer": np.int32}[shape.kind]
    )


@pytest.mark.parametrize(
    "examples",
    [
        np.zeros((6, 2, 4), np.float32),  # Exemplars are missing.
        np.zeros((5, 3, 4), np.float32),
        np.zeros((6, 3, 4), np.float64),
    ],
)
def test_a_source_that_breaks_its_declaration_is_refused(examples, monkeypatch, tmp_path):
    shape = SourceShape(6, 3, (4,), "vector")
    names = tuple(f"class {index}" for index in range(6))
    data = data_options(tmp_path, "symbolic")
    data.source = "mine"

    def load(found, names):
        source = DataSource(lambda data: shape, lambda data: ExampleBank("mine", found, names))
        monkeypatch.setitem(DATA_SOURCES, "mine", source)
        return load_bank(data)

    sound = np.zeros((6, 3, 4), np.float32)
    assert load(sound, names).class_names == names
    with pytest.raises(DataUnavailableError, match=r"declares float32 \[6, 3, 4\]"):
        load(examples, names)
    with pytest.raises(DataUnavailableError, match="with 5 class names"):
        load(sound, names[:5])


@needs_omniglot
@pytest.mark.parametrize(("split", "count"), [("train", 964), ("test", 659), ("all", 1623)])
def test_omniglots_predefined_splits_select_characters(split, count):
    data = base.get_config().data.unlock()
    # Use the shared cache, since decoding is slow.
    data.image_size = 28
    whole = load_bank(data)
    data.omniglot.split = split
    bank = load_bank(data)
    assert len(bank.examples) == source_shape(data).num_classes == count
    inside = np.isin(whole.class_names, bank.class_names)
    assert inside.sum() == count
    np.testing.assert_array_equal(whole.examples[inside], bank.examples)


@needs_omniglot
def test_omniglots_predefined_splits_are_those_of_tfds():
    pytest.importorskip("tensorflow")  # Has no wheels for Python 3.14.
    import_tensorflow()
    import tensorflow_datasets as tfds

    for split in ("train", "test"):
        dataset = tfds.load(
            f"omniglot:{omniglot.TFDS_VERSION}",
            split=split,
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        batches = dataset.map(lambda item: item["label"]).batch(4096).as_numpy_iterator()
        labels = {label for batch in batches for label in batch.tolist()}
        assert sorted(labels) == list(range(1623))[omniglot.SPLITS[split]]


def test_separated_drawings_are_classes_that_form_groups(tmp_path):
    together = load_bank(data_options(tmp_path, "glyphs"))
    data = data_options(tmp_path, "glyphs", drawings="separated")
    bank, shape = load_bank(data), source_shape(data)
    assert (shape.num_classes, shape.group_size) == (18, 3)
    np.testing.assert_array_equal(bank.examples[3 * 4 + 1, 0], together.examples[4, 1])
    augmented = source_shape(data_options(tmp_path, "glyphs", drawings="separated", augment=True))
    assert (augmented.num_classes, augmented.group_size) == (18 * 8, 3 * 8)


def test_augmentation_needs_images(tmp_path):
    with pytest.raises(ValueError, match=r"data\.augment needs images"):
        source_shape(data_options(tmp_path, "gaussian", augment=True))


# ---------------------------------------------------------------------------- gaussian


def test_means_have_unit_scale_and_do_not_depend_on_the_number_of_classes():
    data = base.get_config().data.unlock()
    data.gaussian.num_classes = 4000
    means = gaussian.load_gaussian(data).examples
    assert means.shape == (4000, 1, 64)
    assert (means**2).sum(axis=-1).mean() == pytest.approx(1, rel=0.02)
    data.gaussian.num_classes = 10
    np.testing.assert_array_equal(gaussian.load_gaussian(data).examples, means[:10])
    data.gaussian.seed = 1
    assert not np.allclose(gaussian.load_gaussian(data).examples, means[:10])


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_exemplars_vary_around_their_mean_at_its_scale(epsilon):
    means = np.tile(np.random.default_rng(0).normal(0, 1 / 8, (1, 64)), (5000, 1))
    drawn = gaussian.draw_around_mean(jnp.asarray(means), jax.random.PRNGKey(0), epsilon)
    scale = np.sqrt(1 + epsilon**2)
    assert np.abs(drawn.mean(axis=0) - means[0] / scale).max() < 0.01 * (1 + epsilon)
    spread = np.std(drawn, axis=0).mean()
    assert spread == pytest.approx(epsilon / 8 / scale, rel=0.02)
    norms = (drawn**2).sum(axis=1).mean()
    assert norms == pytest.approx(((means[0] ** 2).sum() + epsilon**2) / scale**2, rel=0.02)


def test_every_position_shows_a_new_exemplar():
    keys = sequence_keys(jax.random.PRNGKey(0), jnp.arange(4))
    means = jnp.ones((4, 3, 5))
    drawn = jax.vmap(gaussian.draw_around_mean, in_axes=(0, 0, None))(means, keys, 0.5)
    assert len({vector.tobytes() for vector in np.asarray(drawn).reshape(12, 5)}) == 12
