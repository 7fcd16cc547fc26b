"""The only import of TensorFlow, for TFDS and tf.data."""

import contextlib
import os
import random
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType


def import_tensorflow() -> ModuleType:
    """Imports TensorFlow without startup messages, and hides accelerators from it."""
    with unchanged_process(), native_stderr_closed():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import tensorflow as tf
    # They are for JAX.
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Restores the environment, warning filters, and random state that imports change."""
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
    """Discards the stderr of native code; Python exceptions are not affected."""
    # Libraries print while they load, before they read their log level, and print the errors that
    # they also raise.
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
