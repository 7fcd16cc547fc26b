"""Banks of examples on the host and on devices."""

from typing import Literal, NamedTuple

import jax
import numpy as np

WHITE = 255
# Flips and rotations are separate classes: class 8 * c + 4 * flip + rotation shows class c of the
# bank, flipped left-right if `flip`, then rotated counterclockwise by `rotation` * 90 degrees
# (paper section 2.1; reference implementation: augment_images).
NUM_VARIANTS = 8


class ExampleBank(NamedTuple):
    """All examples of a data source, on the host.

    `examples` are images uint8 [classes, exemplars, H, W] (255 is background, 0 is ink), vectors
    float32 [classes, exemplars, D], or integers int32 [classes, exemplars].

    `source` identifies their origin before any resizing; '' if unknown. If it is None, `load_bank`
    derives it from the generator or the examples. `load_bank` also sets `checksum`, which covers
    all examples of the source.
    """

    name: str
    examples: np.ndarray
    class_names: tuple[str, ...]
    source: str | None = None
    checksum: int = 0


# Compiled functions accept either kind and return jax.Array.
Array = jax.Array | np.ndarray
Scalar = Array | np.number


class DeviceBank(NamedTuple):
    """The examples as compiled functions read them, also before they are placed on a device.

    `is_random`, bool [classes], marks classes shown as random images; None if there are none.
    """

    examples: Array
    is_random: Array | None = None


class SourceShape(NamedTuple):
    """The shape of a source, known without loading it.

    Attributes:
      num_classes, num_exemplars: classes, and exemplars per class.
      example_shape: shape of a stored example: (H, W), (D,), or () for an integer.
      kind: 'image' (uint8; the device scales to [0, 1]), 'vector' (float32), or 'integer' (int32).
      group_size: number of consecutive classes that are variants of one another. The split keeps
        them together, in training or in holdout. `DataSource.groups` names larger groups.
    """

    num_classes: int
    num_exemplars: int
    example_shape: tuple[int, ...]
    kind: Literal["image", "vector", "integer"]
    group_size: int = 1
