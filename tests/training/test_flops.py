import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.training.cost import count_flops

A = jax.ShapeDtypeStruct((3, 4, 5), jnp.float32)
B = jax.ShapeDtypeStruct((3, 5, 6), jnp.float32)


def test_matrix_products_by_hand():
    assert count_flops(lambda a, b: a @ b, A, B) == 2 * 3 * 4 * 5 * 6
    assert count_flops(lambda a, b: jnp.tanh(a @ b), A, B) == 2 * 3 * 4 * 5 * 6 + 3 * 4 * 6
    assert count_flops(jax.jit(lambda a, b: a @ b), A, B) == 2 * 3 * 4 * 5 * 6


def test_loops_count_as_often_as_they_run():
    def body(carry, _):
        return carry @ carry, None

    square = jax.ShapeDtypeStruct((7, 7), jnp.float32)
    once = count_flops(lambda x: x @ x, square)
    many = count_flops(lambda x: jax.lax.scan(body, x, None, length=11)[0], square)
    assert many == 11 * once


def test_branches_count_as_the_most_expensive_one():
    square = jax.ShapeDtypeStruct((7, 7), jnp.float32)
    branches = [lambda x: x, lambda x: x @ x]
    counted = count_flops(lambda x: jax.lax.switch(x[0, 0].astype(int), branches, x), square)
    assert 2 * 7**3 <= counted < 2 * 7**3 + 100


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_and_its_gradients_cost_about_three_convolutions(stride):
    images = jax.ShapeDtypeStruct((4, 32, 32, 8), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 8, 16), jnp.float32)

    def convolve(x, w):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=layout
        )

    forward = count_flops(convolve, images, kernel)
    assert forward == 2 * 4 * (32 // stride) ** 2 * 16 * 9 * 8
    gradients = jax.grad(lambda x, w: jnp.sum(jnp.sin(convolve(x, w))), argnums=(0, 1))
    assert count_flops(gradients, images, kernel) == pytest.approx(3 * forward, rel=0.05)


def test_agrees_with_the_compiler_where_there_is_no_loop():
    def network(x, w):
        return jnp.sum(jax.nn.relu(x @ w) @ w.T)

    arguments = np.ones((64, 64), np.float32), np.ones((64, 64), np.float32)
    function = jax.value_and_grad(network, argnums=1)
    theirs = jax.jit(function).lower(*arguments).cost_analysis()["flops"]
    assert count_flops(function, *arguments) == pytest.approx(theirs, rel=0.03)
