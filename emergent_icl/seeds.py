"""Named randomness: every draw on the host comes from (seed, name, index)."""

from __future__ import annotations

import json
import zlib

import numpy as np


def generator(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """A generator that depends on its arguments alone.

    Args:
      seed: the seed of the run, in [0, 2^32).
      name: what is drawn, e.g. 'train' or 'evaluation/fewshot_holdout'; names are
        independent of each other.
      index: which block of it, >= 0.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index])


def fingerprint(content: object) -> int:
    """A 32-bit number that names JSON-able content, the same on every machine."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
