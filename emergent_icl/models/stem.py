"""The ResNet's stem on CPUs: a convolution, max-pooled, and its statistics, a few images at a time.

The outputs of a few images fit into the caches; those of a batch (207 MB at the paper's size) would
be written to memory and read several times.
"""

import jax
import jax.numpy as jnp

from emergent_icl.models.convolution import patches, plain_conv
from emergent_icl.models.normalization import Pooled, widened
from emergent_icl.models.pooling import pool_with_places, unpool

STRIDE = 2
MOST_IMAGES = 16


@jax.custom_vjp
def pooled_conv(images_NHWC: jax.Array, w_HWIO: jax.Array) -> Pooled:
    """Max-pools a convolution with stride 2 and SAME padding; the means that a norm needs."""
    return _forward(images_NHWC, w_HWIO)[0]


_Saved = tuple[jax.Array, jax.Array, jax.Array]


def _forward(images_NHWC: jax.Array, w_HWIO: jax.Array) -> tuple[Pooled, _Saved]:
    count = images_NHWC.shape[0]
    size = max(size for size in range(1, MOST_IMAGES + 1) if count % size == 0)

    def part(images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        y = widened(plain_conv(images, w_HWIO, STRIDE))
        sums = jnp.sum(y, (0, 1, 2)), jnp.sum(jnp.square(y), (0, 1, 2))
        return *pool_with_places(y), *sums

    parts = jnp.reshape(images_NHWC, (-1, size, *images_NHWC.shape[1:]))
    maxima, places, *sums = jax.lax.map(part, parts)
    maxima, places = (jnp.reshape(x, (count, *x.shape[2:])) for x in (maxima, places))
    mean, mean_of_squares = (jnp.sum(x, axis=0) / _num_outputs(images_NHWC) for x in sums)
    return (maxima, mean, mean_of_squares), (images_NHWC, w_HWIO, places)


def _backward(saved: _Saved, gradient: Pooled) -> tuple[jax.Array, jax.Array]:
    """The gradient of images and weights w, without stored outputs y.

    The means are sums of y = P w and of its squares, where P are the patches of all positions.
    Their gradient with respect to w therefore needs only the sums of P and of P^T P; that of the
    maxima needs P and the places of the maxima.
    """
    images, w, places = saved
    to_mean, to_square = (x / _num_outputs(images) for x in gradient[1:])
    y = jax.eval_shape(lambda: plain_conv(images, w, STRIDE))
    to_maxima = unpool(places, gradient[0], y.shape)

    # XLA eliminates this if it is unused: training needs no gradient of images.
    to_y = to_maxima + to_mean + 2 * to_square * widened(plain_conv(images, w, STRIDE))
    convolve = jax.linear_transpose(lambda x: plain_conv(x, w, STRIDE), images)
    (to_images,) = convolve(to_y.astype(y.dtype))

    patches_NKP = widened(patches(images, w.shape[0], STRIDE))
    # One product per image: a single long, thin product would run on one core.
    by_maxima = patches_NKP @ jnp.reshape(to_maxima, (images.shape[0], -1, y.shape[-1]))
    gram = jnp.sum(patches_NKP @ jnp.swapaxes(patches_NKP, 1, 2), axis=0)
    by_mean = jnp.sum(patches_NKP, axis=(0, 2))[:, None] * to_mean
    by_square = 2 * (gram @ jnp.reshape(widened(w), (-1, y.shape[-1]))) * to_square
    to_w = jnp.sum(by_maxima, axis=0) + by_mean + by_square
    return to_images, jnp.reshape(to_w, w.shape).astype(w.dtype)


def _num_outputs(images_NHWC: jax.Array) -> int:
    """N * H * W of the convolution."""
    count, height, width, _ = images_NHWC.shape
    return count * -(-height // STRIDE) * -(-width // STRIDE)


pooled_conv.defvjp(_forward, _backward)
