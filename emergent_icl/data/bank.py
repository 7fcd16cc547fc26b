"""ExampleBank: what can be shown, on the host and on a device."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import numpy as np

WHITE = 255
# Flips and quarter turns of an image, each a class of its own: class 8 * c + 4 * flip + rotation
# shows class c of the bank, flipped left-right if `flip`, then turned counter-clockwise by
# `rotation` quarter turns (paper section 2.1: 1,623 characters give 12,984 classes; original:
# augment_images).
NUM_VARIANTS = 8


class ExampleBank(NamedTuple):
    """Every example of every class of a data source, on the host.

    `examples` are images uint8 [classes, exemplars, H, W] (255 is background, 0 is ink), vectors
    float32 [classes, exemplars, D], or integers int32 [classes, exemplars].

    `source` states what they were made from, before any resizing; '' if unknown. If it is None,
    `load_bank` derives it from the source's generator or from the examples. `checksum` covers all
    examples that the source returned; `load_bank` sets it.
    """

    name: str
    examples: np.ndarray
    class_names: tuple[str, ...]
    source: str | None = None
    checksum: int = 0


# What compiled functions accept; they return jax.Array.
Array = jax.Array | np.ndarray
Scalar = Array | np.number


class DeviceBank(NamedTuple):
    """The examples that the compiled step looks up; the same on every device.

    `is_random`, bool [classes], says whose images are made up in each sequence; None where every
    class shows what the bank holds.
    """

    examples: Array
    is_random: Array | None = None


class SourceShape(NamedTuple):
    """The shape of a source, known without loading it.

    Attributes:
      num_classes, num_exemplars: classes, and exemplars of each.
      example_shape: shape of one example as stored: (H, W), (D,), or () for an integer.
      kind: 'image' (uint8 pixels, which the device scales to [0, 1]), 'vector' (float32
        numbers) or 'integer' (int32).
      group_size: consecutive classes that are variants of one another, and therefore
        stay on one side of the split between training and holdout; `DataSource.groups` are larger.
    """

    num_classes: int
    num_exemplars: int
    example_shape: tuple[int, ...]
    kind: Literal["image", "vector", "integer"]
    group_size: int = 1
