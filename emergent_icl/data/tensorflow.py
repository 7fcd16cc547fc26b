"""The one place that imports TensorFlow: for reading TFDS and for tf.data, nothing else."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType


def import_tensorflow() -> ModuleType:
    """Imports TensorFlow without its greeting, and keeps it off the accelerators."""
    with unchanged_process(), native_stderr_closed():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf
    # They are JAX's.
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Restores what imports change for the whole process: environment, warnings, random state."""
    environment, state = set(os.environ), random.getstate()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        random.setstate(state)
        for name in os.environ.keys() - environment:
            del os.environ[name]


@contextlib.contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Drops what native code writes to stderr; Python's exceptions are not affected."""
    # Libraries greet while they are loaded, before they read their log level, and comment on errors
    # that are raised as well.
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
