"""Held-out classes that resemble training classes, and accuracy without them.

A character is excluded with all its variants and with every sequence that shows it.
"""

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

# Standard deviation of the blur, relative to the side of an image; pixels per side after it.
BLUR, SIDE = 0.04, 28
# Limits on encoded examples (of all classes) and on distances in memory.
MOST_EXAMPLES, MOST_DISTANCES = 20_000, 10_000_000

# class_ids [n] -> one vector per class, float32 [n, F]
Describe = Callable[[np.ndarray], np.ndarray]


class Nearest(NamedTuple):
    """Each held-out character's variant nearest to a training class, by increasing distance."""

    holdout: np.ndarray  # class of the bank, int [n]
    training: np.ndarray  # its nearest class of the bank, int [n]
    # 1 - cosine similarity after subtracting the mean of all training classes, float [n] in [0, 2]
    distances: np.ndarray

    def first(self, share: float) -> "Nearest":
        """The nearest pairs: a share in (0, 1] of all, rounded up."""
        # Tolerates rounding errors of the product.
        count = math.ceil(share * len(self.holdout) - 1e-9)
        return Nearest(*(column[:count] for column in self))


def find_nearest(
    split: ClassSplit, group_size: int, describe: Describe, role: str = "zipfian"
) -> Nearest:
    """Compares held-out classes with the training classes of a role; neither may be empty.

    Variants of a character are `group_size` consecutive classes.
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
    # The nearest variant of each character, in order of distance.
    _, firsts = np.unique(holdout[order] // group_size, return_index=True)
    order = order[np.sort(firsts)]
    return Nearest(holdout[order], training[place[order]], np.maximum(1 - cosine[order], 0.0))


def _unit_length(vectors_NF: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors_NF, axis=1, keepdims=True)
    return vectors_NF / np.maximum(lengths, np.finfo(np.float32).tiny)


def mean_examples(bank: DeviceBank) -> DeviceBank:
    """A host bank with a single example per class, the mean of its examples."""
    means = np.mean(bank.examples, axis=1, keepdims=True, dtype=np.float32)
    return bank._replace(examples=means)


def by_examples(
    materialize: Materialize, bank: DeviceBank, shape: SourceShape
) -> tuple[str, Describe]:
    """Describes a class by the mean of its stored examples: 'blurred pixels' or 'vectors'."""
    means = mean_examples(bank).examples
    is_image = shape.kind == "image"
    if is_image:
        side = means.shape[-1]
        # The mean of blurred images is the blurred mean. Fewer pixels suffice after blurring.
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
    """Describes a class by the mean embedding of its first examples, without noise."""
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
    """The first exemplars of classes, as sequences of length 1 with keys of zeros."""
    classes = class_ids.repeat(count)[:, None]
    exemplars = np.tile(np.arange(count, dtype=np.int32), len(class_ids))[:, None]
    return classes, exemplars, np.zeros((len(classes), 2), np.uint32)


class Without(NamedTuple):
    """Accuracy on the sequences that do not show the nearest held-out characters."""

    num_left_out: int  # characters
    num_sequences: int  # remaining
    accuracy: Interval | None  # None if no sequence remains


def accuracy_without(
    left_out: np.ndarray, group_size: int, batch: SequenceBatch, is_correct: np.ndarray
) -> Without:
    """Accuracy without the characters of the classes `left_out`, int [n].

    Given sequences [N, S] and whether each is answered correctly, float [N], excludes those that
    show such a character in the context or as the query.
    """
    characters = np.unique(left_out // group_size)
    kept = is_correct[~np.isin(batch.class_ids // group_size, characters).any(axis=1)]
    accuracy = interval(kept, is_proportion=True) if len(kept) else None
    return Without(len(characters), len(kept), accuracy)
