"""Settings of JAX for a whole process, made by the launchers before JAX sees a device."""

from __future__ import annotations

import os
import platform
import zlib
from pathlib import Path

import jax
import ml_collections

from emergent_icl.data.sources.cache import cache_folder

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# What compiles sooner is not worth a file.
MIN_COMPILE_SECONDS = 0.2
DETERMINISTIC = "--xla_gpu_deterministic_ops"
_CPU_INFO = Path("/proc/cpuinfo")


def use_compilation_cache() -> None:
    """Keeps compiled programs for the next command, in a folder of the user's cache.

    Another folder: JAX_COMPILATION_CACHE_DIR; none: JAX_ENABLE_COMPILATION_CACHE=false.
    """
    if CACHE_VARIABLE not in os.environ:
        try:
            folder = compilation_cache()
        except (RuntimeError, OSError):  # There is no home folder.
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_SECONDS)
        # An executable that is not there must be compiled; that is no reason to speak or stop.
        jax.config.update("jax_raise_persistent_cache_errors", False)


def compilation_cache() -> Path:
    """The folder for this kind of machine.

    A cluster shares home folders between machines of different processors, and code that was
    compiled for one may not run on another.
    """
    flags = ""
    if _CPU_INFO.exists():
        lines = _CPU_INFO.read_text(encoding="utf-8").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    kind = f"{platform.machine()}-{zlib.crc32(flags.encode()):08x}"
    return cache_folder("") / "compiled" / kind


def make_deterministic(config: ml_collections.ConfigDict) -> None:
    """Applies `training.deterministic`; a malformed config is left to its validation."""
    try:
        wanted = config.training.deterministic
    except AttributeError:
        return
    flags = os.environ.get("XLA_FLAGS", "")
    if wanted and DETERMINISTIC not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}=true".strip()
