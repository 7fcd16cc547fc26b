"""JAX settings that affect a run's numbers, fixed for all users; the devices that JAX may use."""

import contextlib
import functools
import importlib.metadata
import itertools
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

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
# Names the GPUs that a process may use.
GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"
# Must be in XLA_FLAGS before JAX initializes its devices.
DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops"


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


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, without initializing JAX on them."""
    # Without a plugin, JAX uses the CPU even if there are GPUs.
    can_use = importlib.metadata.entry_points(group="jax_plugins")
    if not can_use or os.environ.get("JAX_PLATFORMS", "") == "cpu":
        return []
    if GPU_VARIABLE in os.environ:
        names = os.environ[GPU_VARIABLE].split(",")
        # CUDA stops reading at the first invalid one; '-1' hides all.
        return list(itertools.takewhile(lambda name: name and not name.startswith("-"), names))
    return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def deterministic_flag() -> bool | None:
    """The value of DETERMINISTIC_FLAG in XLA_FLAGS; None if it is not there."""
    flags = os.environ.get("XLA_FLAGS", "")
    given = re.findall(rf"{DETERMINISTIC_FLAG}(?:=(\S*))?(?!\S)", flags)
    return given[-1].lower() not in ("false", "0") if given else None
