"""Max-pooling with a fast gradient.

XLA differentiates `reduce_window` into select-and-scatter, which is very slow on CPU. Here the
forward pass stores in one byte which element of its window each maximum was, and the gradient
consists of selections: no scatter, and the images are not read again.
"""

import jax
import jax.numpy as jnp

WINDOW, STRIDE = 3, 2


@jax.custom_vjp
def max_pool_3x3_stride_2(images_NHWC: jax.Array) -> jax.Array:
    """Max-pool with window 3, stride 2, and SAME padding: [N, ceil(H/2), ceil(W/2), C].

    Values and gradients are those of `hk.max_pool(x, 3, 2, 'SAME')`: as in XLA, a tie sends the
    gradient to the first position in row-major order.
    """
    return pool_with_places(images_NHWC)[0]


def pool_with_places(x_NHWC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maxima, and their positions in their windows, int8: 3 * row + column."""
    _, height, width, _ = x_NHWC.shape
    padding = jax.lax.padtype_to_pads((height, width), (WINDOW,) * 2, (STRIDE,) * 2, "SAME")
    padded = jnp.pad(x_NHWC, [(0, 0), *padding, (0, 0)], constant_values=-jnp.inf)

    def shifted(row: int, column: int) -> jax.Array:
        rows, columns = height + height % 2, width + width % 2
        return padded[:, row : row + rows - 1 : STRIDE, column : column + columns - 1 : STRIDE]

    best = shifted(0, 0)
    place = jnp.zeros(best.shape, jnp.int8)
    for index in range(1, WINDOW**2):
        candidate = shifted(*divmod(index, WINDOW))
        place = jnp.where(candidate > best, jnp.int8(index), place)
        best = jnp.maximum(best, candidate)
    return best, place


def _forward(x_NHWC: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    best, place = pool_with_places(x_NHWC)
    # An empty slice keeps the shape at no cost.
    return best, (place, x_NHWC[:0])


def _backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    place, like = saved
    return (unpool(place, gradient, like.shape),)


def unpool(place: jax.Array, gradient: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sends each pooled gradient to the place of its maximum in [N, H, W, C] = `shape`."""
    _, height, width, channels = shape
    pooled_height, pooled_width = gradient.shape[1:3]

    def sent_to(row: int, column: int) -> jax.Array:
        return jnp.where(place == WINDOW * row + column, gradient, 0)

    def later(x: jax.Array, axis: int) -> jax.Array:
        """Shifts by one window: the last position of a window is the first of the next."""
        moved = jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)
        return jnp.pad(moved, [(int(i == axis), 0) for i in range(x.ndim)])

    # Even positions are the first of a window and the last of the preceding one; odd positions
    # are the middle of a single window.
    even_rows = [sent_to(0, j) + later(sent_to(2, j), 1) for j in range(WINDOW)]
    odd_rows = [sent_to(1, j) for j in range(WINDOW)]
    rows = [
        jnp.stack([first + later(last, 2), middle], axis=3)
        for first, middle, last in (even_rows, odd_rows)
    ]
    padded = jnp.reshape(
        jnp.stack(rows, axis=2), (-1, STRIDE * pooled_height, STRIDE * pooled_width, channels)
    )
    (top, _), (left, _) = jax.lax.padtype_to_pads(
        (height, width), (WINDOW,) * 2, (STRIDE,) * 2, "SAME"
    )
    return padded[:, top : top + height, left : left + width]


max_pool_3x3_stride_2.defvjp(_forward, _backward)
