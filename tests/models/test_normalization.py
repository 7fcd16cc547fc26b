"""BatchNorm with and without pooling, compared with Haiku's."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.models.normalization import BatchNorm
from emergent_icl.models.pooling import max_pool_3x3_stride_2


def plain(x, is_training, pool):
    norm = hk.BatchNorm(True, True, 0.9, 1e-5, name="norm")
    y = jax.nn.relu(norm(x, is_training))
    return max_pool_3x3_stride_2(y) if pool else y


def ours(x, is_training, pool):
    pooling = (max_pool_3x3_stride_2,) if pool else ()
    return jax.nn.relu(BatchNorm("norm")(x, is_training, *pooling))


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("pool", [True, False])
def test_values_gradients_and_averages_agree_with_haiku(is_training, pool):
    networks = [
        hk.without_apply_rng(hk.transform_with_state(lambda x, f=f: f(x, is_training, pool)))
        for f in (ours, plain)
    ]
    x = 3 + 2 * jax.random.normal(jax.random.PRNGKey(0), (4, 9, 9, 6))
    params, stats = hk.transform_with_state(lambda x: plain(x, True, pool)).init(None, x)
    # Positive, negative, and zero scales.
    params["norm"]["scale"] = jnp.asarray([1.0, -1.5, 0.0, 0.3, -0.2, 2.0]).reshape(1, 1, 1, 6)
    params["norm"]["offset"] = jnp.linspace(-0.5, 0.5, 6).reshape(1, 1, 1, 6)
    if not is_training:
        stats = moved(stats)
    results = []
    for network in networks:

        def loss(params, x, network=network):
            y, after = network.apply(params, stats, x)
            return jnp.sum(jnp.cos(y)), (y, after)

        results.append(jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *results)


def moved(stats):
    """Running averages that differ from their initial values."""
    return jax.tree.map(lambda leaf: leaf + 1 if leaf.dtype == jnp.float32 else leaf, stats)


def test_initial_parameters_agree_with_haiku():
    x = jnp.ones((2, 3, 3, 4))
    for zero_scale, init in ((False, jnp.ones), (True, jnp.zeros)):
        own = hk.transform_with_state(
            lambda x, zero=zero_scale: BatchNorm("norm", zero_scale=zero)(x, True)
        )
        theirs = hk.transform_with_state(
            lambda x, init=init: hk.BatchNorm(True, True, 0.9, scale_init=init, name="norm")(
                x, True
            )
        )
        jax.tree.map(np.testing.assert_array_equal, own.init(None, x), theirs.init(None, x))
