"""The x8 augmentation: flips and rotations as classes of their own, computed on the device.

Class 8 * c + 4 * flip + rotation shows class c of the bank, flipped left-right if `flip`,
then turned counter-clockwise by `rotation` quarter turns (paper section 2.1: 1,623
characters give 12,984 classes; original: augment_images).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

NUM_VARIANTS = 8


def split_class_ids(class_ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Augmented class -> (class of the bank, variant in [0, 8)); int, any shape."""
    return class_ids // NUM_VARIANTS, class_ids % NUM_VARIANTS


def show_variants(images: jax.Array, variants: jax.Array) -> jax.Array:
    """Flips and turns each image by its own variant.

    Three selections instead of eight: half turns, then quarter turns.

    Args:
      images: [..., H, W], H = W.
      variants: int [...], 4 * flip + rotation.
    """

    def chosen(condition: jax.Array, changed: jax.Array, images: jax.Array) -> jax.Array:
        return jnp.where(condition[..., None, None], changed, images)

    images = chosen(variants >= 4, images[..., ::-1], images)
    images = chosen(variants % 4 >= 2, images[..., ::-1, ::-1], images)
    quarter_turned = jnp.swapaxes(images, -1, -2)[..., ::-1, :]
    return chosen(variants % 2 == 1, quarter_turned, images)
