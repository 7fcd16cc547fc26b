"""Named randomness: a draw comes from a seed, a name and an index, on the host and on devices."""

from __future__ import annotations

import json
import zlib

import jax
import numpy as np


def generator(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """A generator for draws on the host that depends on its arguments alone.

    That is the seed of a run, in [0, 2^32), what is drawn ('train', 'evaluation/fewshot_holdout'),
    and which block of it, >= 0; all are independent of each other.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index])


def fingerprint(content: object) -> int:
    """A 32-bit number that names JSON-able content, the same on every machine."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def sequence_keys(key: jax.Array, rows: jax.Array | np.ndarray) -> jax.Array:
    """A key for each sequence of a batch, by its row in the global batch; [B, 2].

    So nothing that is drawn depends on how sequences are spread over devices.
    """
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def named_keys(keys: jax.Array | np.ndarray, name: str) -> jax.Array:
    """Independent keys for another use of the same sequences; [B, 2] -> [B, 2]."""
    return jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(name.encode())))(keys)
