"""Named randomness: each draw depends on a seed, a name, and an index alone."""

import json
import zlib

import jax
import numpy as np


def generator(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """A generator for the host, independent for different arguments.

    Args:
      seed: of the run, in [0, 2^32).
      name: of the stream, such as 'train' or 'evaluation/fewshot_holdout'.
      index: of the block in the stream, >= 0.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index])


def fingerprint(content: object) -> int:
    """A 32-bit checksum of JSON content, the same on every machine."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def sequence_keys(key: jax.Array, rows: jax.Array | np.ndarray) -> jax.Array:
    """Keys [B, 2] of sequences, by their rows [B] in the global batch.

    Draws therefore do not depend on how sequences are spread over devices.
    """
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def named_keys(keys: jax.Array | np.ndarray, name: str) -> jax.Array:
    """Independent keys [B, 2] for another use of the same sequences."""
    return jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(name.encode())))(keys)
