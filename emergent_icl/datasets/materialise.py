"""From indices to examples, on the device, inside the compiled step."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from emergent_icl.datasets.bank import WHITE, DeviceBank, SourceShape

# (bank, class_ids [B, S], exemplar_ids [B, S], keys [B], noise scale) -> examples [B, S, ...]
Materialise = Callable[[DeviceBank, jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def make_materialise(shape: SourceShape, inverted: bool, noisy: bool) -> Materialise:
    """Builds the function that turns indices into what the encoder sees.

    Images become float32 [..., H, W, 1] in [0, 1]; vectors and integers stay.

    Args:
      shape: of the data source.
      inverted: False is background 1 and ink 0, True the opposite.
      noisy: whether Gaussian noise of the given scale is added to every pixel,
        unclipped (paper section 3.1). The keys are not read otherwise.
    """

    def materialise(
        bank: DeviceBank,
        class_ids: jax.Array,
        exemplar_ids: jax.Array,
        keys: jax.Array,
        noise_scale: jax.Array,
    ) -> jax.Array:
        examples = bank.examples[class_ids, exemplar_ids]
        if shape.kind != "image":
            return examples
        examples = WHITE - examples if inverted else examples
        images = examples.astype(jnp.float32)[..., None] / WHITE
        if noisy:
            # A key a sequence: noise does not depend on how sequences are spread.
            draw = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))
            images = images + noise_scale * draw(keys)
        return images

    return materialise


def sequence_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
    """A key for each sequence of a batch, by its row in the global batch; [B, 2]."""
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
