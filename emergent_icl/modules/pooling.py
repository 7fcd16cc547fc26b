"""Max-pooling whose gradient is fast.

XLA differentiates `reduce_window` into select-and-scatter, which is very slow on
CPU. Pooling as a chain of selections over shifted views differentiates into
selections and pads instead, with the same values and the same gradients.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def max_pool_3x3_stride_2(images_NHWC: jax.Array) -> jax.Array:
    """Max-pool with window 3, stride 2 and SAME padding, as in the ResNet stem.

    Equals `hk.max_pool(x, 3, 2, 'SAME')` in values and in gradients: a tie sends
    the gradient to the first position in row-major order, as XLA does (columns
    are reduced before rows for that reason).

    Args:
      images_NHWC: float [N, H, W, C].

    Returns:
      float [N, ceil(H/2), ceil(W/2), C].
    """
    return _pool_axis(_pool_axis(images_NHWC, axis=2), axis=1)


def _pool_axis(x: jax.Array, axis: int) -> jax.Array:
    size = x.shape[axis]
    pooled = -(-size // 2)
    # SAME padding: what is missing to the last window, the smaller half in front.
    total = max((pooled - 1) * 2 + 3 - size, 0)
    padding = [(0, 0)] * x.ndim
    padding[axis] = (total // 2, total - total // 2)
    padded = jnp.pad(x, padding, constant_values=-jnp.inf)

    def shifted(offset: int) -> jax.Array:
        end = offset + (pooled - 1) * 2 + 1
        return jax.lax.slice_in_dim(padded, offset, end, stride=2, axis=axis)

    best = shifted(0)
    for offset in (1, 2):
        candidate = shifted(offset)
        best = jnp.where(candidate > best, candidate, best)
    return best
