"""Data sources: the registry, and which classes and exemplars a source gives.

A new source is one DataSource and one registry line, also from outside the package.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import ml_collections
import numpy as np

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import NUM_VARIANTS, ExampleBank, SourceShape

# (examples [S, ...] of one sequence, key, scale) -> the same, varied
Vary = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class DataUnavailableError(RuntimeError):
    """The data of a config are not to be had here, or not fit for use."""


def add_gaussian_noise(examples: jax.Array, key: jax.Array, scale: jax.Array) -> jax.Array:
    """Independent noise of standard deviation `scale` on every number, unclipped."""
    return examples + scale * jax.random.normal(key, examples.shape)


@dataclasses.dataclass(frozen=True)
class DataSource:
    """A kind of data. Registered under its name in DATA_SOURCES.

    Attributes:
      shape: config.data -> SourceShape, without loading the data. Raises ValueError or
        OSError where the config asks for what is not there.
      load: config.data -> ExampleBank of that shape.
      vary: what `data.noise_scale` means, done on the device whenever an image or vector is shown.
      reads: options of config.data that it reads besides those of its own section.
      has_thin_strokes: what is not normalized hardly sees on a background of ones.
    """

    shape: Callable[[ml_collections.ConfigDict], SourceShape]
    load: Callable[[ml_collections.ConfigDict], ExampleBank]
    vary: Vary = add_gaussian_noise
    reads: tuple[str, ...] = ()
    has_thin_strokes: bool = False


def source_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """What `config.data` shows: `drawings` and `augment` applied to its source.

    Raises:
      ValueError, OSError: the source cannot give it, or its files are not there.
    """
    shape = DATA_SOURCES[data.source].shape(data)
    variants = shape.num_exemplars if data.drawings == "separated" else 1
    if data.drawings != "all":
        shape = shape._replace(num_exemplars=1)
    if data.augment:
        if shape.kind != "image":
            raise ValueError(f"data.augment needs images, not data.source = '{data.source}'")
        variants *= NUM_VARIANTS
    classes, group_size = shape.num_classes * variants, shape.group_size * variants
    return shape._replace(num_classes=classes, group_size=group_size)


def load_bank(data: ml_collections.ConfigDict) -> ExampleBank:
    """Loads the examples of `config.data`, `drawings` applied; raises DataUnavailableError.

    The variants of `data.augment` are not stored: the device computes them.
    """
    bank = DATA_SOURCES[data.source].load(data)
    if data.drawings == "single":
        return bank._replace(examples=bank.examples[:, :1])
    if data.drawings == "separated":
        drawings = range(bank.examples.shape[1])
        names = tuple(f"{name}, drawing {i}" for name in bank.class_names for i in drawings)
        examples = np.reshape(bank.examples, (-1, 1, *bank.examples.shape[2:]))
        return ExampleBank(bank.name, examples, names)
    return bank
