"""Convolutions that are fast on every platform, with the values and gradients of plain ones.

Parameters have the same names, shapes, and initial values as those of `hk.Conv2D`.
"""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass
class Conv(hk.Module):
    """A 1x1 convolution, or one of raw images, with SAME padding and no bias."""

    channels: int
    kernel: int
    stride: int
    name: str

    def __call__(self, x_NHWC: jax.Array) -> jax.Array:
        """Maps [N, H, W, C] to [N, ceil(H/stride), ceil(W/stride), channels]."""
        w = self.weights(x_NHWC)
        if self.kernel > 1:
            return strided_conv(x_NHWC, w, self.stride)
        # A matrix product: on CPU its weight gradient takes a third of the time.
        return x_NHWC[:, :: self.stride, :: self.stride] @ w[0, 0]

    def weights(self, x_NHWC: jax.Array) -> jax.Array:
        """[kernel, kernel, C, channels]."""
        shape = (self.kernel, self.kernel, x_NHWC.shape[-1], self.channels)
        init = hk.initializers.TruncatedNormal(1 / np.sqrt(np.prod(shape[:-1])))
        return hk.get_parameter("w", shape, x_NHWC.dtype, init)


def plain_conv(x_NHWC: jax.Array, w_HWIO: jax.Array, stride: int) -> jax.Array:
    """XLA's own convolution with SAME padding."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x_NHWC, w_HWIO, (stride, stride), "SAME", dimension_numbers=dimensions
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def strided_conv(x_NHWC: jax.Array, w_HWIO: jax.Array, stride: int) -> jax.Array:
    """`plain_conv` with a weight gradient that is fast for few input channels on CPU."""
    return plain_conv(x_NHWC, w_HWIO, stride)


def _backward(
    stride: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    # XLA eliminates this if it is unused: training needs no gradient of images.
    (to_images,) = jax.linear_transpose(lambda x: plain_conv(x, w, stride), x)(gradient)

    def by_convolution(x: jax.Array, gradient: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda w: plain_conv(x, w, stride), w)(gradient)[0]

    def by_patches(x: jax.Array, gradient: jax.Array) -> jax.Array:
        # One product per image: a single long, thin product would run on one core.
        patches_NKP = patches(x, w.shape[0], stride)
        gradient_NPC = jnp.reshape(gradient, (gradient.shape[0], -1, gradient.shape[-1]))
        return jnp.sum(patches_NKP @ gradient_NPC, axis=0).reshape(w.shape)

    to_weights = jax.lax.platform_dependent(x, gradient, cpu=by_patches, default=by_convolution)
    return to_images, to_weights


strided_conv.defvjp(lambda x, w, stride: (plain_conv(x, w, stride), (x, w)), _backward)


def patches(x_NHWC: jax.Array, kernel: int, stride: int) -> jax.Array:
    """The inputs of each output position with SAME padding, [N, kernel * kernel * C, positions]."""
    sizes = x_NHWC.shape[1:3]
    counts = [-(-size // stride) for size in sizes]
    padding = jax.lax.padtype_to_pads(sizes, (kernel, kernel), (stride, stride), "SAME")
    padded = jnp.pad(x_NHWC, [(0, 0), *padding, (0, 0)])
    height, width = ((count - 1) * stride + 1 for count in counts)
    # Columns, then rows: of kernel * kernel slices at once, the stack would take longer.
    columns = [padded[:, :, j : j + width : stride] for j in range(kernel)]
    columns_NJHWC = jnp.stack(columns, axis=1)
    rows = [columns_NJHWC[:, :, i : i + height : stride] for i in range(kernel)]
    patches_NIJCHW = jnp.moveaxis(jnp.stack(rows, axis=1), -1, 3)
    return jnp.reshape(patches_NIJCHW, (x_NHWC.shape[0], -1, counts[0] * counts[1]))
