"""Named randomness on the device: a key for each sequence, and for each use of it."""

from __future__ import annotations

import zlib

import jax


def sequence_keys(key: jax.Array, rows: jax.Array) -> jax.Array:
    """A key for each sequence of a batch, by its row in the global batch; [B, 2].

    So nothing that is drawn depends on how sequences are spread over devices.
    """
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def named(keys: jax.Array, name: str) -> jax.Array:
    """Independent keys for another use of the same sequences; [B, 2] -> [B, 2]."""
    return jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(name.encode())))(keys)
