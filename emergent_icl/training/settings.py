"""JAX settings that affect a run's numbers, fixed for all users."""

import contextlib
import functools
import logging
from collections.abc import Iterator

import jax

logger = logging.getLogger(__name__)

# JAX's defaults. Other values change parameters or random streams, or fail while tracing.
PINNED = {
    "enable_x64": False,
    "default_prng_impl": "threefry2x32",
    "threefry_partitionable": True,
    "enable_custom_prng": False,
    "legacy_prng_key": "allow",
    "softmax_custom_jvp": False,
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "default_matmul_precision": None,
    "disable_jit": False,
}


class SettingError(RuntimeError):
    """A JAX setting makes a run impossible."""


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Context or decorator: JAX uses the settings PINNED on this thread.

    Other values are reported once. Debugging settings, such as jax_debug_nans, remain in effect.

    Raises:
      SettingError: jax_random_seed_offset is set; it cannot be pinned.
    """
    if offset := getattr(jax.config, "jax_random_seed_offset", 0):
        raise SettingError(
            f"jax_random_seed_offset={offset} would change every random number; set it to 0 "
            "(environment variable JAX_RANDOM_SEED_OFFSET)"
        )
    with contextlib.ExitStack() as settings:
        for name, value in PINNED.items():
            if (given := getattr(jax.config, f"jax_{name}")) != value:
                _report(f"jax_{name}={given}", value)
            settings.enter_context(getattr(jax, name)(value))
        yield


@functools.cache
def _report(given: str, value: object) -> None:
    logger.warning("%s has no effect on runs, which use %r.", given, value)


def device_count() -> int:
    """Number of devices of all processes; raises SettingError if there is none."""
    try:
        return jax.device_count()
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip() or "no such device was found").splitlines()[0]
        platforms = jax.config.values["jax_platforms"]
        raise SettingError(
            f"JAX_PLATFORMS={platforms} names no usable device ({reason}).\n"
            "Unset it to use what is available: cpu always works; cuda needs a GPU, a driver, and "
            "pip install 'emergent-icl[cuda]'; tpu needs a TPU and libtpu."
        ) from error
