"""Convolutions as XLA runs them fast on every platform; values and gradients are the plain ones'.

Parameters have the names, shapes and initial values of `hk.Conv2D`.
"""

from __future__ import annotations

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np


class PointwiseConv(hk.Module):
    """A 1x1 convolution without bias, as the matrix product that it is.

    On CPU its weight gradient takes a third of the time of a convolution's.
    """

    def __init__(self, channels: int, stride: int, name: str) -> None:
        super().__init__(name=name)
        self.channels, self.stride = channels, stride

    def __call__(self, x_NHWC: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to [N, ceil(H/stride), ceil(W/stride), channels]."""
        w = _weights((1, 1, x_NHWC.shape[-1], self.channels), x_NHWC.dtype)
        return x_NHWC[:, :: self.stride, :: self.stride] @ w[0, 0]


class StemConv(hk.Module):
    """A strided convolution of raw images, without bias, SAME padding."""

    def __init__(self, channels: int, kernel: int, stride: int, name: str) -> None:
        super().__init__(name=name)
        self.channels, self.kernel, self.stride = channels, kernel, stride

    def __call__(self, images_NHWC: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to [N, ceil(H/stride), ceil(W/stride), channels]."""
        shape = (self.kernel, self.kernel, images_NHWC.shape[-1], self.channels)
        return strided_conv(images_NHWC, _weights(shape, images_NHWC.dtype), self.stride)


def _weights(shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    stddev = 1 / np.sqrt(np.prod(shape[:-1]))
    return hk.get_parameter("w", shape, dtype, hk.initializers.TruncatedNormal(stddev))


def plain_conv(x_NHWC: jax.Array, w_HWIO: jax.Array, stride: int) -> jax.Array:
    """XLA's own convolution, SAME padding."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x_NHWC, w_HWIO, (stride, stride), "SAME", dimension_numbers=dimensions
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def strided_conv(x_NHWC: jax.Array, w_HWIO: jax.Array, stride: int) -> jax.Array:
    """`plain_conv`, whose weight gradient is made for few input channels on CPU."""
    return plain_conv(x_NHWC, w_HWIO, stride)


def _backward(
    stride: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    # Not computed where nobody asks for it: images have no gradient in training.
    (to_images,) = jax.linear_transpose(lambda x: plain_conv(x, w, stride), x)(gradient)

    def by_convolution(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda w: plain_conv(x, w, stride), w)(gradient)[0]

    def by_patches(x: jax.Array, gradient: jax.Array) -> jax.Array:
        # One product an image: a single one would be as long as thin, and run on one core.
        patches_NKP = _patches(x, w.shape[0], stride)
        gradient_NPC = jnp.reshape(gradient, (gradient.shape[0], -1, gradient.shape[-1]))
        return jnp.sum(patches_NKP @ gradient_NPC, axis=0).reshape(w.shape)

    to_weights = jax.lax.platform_dependent(x, gradient, cpu=by_patches, default=by_convolution)
    return to_images, to_weights


strided_conv.defvjp(lambda x, w, stride: (plain_conv(x, w, stride), (x, w)), _backward)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """SAME padding: what is missing to the last window, the smaller half in front."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _patches(x_NHWC: jax.Array, kernel: int, stride: int) -> jax.Array:
    """What each output position looks at, [N, kernel * kernel * C, positions]."""
    counts = [-(-size // stride) for size in x_NHWC.shape[1:3]]
    padding = [same_padding(size, kernel, stride) for size in x_NHWC.shape[1:3]]
    padded = jnp.pad(x_NHWC, [(0, 0), *padding, (0, 0)])
    height, width = ((count - 1) * stride + 1 for count in counts)
    shifted = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(kernel)
        for j in range(kernel)
    ]
    patches_NKHWC = jnp.stack(shifted, axis=1)
    patches_NKCHW = jnp.moveaxis(patches_NKHWC, -1, 2)
    return jnp.reshape(patches_NKCHW, (x_NHWC.shape[0], -1, counts[0] * counts[1]))
