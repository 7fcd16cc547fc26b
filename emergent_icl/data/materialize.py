"""Maps indices to examples on the device, inside the compiled step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import NUM_VARIANTS, WHITE, Array, DeviceBank, Scalar, SourceShape
from emergent_icl.randomness import named_keys

# (bank, class_ids [B, S], exemplar_ids [B, S], keys [B, 2], noise scale) -> examples [B, S, ...]
Materialize = Callable[[DeviceBank, Array, Array, Array, Scalar], jax.Array]


def make_materialize(data: ml_collections.ConfigDict, shape: SourceShape) -> Materialize:
    """Makes the function that maps indices to encoder inputs, for `config.data`.

    Images become float32 [..., H, W, 1] in [0, 1]; vectors and integers are unchanged. If
    `noise_scale` is positive, the source's `vary` is applied each time an example is shown (paper
    section 3.1). Keys are used only if `is_stochastic`.
    """
    vary = jax.vmap(DATA_SOURCES[data.source].vary, in_axes=(0, 0, None))
    is_image, is_noisy = shape.kind == "image", data.noise_scale > 0

    def materialize(
        bank: DeviceBank,
        class_ids: Array,
        exemplar_ids: Array,
        keys: Array,
        noise_scale: Scalar,
    ) -> jax.Array:
        if data.augment:
            bank_classes, variants = class_ids // NUM_VARIANTS, class_ids % NUM_VARIANTS
            examples = show_variants(bank.examples[bank_classes, exemplar_ids], variants)
        else:
            examples = bank.examples[class_ids, exemplar_ids]
        if is_image:
            examples = WHITE - examples if data.inverted else examples
            examples = examples.astype(jnp.float32)[..., None] / WHITE
        if data.random_rare_images:
            noise = random_images(keys, class_ids, examples.shape[2:])
            assert bank.is_random is not None
            is_random = bank.is_random[class_ids]
            examples = jnp.where(is_random[..., None, None, None], noise, examples)
        return vary(examples, keys, noise_scale) if is_noisy else examples

    return materialize


def random_images(keys: Array, class_ids: Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws images of independent binary pixels, float32 [B, S, *shape].

    All examples of a class in a sequence share an image (reference implementation:
    randomly_generate_rare).
    """

    def one(key: jax.Array, class_id: Array) -> jax.Array:
        return jax.random.bernoulli(jax.random.fold_in(key, class_id), shape=shape)

    of_sequences = jax.vmap(jax.vmap(one, in_axes=(None, 0)))
    return of_sequences(named_keys(keys, "random images"), class_ids).astype(jnp.float32)


def is_stochastic(data: ml_collections.ConfigDict) -> bool:
    """Whether an exemplar may look different each time it is shown."""
    return data.noise_scale > 0 or data.random_rare_images


def show_variants(images: Array, variants: Array) -> jax.Array:
    """Flips and rotates images [..., H, W], H = W, by their variants 4 * flip + rotation, [...]."""
    # Three selections instead of eight: flips, half turns, and quarter turns.

    def chosen(condition: Array, changed: Array, images: Array) -> jax.Array:
        return jnp.where(condition[..., None, None], changed, images)

    images = chosen(variants >= 4, images[..., ::-1], images)
    images = chosen(variants % 4 >= 2, images[..., ::-1, ::-1], images)
    quarter_turned = jnp.swapaxes(images, -1, -2)[..., ::-1, :]
    return chosen(variants % 2 == 1, quarter_turned, images)
