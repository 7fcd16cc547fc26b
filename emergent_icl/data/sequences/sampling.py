"""Primitives of sequence sampling, vectorized over the batch.

Shapes: B sequences, S examples, W ways. Classes are places in the split.
"""

from typing import NamedTuple

import numpy as np

# Below this probability mass, rounding errors of the remainder matter.
LITTLE_MASS = 1e-6
# Up to this many exemplars, all are permuted; another value would change the data of a seed.
MOST_PERMUTED = 64


class ClassDistribution(NamedTuple):
    """A categorical distribution over places first .. first + n - 1.

    `weights` are probabilities, float64 [n]; `cumulative` are their sums, which end at exactly 1.
    """

    first: int
    weights: np.ndarray
    cumulative: np.ndarray

    @classmethod
    def from_weights(cls, first: int, weights: np.ndarray) -> "ClassDistribution":
        """Normalizes weights, float [n], at least one of which is positive."""
        weights = weights / weights.sum()
        cumulative = np.cumsum(weights)
        # If rounding left the sum below 1, trailing classes of weight 0 could be drawn.
        cumulative[np.flatnonzero(weights)[-1] :] = 1.0
        return cls(first, weights, cumulative)

    @property
    def support(self) -> int:
        """Number of places with positive probability."""
        return int(np.count_nonzero(self.weights))

    def draw(self, rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
        """Draws independent places, int64 of `shape`."""
        uniform = rng.random(shape)
        return self.first + np.searchsorted(self.cumulative, uniform, side="right")

    def draw_excluding(
        self, rng: np.random.Generator, excluded_BK: np.ndarray, count: int
    ) -> np.ndarray:
        """Draws independent places, int64 [B, count], other than each row's excluded ones.

        Raises ValueError if all places with positive probability are excluded.
        """
        excluded = np.sort(excluded_BK, axis=1) - self.first
        starts = np.concatenate([[0.0], self.cumulative])[excluded]
        masses = self.cumulative[excluded] - starts
        masses[:, 1:][excluded[:, 1:] == excluded[:, :-1]] = 0.0
        left = 1 - masses.sum(axis=1, keepdims=True)
        uniform = rng.random((len(excluded), count)) * left
        # In order of places: skip the mass of each excluded one.
        for k in range(excluded.shape[1]):
            uniform += np.where(uniform >= starts[:, k : k + 1], masses[:, k : k + 1], 0.0)
        uniform = np.minimum(uniform, np.nextafter(1.0, 0.0))
        drawn = self.first + np.searchsorted(self.cumulative, uniform, side="right")
        # Redraw exactly where rounding crossed a border, or hardly any mass is left.
        clash = (drawn[:, :, None] == excluded_BK[:, None, :]).any(axis=(1, 2))
        for row in np.flatnonzero(clash | (left[:, 0] < LITTLE_MASS)):
            weights = self.weights.copy()
            weights[excluded[row]] = 0.0
            if not weights.any():
                raise ValueError(f"all {self.support} classes are excluded: none is left to draw")
            drawn[row] = self.from_weights(self.first, weights).draw(rng, count)
        return drawn

    def draw_distinct(self, rng: np.random.Generator, batch_size: int, count: int) -> np.ndarray:
        """Draws `count` distinct places per row, one after another; int64 [B, count].

        Raises ValueError if there are fewer.
        """
        if count > self.support:
            raise ValueError(f"needs {count} different classes, but there are {self.support}")
        drawn = self.draw(rng, (batch_size, 1))
        for _ in range(count - 1):
            drawn = np.concatenate([drawn, self.draw_excluding(rng, drawn, 1)], axis=1)
        return drawn


def draw_distinct_rows(
    rng: np.random.Generator, batch_size: int, count: int, size: int
) -> np.ndarray:
    """Draws `count` <= `size` distinct integers in [0, size) per row, uniformly; [B, count]."""
    if size < count**2:
        keys = rng.random((batch_size, size), dtype=np.float32)
        return np.argsort(keys, axis=1)[:, :count]
    # Few rows have repeats; these are redrawn as a whole.
    drawn = rng.integers(size, size=(batch_size, count))
    while True:
        repeats = ~np.diff(np.sort(drawn, axis=1), axis=1).all(axis=1)
        if not repeats.any():
            return drawn
        drawn[repeats] = rng.integers(size, size=(np.count_nonzero(repeats), count))


def shuffled_rows(rng: np.random.Generator, row: np.ndarray, num_rows: int) -> np.ndarray:
    """Permutes a row independently `num_rows` times; [num_rows, len(row)]."""
    return rng.permuted(np.tile(row, (num_rows, 1)), axis=1)


def draw_slots(
    rng: np.random.Generator, batch_size: int, shots: int, ways: int, grouped: bool
) -> np.ndarray:
    """Draws the order of ways in a few-shot context, int64 [B, shots * ways].

    Each way occurs `shots` times per row and, if `grouped`, once per consecutive block of `ways`.
    """
    if grouped:
        blocks = shuffled_rows(rng, np.arange(ways), batch_size * shots)
        return blocks.reshape(batch_size, shots * ways)
    return shuffled_rows(rng, np.repeat(np.arange(ways), shots), batch_size)


def interleave_at_random(
    rng: np.random.Generator, first_BM: np.ndarray, second_BN: np.ndarray
) -> np.ndarray:
    """Merges rows at random positions, each in its own order; [B, M + N]."""
    batch_size, count = first_BM.shape
    is_first = np.arange(count + second_BN.shape[1]) < count
    mask = shuffled_rows(rng, is_first, batch_size)
    merged = np.empty(mask.shape, first_BM.dtype)
    merged[mask] = first_BM.ravel()
    merged[~mask] = second_BN.ravel()
    return merged


class Occurrences(NamedTuple):
    """Repeats of classes in sequences, int [B, S].

    For each example: the first position of its class, and the number of earlier ones.
    """

    first: np.ndarray
    rank: np.ndarray


def find_occurrences(places_BS: np.ndarray) -> Occurrences:
    """Finds the repeats of classes in each row."""
    same = places_BS[:, :, None] == places_BS[:, None, :]
    length = places_BS.shape[1]
    rank = np.count_nonzero(same & np.tri(length, k=-1, dtype=bool), axis=-1)
    return Occurrences(same.argmax(axis=-1), rank)


def draw_exemplars(
    rng: np.random.Generator, occurrences: Occurrences, num_exemplars: int, draws: int = 2
) -> np.ndarray:
    """Draws exemplars without replacement within each class and sequence; int64 [B, S].

    If a class occurs more often than it has exemplars, they are reused evenly. `draws` is
    `data.sequences.draws`; with 2, the cost does not grow with the number of exemplars.
    """
    first, rank = occurrences
    if num_exemplars == 1:
        return np.zeros_like(rank)
    if draws > 1 and num_exemplars > MOST_PERMUTED:
        return _draw_in_turn(rng, occurrences, num_exemplars)
    # One permutation per position; a class uses that of its first position.
    keys = rng.random((*first.shape, num_exemplars), dtype=np.float32)
    permutations = np.argsort(keys, axis=-1)
    rows = np.arange(len(first))[:, None]
    return permutations[rows, first, rank % num_exemplars]


def _draw_in_turn(
    rng: np.random.Generator, occurrences: Occurrences, num_exemplars: int
) -> np.ndarray:
    """Draws each example among the remaining exemplars of its class; int64 [B, S]."""
    first, rank = occurrences
    left = rng.integers(np.maximum(num_exemplars - rank, 1)).ravel()
    # Sort examples by row and class.
    groups = np.arange(len(first))[:, None] * first.shape[1] + first
    order = np.argsort(groups, axis=None, kind="stable")
    drawn, ranks = left[order], rank.ravel()[order]
    taken = drawn.copy()  # Exemplars already drawn in each class, ascending.
    for count in range(1, min(int(ranks.max()) + 1, num_exemplars)):
        here = np.flatnonzero(ranks == count)
        shown = here[:, None] - np.arange(count, -1, -1)
        before = taken[shown[:, :-1]]
        # `before - k` remaining exemplars precede the k-th taken one.
        drawn[here] += np.count_nonzero(before - np.arange(count) <= drawn[here, None], axis=1)
        taken[shown] = np.sort(np.column_stack([before, drawn[here]]), axis=1)
    again = np.arange(len(drawn)) - ranks + ranks % num_exemplars
    exemplars = np.empty_like(drawn)
    exemplars[order] = drawn[again]
    return exemplars.reshape(first.shape)


def draw_per_class(rng: np.random.Generator, occurrences: Occurrences, count: int) -> np.ndarray:
    """Draws one of `count` values per class and sequence; int64 [B, S]."""
    values = rng.integers(count, size=occurrences.first.shape)
    return np.take_along_axis(values, occurrences.first, axis=1)
