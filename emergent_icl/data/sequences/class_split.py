"""Which class plays which role: rare | common | holdout, and how often each is drawn.

Everything after this module counts classes by their *place* in the split:
rare classes are 0 .. num_rare-1, then common, then holdout. `ClassSplit.class_ids`
turns places into the data source's own class numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import ml_collections
import numpy as np


class ClassSplit(NamedTuple):
    """Roles of classes.

    Attributes:
      class_ids: int32 [num_rare + num_common + num_holdout], place -> class of the bank.
      num_rare: number of rare classes, at places 0 .. num_rare - 1.
      num_common: number of common classes, at the places that follow.
      num_holdout: number of classes never trained on, at the last places.
    """

    class_ids: np.ndarray
    num_rare: int
    num_common: int
    num_holdout: int

    @property
    def num_train(self) -> int:
        """Number of classes that are trained on: rare and common."""
        return self.num_rare + self.num_common

    @property
    def rare(self) -> range:
        """Places of the rare classes."""
        return range(self.num_rare)

    @property
    def common(self) -> range:
        """Places of the common classes."""
        return range(self.num_rare, self.num_train)

    @property
    def train(self) -> range:
        """Places of all classes that are trained on."""
        return range(self.num_train)

    @property
    def holdout(self) -> range:
        """Places of the holdout classes."""
        return range(self.num_train, self.num_train + self.num_holdout)


def split_classes(
    split: ml_collections.ConfigDict, num_classes: int, group_size: int = 1
) -> ClassSplit:
    """Splits classes by a fixed permutation, as the original does.

    Args:
      split: config.data.split: seed (1337 is the original's), num_rare, num_common,
        num_holdout.
      num_classes: classes that the data show.
      group_size: consecutive classes that are variants of one another. Groups are
        permuted, and none has members on both sides of the split between training and
        holdout (original: preserve_ordering_every_n).

    Returns:
      The split: rare classes are the permutation's first, common the next, holdout the last.

    Raises:
      ValueError: more classes are asked for than there are.
    """
    num_train, num_holdout = split.num_rare + split.num_common, split.num_holdout
    wanted = num_train + num_holdout
    if wanted > num_classes:
        raise ValueError(
            f"data.split: num_rare + num_common + num_holdout = {wanted}, "
            f"but the data has {num_classes} classes"
        )
    if num_classes % group_size:
        raise ValueError(
            f"the data source has {num_classes} classes, which is no multiple of its groups of "
            f"{group_size} variants"
        )
    num_groups = num_classes // group_size
    needed = math.ceil(num_train / group_size) + math.ceil(num_holdout / group_size)
    if needed > num_groups:
        raise ValueError(
            f"data.split: num_rare + num_common = {num_train} and num_holdout = {num_holdout} "
            f"need {needed} groups of {group_size} variants, which stay on one side of the "
            f"split, but the data has {num_groups}"
        )
    groups = np.random.default_rng(split.seed).choice(num_groups, num_groups, replace=False)
    order = (groups[:, None] * group_size + np.arange(group_size)).ravel()
    class_ids = np.concatenate([order[:num_train], order[num_classes - num_holdout :]])
    return ClassSplit(class_ids.astype(np.int32), split.num_rare, split.num_common, num_holdout)


def zipf_weights(num_classes: int, exponent: float) -> np.ndarray:
    """Probabilities p(rank r) ~ 1 / r^exponent of rare and common classes, by place.

    The last place (the last common class) has rank 1, the first has rank
    `num_classes`: common classes are the most frequent (paper section 3.2).

    Args:
      num_classes: rare and common classes together.
      exponent: Zipf's alpha, >= 0; 0 is uniform.

    Returns:
      float64 [num_classes], summing to 1.
    """
    ranks = np.arange(num_classes, 0, -1, dtype=np.float64)
    # Relative to rank 1, in logarithms: large exponents underflow to 0, not to NaN.
    weights = np.exp(-exponent * np.log(ranks))
    return weights / weights.sum()
