"""ExampleBank: what can be shown, and the registry of data sources that fill one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import ml_collections
import numpy as np

from emergent_icl.registry import Registry

WHITE = 255


@dataclasses.dataclass(frozen=True)
class ExampleBank:
    """Every example of every class, on the host.

    Attributes:
      name: of the data source.
      examples: images uint8 [classes, exemplars, H, W] (255 is background, 0 is ink),
        vectors float32 [classes, exemplars, D], or integers int32 [classes, exemplars].
      class_names: one a class.
    """

    name: str
    examples: np.ndarray
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.examples.shape[0]

    @property
    def num_exemplars(self) -> int:
        """Number of exemplars of each class."""
        return self.examples.shape[1]


class DeviceBank(NamedTuple):
    """The arrays of an ExampleBank, as they lie on a device."""

    examples: jax.Array | np.ndarray


class SourceShape(NamedTuple):
    """What a source will hold, known without loading it.

    Attributes:
      num_classes: number of classes.
      num_exemplars: exemplars of each class.
      example_shape: shape of one example as stored: (H, W), or () for an integer.
      kind: 'image' (uint8 pixels, which the device scales to [0, 1] and may add noise
        to), 'vector' (float32 numbers) or 'integer' (int32).
    """

    num_classes: int
    num_exemplars: int
    example_shape: tuple[int, ...]
    kind: Literal["image", "vector", "integer"]


@dataclasses.dataclass(frozen=True)
class DataSource:
    """A kind of data. Registered under its name in DATA_SOURCES.

    Attributes:
      shape: config.data -> SourceShape; cheap, reads no files.
      load: config.data -> ExampleBank of that shape.
    """

    shape: Callable[[ml_collections.ConfigDict], SourceShape]
    load: Callable[[ml_collections.ConfigDict], ExampleBank]


DATA_SOURCES: Registry[DataSource] = Registry("data source")


def load_bank(data: ml_collections.ConfigDict) -> ExampleBank:
    """Loads the bank that `config.data` describes, `drawings` applied."""
    bank = DATA_SOURCES[data.source].load(data)
    if data.drawings == "single":
        bank = dataclasses.replace(bank, examples=bank.examples[:, :1])
    return bank
