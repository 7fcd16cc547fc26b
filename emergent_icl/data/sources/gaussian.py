"""Clusters of vectors: each class has a mean, and a new exemplar is drawn whenever it is shown.

Source: Reddy 2023 (arXiv 2312.03002), equation 1.
"""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from emergent_icl import randomness
from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sources.source import DataSource


def load_gaussian(data: ml_collections.ConfigDict) -> ExampleBank:
    """Draws class means, [classes, 1, D], of expected squared norm 1.

    The mean of class c does not depend on the number of classes.
    """
    count, dimension = data.gaussian.num_classes, data.gaussian.dimension
    rng = randomness.generator(data.gaussian.seed, "gaussian")
    means = rng.standard_normal((count, dimension)) / np.sqrt(dimension)
    # Splits refer to these names.
    names = tuple(f"cloud {i}" for i in range(count))
    return ExampleBank("gaussian", means.astype(np.float32)[:, None], names)


def gaussian_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """One stored example per class, its mean."""
    return SourceShape(data.gaussian.num_classes, 1, (data.gaussian.dimension,), "vector")


def draw_around_mean(means_SD: jax.Array, key: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Draws (mean + epsilon * noise) / sqrt(1 + epsilon^2), [S, D], at the scale of the means.

    `epsilon` >= 0 is the variation within classes relative to that between classes.
    """
    noise_SD = jax.random.normal(key, means_SD.shape) / jnp.sqrt(means_SD.shape[-1])
    return (means_SD + epsilon * noise_SD) / jnp.sqrt(1 + epsilon**2)


DATA_SOURCES.register("gaussian")(
    DataSource(
        gaussian_shape, load_gaussian, draw_around_mean, keep_classes=("num_classes",), generator=1
    )
)
