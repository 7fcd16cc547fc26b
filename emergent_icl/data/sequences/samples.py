"""Samples of sequences from named seeds, such as those of an evaluation mode."""

import math

import numpy as np

from emergent_icl import randomness
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.types import Sampler

# Sequences per draw; another value would change the sample of a seed.
BLOCK_SEQUENCES = 1000


def draw_sample(sampler: Sampler, seed: int, name: str, count: int) -> SequenceBatch:
    """Draws `count` >= 1 sequences; a smaller sample is a prefix of a larger one.

    Samples with different names are independent.
    """
    blocks = [
        sampler(randomness.generator(seed, name, block), BLOCK_SEQUENCES)
        for block in range(math.ceil(count / BLOCK_SEQUENCES))
    ]
    return SequenceBatch(*(np.concatenate(leaves)[:count] for leaves in zip(*blocks, strict=True)))
