"""Held-out classes that look like training classes: the nearest ones, and accuracy without them.

The rule: what is left out is left out with all its variants, and with every sequence that shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from scipy import ndimage

from emergent_icl.data.bank import DeviceBank, SourceShape
from emergent_icl.data.materialize import Materialize
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.data.sequences.split import ClassSplit
from emergent_icl.data.ticks import ticking
from emergent_icl.evaluation.evaluate import Evaluator, in_parts
from emergent_icl.evaluation.metrics import Interval, interval
from emergent_icl.models.network import BatchStats, Params

# Standard deviation of the blur, in sides of the image; pixels a side that are compared.
BLUR, SIDE = 0.04, 28
# Examples that are encoded, of all classes together; distances that are held at once.
MOST_EXAMPLES, MOST_DISTANCES = 20_000, 10_000_000

# class_ids [n] -> a vector for each, float32 [n, F]
Describe = Callable[[np.ndarray], np.ndarray]


class Nearest(NamedTuple):
    """The training class nearest to each held-out character, nearest pairs first.

    Of the variants of a character, the one that has the nearest.

    Attributes:
      holdout, training: classes of the bank, int [n].
      distances: 1 - cosine of the angle between them, seen from the mean of all training classes;
        float [n] in [0, 2].
    """

    holdout: np.ndarray
    training: np.ndarray
    distances: np.ndarray

    def first(self, share: float) -> Nearest:
        """The nearest pairs: a share of all, in (0, 1], rounded up."""
        # Less what the product may be rounded up by.
        count = math.ceil(share * len(self.holdout) - 1e-9)
        return Nearest(*(column[:count] for column in self))


def find_nearest(
    split: ClassSplit, group_size: int, describe: Describe, role: str = "zipfian"
) -> Nearest:
    """Compares held-out classes with the training classes of a role, of both at least one.

    Variants of one character are `group_size` consecutive classes.
    """
    training, holdout = (split.class_ids[split.places(name)] for name in (role, "holdout"))
    training_TF, holdout_HF = describe(training), describe(holdout)
    center_F = training_TF.mean(axis=0)
    training_TF, holdout_HF = (_unit_length(one - center_F) for one in (training_TF, holdout_HF))
    parts = np.array_split(holdout_HF, 1 + len(holdout) * len(training) // MOST_DISTANCES)
    parts = ticking("comparing classes", parts, len(parts))
    nearest = [(c.argmax(axis=1), c.max(axis=1)) for c in (part @ training_TF.T for part in parts)]
    place, cosine = map(np.concatenate, zip(*nearest, strict=True))
    order = np.argsort(-cosine, kind="stable")
    # The first of each character, in the order of their distances.
    _, firsts = np.unique(holdout[order] // group_size, return_index=True)
    order = order[np.sort(firsts)]
    return Nearest(holdout[order], training[place[order]], np.maximum(1 - cosine[order], 0.0))


def _unit_length(vectors_NF: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors_NF, axis=1, keepdims=True)
    return vectors_NF / np.maximum(lengths, np.finfo(np.float32).tiny)


def mean_examples(bank: DeviceBank) -> DeviceBank:
    """A host bank with a single example of each class, the mean of its examples."""
    means = np.mean(bank.examples, axis=1, keepdims=True, dtype=np.float32)
    return bank._replace(examples=means)


def by_examples(
    materialize: Materialize, bank: DeviceBank, shape: SourceShape
) -> tuple[str, Describe]:
    """'blurred pixels' or 'vectors': a class is the mean of its examples, as they are stored."""
    means = mean_examples(bank).examples
    is_image = shape.kind == "image"
    if is_image:
        side = means.shape[-1]
        # Means of blurred images are blurred means; what is blurred needs no more pixels.
        means = ndimage.gaussian_filter(means, (0, 0, BLUR * side, BLUR * side))
        step = math.ceil(side / SIDE)
        means = means[..., step // 2 :: step, step // 2 :: step]
    small = jax.device_put(bank._replace(examples=means))

    def describe(class_ids: np.ndarray) -> np.ndarray:
        shown = jax.jit(materialize)(small, *_rows(class_ids, 1), np.float32(0))
        return np.asarray(shown, np.float32).reshape(len(class_ids), -1)

    return "blurred pixels" if is_image else "vectors", describe


def by_encoder(
    evaluator: Evaluator,
    params: Params,
    batch_stats: BatchStats,
    bank: DeviceBank,
    split: ClassSplit,
    num_exemplars: int,
) -> Describe:
    """A class is the mean embedding of its first examples, without noise."""
    count = min(num_exemplars, max(1, MOST_EXAMPLES // len(split.class_ids)))
    model = jax.device_put((params, batch_stats, bank, np.float32(0)))

    def describe(class_ids: np.ndarray) -> np.ndarray:
        rows = _rows(class_ids, count)
        size = evaluator.config.evaluation.batch_size
        parts = in_parts(lambda *part: evaluator.compiled.embed(model, *part), size, *rows)
        embeddings = np.concatenate(jax.device_get(parts))[: len(rows[0])]
        return embeddings.reshape(len(class_ids), count, -1).mean(axis=1, dtype=np.float32)

    return describe


def _rows(class_ids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first exemplars of classes as sequences of length 1, without random numbers."""
    classes = class_ids.repeat(count)[:, None]
    exemplars = np.tile(np.arange(count, dtype=np.int32), len(class_ids))[:, None]
    return classes, exemplars, np.zeros((len(classes), 2), np.uint32)


class Without(NamedTuple):
    """An accuracy over the sequences that do not show the nearest held-out characters."""

    num_left_out: int  # characters
    num_sequences: int  # that are left
    accuracy: Interval | None  # None where no sequence is left


def accuracy_without(
    left_out: np.ndarray, group_size: int, batch: SequenceBatch, right: np.ndarray
) -> Without:
    """Of sequences [N, S] and whether each is answered correctly, float [N].

    Left out are the characters of some classes, int [n], and every sequence that shows one of them,
    in its context or as its query.
    """
    characters = np.unique(left_out // group_size)
    kept = right[~np.isin(batch.class_ids // group_size, characters).any(axis=1)]
    accuracy = interval(kept, is_proportion=True) if len(kept) else None
    return Without(len(characters), len(kept), accuracy)
