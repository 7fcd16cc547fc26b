import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.models.pooling import max_pool_3x3_stride_2


def reference(x):
    return hk.max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(pool, x, weights):
    return pool(x), jax.grad(lambda x: jnp.sum(weights * pool(x)))(x)


# Every parity of height and width, including the paper's 53.
@pytest.mark.parametrize(("height", "width"), [(53, 53), (8, 8), (7, 10), (10, 7), (1, 2), (3, 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_values_and_gradients_agree_with_hk_max_pool(height, width, ties):
    rng = np.random.default_rng(0)
    shape = (2, height, width, 3)
    # With few distinct values, nearly every window contains a tie, as on blank paper.
    x = rng.integers(-2, 2, shape).astype(np.float32) if ties else rng.normal(size=shape)
    x = x.astype(np.float32)
    weights = rng.normal(size=(2, -(-height // 2), -(-width // 2), 3)).astype(np.float32)
    ours, gradient = value_and_gradient(max_pool_3x3_stride_2, x, weights)
    theirs, expected = value_and_gradient(reference, x, weights)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


def test_gradient_does_not_scatter():
    text = (
        jax.jit(jax.grad(lambda x: max_pool_3x3_stride_2(x).sum()))
        .lower(jnp.zeros((2, 9, 9, 1)))
        .as_text()
    )
    assert "select_and_scatter" not in text
