"""Normalization layers, always in full precision, and the precision of all other layers."""

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import jmp

# BatchNorm's constants (paper section 2.2).
DECAY, EPSILON = 0.9, 1e-5
# Of outputs x: max_pool(x), the mean of x, and the mean of its squares, [C].
Pooled = tuple[jax.Array, jax.Array, jax.Array]
# (pytree of arrays) -> the same, averaged over all devices that share a batch.
MeanOverDevices = Callable[[Any], Any]


def one_device(tree: Any) -> Any:
    """The mean over a single device."""
    return tree


def widened(x: jax.Array) -> jax.Array:
    """Casts to float32 or wider: sums and small weights need the precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def layer_norm(name: str) -> Callable[[jax.Array], jax.Array]:
    """LayerNorm over the last axis, with scale and offset."""
    norm = hk.LayerNorm(axis=-1, create_scale=True, create_offset=True, name=name)
    return lambda x: norm(widened(x)).astype(x.dtype)


class BatchNorm(hk.Module):
    """BatchNorm with the paper's constants; parameters and averages are those of `hk.BatchNorm`."""

    def __init__(
        self, name: str, mean_over_devices: MeanOverDevices = one_device, zero_scale: bool = False
    ) -> None:
        """Devices share statistics in training; `zero_scale` initializes a branch to zero."""
        super().__init__(name=name)
        self.mean_over_devices = mean_over_devices
        self.scale_init = jnp.zeros if zero_scale else jnp.ones
        self.mean_ema = hk.ExponentialMovingAverage(DECAY, name="mean_ema")
        self.var_ema = hk.ExponentialMovingAverage(DECAY, name="var_ema")

    def __call__(
        self,
        x: jax.Array,
        is_training: bool,
        max_pool: Callable[[jax.Array], jax.Array] | None = None,
    ) -> jax.Array:
        """Normalizes [..., C] over all axes but the last, in training by the statistics of x.

        `max_pool` is equivalent to pooling the output, but pools before normalization: scaling and
        shifting preserve maxima, and fewer numbers remain to be normalized.
        """
        dtype, x = x.dtype, widened(x)
        scale, offset = self._parameters((1,) * (x.ndim - 1) + x.shape[-1:], x.dtype)
        means = None
        if is_training:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axes, keepdims=True)
            means = mean, jnp.mean(jnp.square(x), axes, keepdims=True)
        mean, var = self._mean_and_variance(means)
        if max_pool is not None:
            sign = _sign(scale)
            x = sign * max_pool(sign * x)
        return ((x - mean) * (scale * jax.lax.rsqrt(var + EPSILON)) + offset).astype(dtype)

    def after_pooling(
        self, pool: Callable[[jax.Array], Pooled], num_channels: int, is_training: bool
    ) -> jax.Array:
        """`__call__` with a `max_pool`, for an x [N, H, W, C] that only `pool` knows.

        `pool` receives signs [C], and returns maxima and means of sign * x.
        """
        scale, offset = self._parameters((1, 1, 1, num_channels), jnp.result_type(float))
        sign = _sign(scale)
        maxima, mean, mean_of_squares = pool(sign[0, 0, 0])
        shape = scale.shape
        means = sign * jnp.reshape(mean, shape), jnp.reshape(mean_of_squares, shape)
        mean, var = self._mean_and_variance(means if is_training else None)
        return (sign * maxima - mean) * (scale * jax.lax.rsqrt(var + EPSILON)) + offset

    def _parameters(self, shape: tuple[int, ...], dtype: Any) -> tuple[jax.Array, jax.Array]:
        """Scale and offset."""
        scale = hk.get_parameter("scale", shape, dtype, self.scale_init)
        return scale, hk.get_parameter("offset", shape, dtype, jnp.zeros)

    def _mean_and_variance(
        self, means: tuple[jax.Array, jax.Array] | None
    ) -> tuple[jax.Array, jax.Array]:
        """From the means of x and of its squares, averaged over time, too; None: the averages."""
        if means is None:
            return self.mean_ema.average, self.var_ema.average
        mean, mean_of_squares = self.mean_over_devices(means)
        var = mean_of_squares - jnp.square(mean)
        self.mean_ema(mean)
        self.var_ema(var)
        return mean, var


def _sign(scale: jax.Array) -> jax.Array:
    """A negative scale turns minima into maxima."""
    return jnp.where(scale < 0, -1.0, 1.0)


def make_policy(precision: str) -> jmp.Policy:
    """Parameters and outputs in full precision, computation in `precision`."""
    # JAX's own: float32, or float64 under `jax_enable_x64`.
    full = jnp.result_type(float)
    return jmp.Policy(full, full if precision == "float32" else jnp.dtype(precision), full)


def cast_parameters(policy: jmp.Policy, params: hk.Params) -> hk.Params:
    """Casts parameters to the precision of computation, except in normalization layers."""
    # The name of every such layer contains "norm".
    norms, others = hk.data_structures.partition(
        lambda module, name, value: "norm" in module.rsplit("/", 1)[-1], params
    )
    return hk.data_structures.merge(norms, policy.cast_to_compute(others))
