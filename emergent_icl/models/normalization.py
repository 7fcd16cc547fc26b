"""Normalization layers, always in full precision, and the precision of all other layers."""

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import jmp

# BatchNorm's constants (paper section 2.2).
DECAY, EPSILON = 0.9, 1e-5
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
        shape = (1,) * (x.ndim - 1) + x.shape[-1:]
        scale = hk.get_parameter("scale", shape, x.dtype, self.scale_init)
        offset = hk.get_parameter("offset", shape, x.dtype, jnp.zeros)
        if is_training:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axes, keepdims=True)
            mean_of_squares = jnp.mean(jnp.square(x), axes, keepdims=True)
            mean, mean_of_squares = self.mean_over_devices((mean, mean_of_squares))
            var = mean_of_squares - jnp.square(mean)
            self.mean_ema(mean)
            self.var_ema(var)
        else:
            mean, var = self.mean_ema.average, self.var_ema.average
        if max_pool is not None:
            # A negative scale turns minima into maxima.
            sign = jnp.where(scale < 0, -1.0, 1.0)
            x = sign * max_pool(sign * x)
        return ((x - mean) * (scale * jax.lax.rsqrt(var + EPSILON)) + offset).astype(dtype)


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
