"""The fast convolutions, compared with Haiku's."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.models.convolution import Conv, plain_conv, strided_conv


def transformed(module):
    return hk.without_apply_rng(hk.transform(module))


def values_and_gradients(network, params, x):
    def loss(params, x):
        return jnp.sum(jnp.sin(network.apply(params, x)))

    return jax.jit(lambda *of: (network.apply(*of), jax.grad(loss, argnums=(0, 1))(*of)))(params, x)


def assert_same(ours, theirs):
    ours, theirs = (transformed(module) for module in (ours, theirs))
    for x in (jnp.zeros((1, 9, 7, 5)), jax.random.normal(jax.random.PRNGKey(0), (3, 9, 7, 5))):
        params, others = (jax.jit(one.init)(jax.random.PRNGKey(1), x) for one in (ours, theirs))
        jax.tree.map(np.testing.assert_array_equal, params, others)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5),
            values_and_gradients(ours, params, x),
            values_and_gradients(theirs, params, x),
        )


@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_agrees_with_haikus_1x1_convolution(stride):
    assert_same(
        lambda x: Conv(6, 1, stride, "conv")(x),
        lambda x: hk.Conv2D(6, 1, stride, with_bias=False, name="conv")(x),
    )


@pytest.mark.parametrize("kernel", [7, 4])
def test_stem_agrees_with_haikus_strided_convolution(kernel):
    assert_same(
        lambda x: Conv(6, kernel, 2, "conv")(x),
        lambda x: hk.Conv2D(6, kernel, 2, with_bias=False, name="conv")(x),
    )


@pytest.mark.parametrize("size", [(28, 28), (6, 9), (1, 2)])
@pytest.mark.parametrize("stride", [2, 3])
def test_weight_gradient_by_patches_agrees_with_that_of_the_convolution(size, stride):
    keys = jax.random.split(jax.random.PRNGKey(0), 2)
    x = jax.random.normal(keys[0], (2, *size, 1))
    w = jax.random.normal(keys[1], (7, 7, 1, 4))
    gradients = [
        jax.jit(jax.grad(lambda w, conv=conv: jnp.mean(conv(x, w, stride) ** 2)))(w)
        for conv in (strided_conv, plain_conv)
    ]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-4)


def test_each_replica_has_its_own_weight_gradient():
    x = jax.random.normal(jax.random.PRNGKey(0), (3, 2, 9, 9, 1))
    w = jax.random.normal(jax.random.PRNGKey(1), (3, 7, 7, 1, 4))
    gradient = jax.jit(jax.grad(lambda w, x: jnp.mean(strided_conv(x, w, 2) ** 2)))
    together = jax.jit(jax.vmap(gradient))(w, x)
    alone = jnp.stack([gradient(w[i], x[i]) for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
