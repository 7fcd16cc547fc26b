"""ExampleBank: what can be shown, on the host and on a device."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import numpy as np

WHITE = 255
# Flips and quarter turns of an image, each a class of its own: class 8 * c + 4 * flip + rotation
# shows class c of the bank, flipped left-right if `flip`, then turned counter-clockwise by
# `rotation` quarter turns (paper section 2.1: 1,623 characters give 12,984 classes; original:
# augment_images).
NUM_VARIANTS = 8


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
    """What the compiled step looks examples up in; the same on every device.

    Attributes:
      examples: those of the ExampleBank.
      is_random: bool [classes], whose images are made up in each sequence; None where
        every class shows what the bank holds.
    """

    examples: jax.Array | np.ndarray
    is_random: jax.Array | np.ndarray | None = None


class SourceShape(NamedTuple):
    """What a source will hold, known without loading it.

    Attributes:
      num_classes: number of classes.
      num_exemplars: exemplars of each class.
      example_shape: shape of one example as stored: (H, W), (D,), or () for an integer.
      kind: 'image' (uint8 pixels, which the device scales to [0, 1]), 'vector' (float32
        numbers) or 'integer' (int32).
      group_size: consecutive classes that are variants of one another, and therefore
        stay on one side of the split between training and holdout.
    """

    num_classes: int
    num_exemplars: int
    example_shape: tuple[int, ...]
    kind: Literal["image", "vector", "integer"]
    group_size: int = 1
