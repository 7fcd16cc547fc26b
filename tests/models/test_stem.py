"""The stem in parts agrees with the stem of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.models.network import make_network
from emergent_icl.models.stem import MOST_IMAGES, pooled_conv
from emergent_icl.presets import base


def network(stem):
    model = base.get_config().model.unlock()
    model.update(num_layers=1, embedding_size=8, num_heads=2)
    model.resnet.update(channels=(8,), blocks_per_group=(1,), stem=stem)
    return make_network(model, 5)


# Numbers of images that parts divide, or that are prime; odd and even sizes.
@pytest.mark.parametrize("count", [2 * MOST_IMAGES, 17])
@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
@pytest.mark.parametrize("is_training", [True, False])
def test_values_averages_and_all_gradients_agree(count, size, is_training):
    rng = np.random.default_rng(0)
    images = rng.random((count, *size, 1)).astype(np.float32)
    whole, parts = network("whole"), network("parts")
    params, stats = whole.init(jax.random.PRNGKey(0), images[None], np.zeros((1, count), int))
    # Positive, negative, and zero scales; averages unlike the initial ones.
    (norm,) = (leaves for name, leaves in params.items() if name.endswith("initial_batchnorm"))
    norm["scale"] = rng.normal(size=norm["scale"].shape).astype(np.float32).round(1)
    stats = jax.tree.map(lambda leaf: leaf + 1, stats)
    weights = rng.normal(size=(count, 8)).astype(np.float32)
    found = []
    for one in (whole, parts):

        def loss(params, images, one=one):
            embeddings, after = one.encode(params, stats, images, is_training)
            return jnp.sum(weights * embeddings), (embeddings, after)

        found.append(jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, images))
    assert max(abs(leaf).max() for leaf in jax.tree.leaves(found[0][0])) > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), *found)


def test_parameters_have_the_same_names_and_initial_values():
    images, labels = np.zeros((1, 3, 8, 8, 1), np.float32), np.zeros((1, 3), int)
    found = [
        network(stem).init(jax.random.PRNGKey(0), images, labels) for stem in ("whole", "parts")
    ]
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_no_output_of_the_whole_batch_is_stored():
    def loss(w, images):
        return sum(jnp.sum(jnp.square(part)) for part in pooled_conv(images, w))

    count = 20 * MOST_IMAGES
    images, w = jnp.zeros((count, 40, 40, 1)), jnp.zeros((7, 7, 1, 32))
    compiled = jax.jit(lambda w: pooled_conv(images, w)).lower(w).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < count * 20 * 20 * 32 * 4 / 2
    text = jax.jit(jax.grad(loss)).lower(w, images).as_text()
    assert text.count("stablehlo.convolution") == 1, "only the forward pass convolves"
