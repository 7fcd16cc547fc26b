"""Why accuracy varies between replicas: evaluation sequences, held-out classes, training.

Each of S class splits is trained with each of T seeds. The T runs of a split answer the same N
sequences, each of which shows M of the split's K held-out classes. Answers to sequences that share
classes covary, within a run and between runs of a split. These covariances give the variance of
accuracy over sets of any number of classes (a U-statistic of order M; Hoeffding 1948). A two-way
analysis of variance gives the effects of splits and seeds.
"""

import math
from typing import NamedTuple

import numpy as np

from emergent_icl.evaluation.metrics import Interval
from emergent_icl.sweeps.answers import Answers
from emergent_icl.sweeps.statistics import LEVEL

# Sources of variance, in the order of `Variances.sources`.
SOURCES = (
    "evaluation sequences",
    "held-out classes",
    "training seed",
    "rest of training",
)
TOGETHER = "together"
# Sequences that are compared with all others at a time, to save memory.
_BLOCK = 250
# Draws that intervals are computed from, and their seed.
_DRAWS, _SEED = 10_000, 0


class Variances(NamedTuple):
    """Variances and covariances of answers (0 or 1) and accuracies.

    Arrays of any leading shape: [] for estimates, which may be negative; [draws] for their
    uncertainty.
    """

    answer: np.ndarray  # of a run's answer
    same_sequence: np.ndarray  # covariance of two runs' answers to one sequence
    # Covariances of answers to two sequences that share 1 to M classes, [..., M].
    within: np.ndarray  # by one run
    between: np.ndarray  # by two runs of a split
    split: np.ndarray  # effect of a split on accuracy, the same for all training seeds
    seed: np.ndarray  # effect of a training seed on accuracy, the same in all splits
    rest: np.ndarray  # of accuracy, beyond these two effects
    num_classes: int  # K, held-out classes of a split

    def sources(self, num_classes: int, num_sequences: int) -> dict[str, np.ndarray]:
        """Variance of a run's accuracy by source, if its split and training seed are its own.

        Args:
          num_classes: number of held-out classes, at least M.
          num_sequences: number of evaluation sequences.

        Returns:
          {name in SOURCES: variance}, at least 0. The effect of a training seed is the one that is
          the same in all splits; what it does in one split only is part of the rest.

        Raises:
          ValueError: there are too few classes.
        """
        shared, own = self._parts(num_classes, num_sequences)
        sums = (one + other for one, other in zip(shared, own, strict=True))
        return {name: np.maximum(one, 0) for name, one in zip(SOURCES, sums, strict=True)}

    def of_mean(
        self, num_runs: int, num_classes: int, num_sequences: int, *, one_split: bool
    ) -> np.ndarray:
        """Variance of the mean accuracy of runs, each with its own training seed; see `sources`.

        With `one_split`, they share held-out classes and evaluation sequences, whose effects do
        not average out; otherwise each has its own. It is at least 0, and of one run it is the sum
        of all sources if none of them is negative.
        """
        shared, own = map(sum, self._parts(num_classes, num_sequences))
        total = np.maximum(shared + own, 0)
        fixed = np.clip(shared, 0, total) if one_split else np.zeros_like(total)
        return fixed + (total - fixed) / num_runs

    def _parts(self, num_classes: int, num_sequences: int) -> list[list[np.ndarray]]:
        """The sources' variances that the runs of a split share, and their own."""
        parts = []
        for answer, covariances, effect, seed in (
            (self.same_sequence, self.between, self.split, np.zeros_like(self.seed)),
            (self.answer - self.same_sequence, self.within - self.between, self.rest, self.seed),
        ):
            classes = over_sets(covariances, num_classes)
            # The effect of these runs' own held-out classes is part of `effect`.
            rest = effect - over_sets(covariances, self.num_classes)
            parts.append([(answer - classes) / num_sequences, classes, seed, rest])
        return parts


class Decomposition(NamedTuple):
    """Estimates, and draws of their uncertainty."""

    accuracy: float  # mean over runs, in [0, 1]
    estimates: Variances
    draws: Variances

    def deviations(self, num_classes: int, num_sequences: int) -> dict[str, Interval]:
        """Standard deviation of a run's accuracy by source and by all, with 95% intervals.

        Arguments and errors are those of `Variances.sources`.
        """
        estimates, draws = (one.sources(num_classes, num_sequences) for one in self[1:])
        found = {name: _deviation(estimates[name], draws[name]) for name in SOURCES}
        together = self.error_of_mean(1, num_classes, num_sequences, one_split=False)
        return {**found, TOGETHER: together}

    def error_of_mean(
        self, num_runs: int, num_classes: int, num_sequences: int, *, one_split: bool
    ) -> Interval:
        """Standard error of a mean over runs, with its 95% interval; see `Variances.of_mean`."""
        given = (num_runs, num_classes, num_sequences)
        estimate, draws = (one.of_mean(*given, one_split=one_split) for one in self[1:])
        return _deviation(estimate, draws)


def decompose(answers: Answers) -> Decomposition:
    """Estimates variances from at least two splits and two seeds.

    Estimates are unbiased up to 1/N. Draws are those of generalized confidence intervals
    (Weerahandi 1993): chi-squared for mean squares, and a multivariate t over splits for
    covariances, each independent of the other.

    Raises:
      ValueError: there are too few held-out classes or sequences, or sequences differ in the number
        of classes that they show.
    """
    num_splits, num_seeds, num_sequences = answers.is_correct.shape
    num_classes = answers.shows.shape[-1]
    accuracies = answers.is_correct.mean(axis=2)
    by_split = zip(answers.is_correct, answers.shows, strict=True)
    found = np.array([_covariances(*one) for one in by_split])
    squares, freedom = mean_squares(accuracies)

    def variances(covariances: np.ndarray, squares: np.ndarray) -> Variances:
        within, between = covariances[..., 0, :-1], covariances[..., 1, :-1]
        answer, same = covariances[..., 0, -1], covariances[..., 1, -1]
        # Mean squares include the sampling of sequences.
        shared = (same - over_sets(between, num_classes)) / num_sequences
        own = (answer - same - over_sets(within - between, num_classes)) / num_sequences
        of_split, of_seed, of_rest = np.moveaxis(squares, -1, 0)
        return Variances(
            answer, same, within, between,
            (of_split - of_rest) / num_seeds - shared,
            (of_seed - of_rest) / num_splits,
            of_rest - own,
            num_classes,
        )  # fmt: skip

    rng = np.random.default_rng(_SEED)
    drawn_squares = squares * freedom / rng.chisquare(freedom, (_DRAWS, 3))
    drawn = _t_draws(rng, found.reshape(num_splits, -1)).reshape(_DRAWS, *found.shape[1:])
    return Decomposition(
        float(accuracies.mean()),
        variances(found.mean(axis=0), squares),
        variances(drawn, drawn_squares),
    )


def over_sets(covariances: np.ndarray, num_classes: int) -> np.ndarray:
    """Variance of the mean answer over random sets of classes, all sequences of each included.

    Args:
      covariances: of answers to two sequences that share 1 to M classes, [..., M].
      num_classes: size of a set, at least M.

    Returns:
      [...]

    Raises:
      ValueError: there are fewer than M classes.
    """
    order = covariances.shape[-1]
    if num_classes < order:
        raise ValueError(f"a set of {num_classes} classes is too small: sequences show {order}")
    shares = [
        math.comb(order, shared) * math.comb(num_classes - order, order - shared)
        for shared in range(1, order + 1)
    ]
    return covariances @ np.divide(shares, math.comb(num_classes, order))


def mean_squares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares of rows, columns, and the rest of a table [S, T], and their degrees of freedom.

    Their expectations are r + T * rows, r + S * columns, and r, the variance of the rest.
    """
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    mean, freedom = values.mean(), np.subtract(values.shape, 1)
    squares = np.array([
        values.shape[1] * ((rows - mean) ** 2).sum(),
        values.shape[0] * ((columns - mean) ** 2).sum(),
        ((values - rows - columns + mean) ** 2).sum(),
    ])  # fmt: skip
    freedom = np.array([*freedom, freedom.prod()])
    return squares / freedom, freedom


def _covariances(is_correct: np.ndarray, shows: np.ndarray) -> np.ndarray:
    """Covariances of answers to two sequences of a split, [2, M + 1].

    By one run, then by two; of sequences that share 1 to M classes, and of the same sequence.
    is_correct: [T, N]; shows: [N, K].
    """
    num_runs, num_sequences = is_correct.shape
    order, *others = np.unique(shows.sum(axis=1)).tolist()
    if others:
        raise ValueError(
            f"sequences show {order} to {others[-1]} different held-out classes (variants of a "
            "character are one class), but must all show the same number"
        )
    shown = shows.astype(np.float32)
    residuals = is_correct - is_correct.mean(axis=1, keepdims=True)
    # Sums over pairs that share 0 to M classes, then of a sequence with itself.
    counts, own, all_pairs = np.zeros((3, order + 2))
    for first in range(0, num_sequences, _BLOCK):
        rows = slice(first, first + _BLOCK)
        shared = np.rint(shown[rows] @ shown.T).astype(int)
        shared[np.arange(len(shared)), np.arange(num_sequences)[rows]] = order + 1
        by_run = residuals[:, rows].T @ residuals
        by_all = np.outer(residuals[:, rows].sum(axis=0), residuals.sum(axis=0))
        for total, values in ((counts, None), (own, by_run), (all_pairs, by_all)):
            weights = None if values is None else values.ravel()
            total += np.bincount(shared.ravel(), weights, minlength=order + 2)
    if not counts.all():
        raise ValueError(
            f"{num_sequences} sequences with {order} of {shows.shape[1]} held-out classes each are "
            "too few: some pairs must share no class, and some all"
        )
    pairs = counts * num_runs
    found = np.array([own / pairs, (all_pairs - own) / (pairs * (num_runs - 1))])
    # Residuals from an estimated mean are negatively correlated, nearly all to the same degree.
    return found[:, 1:] - found[:, :1]


def _t_draws(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Draws of the mean of independent rows [S, n], [draws, n]: multivariate t."""
    count = len(values)
    error = np.atleast_2d(np.cov(values, rowvar=False)) / count
    normal = rng.multivariate_normal(np.zeros(len(error)), error, _DRAWS, method="eigh")
    scale = np.sqrt((count - 1) / rng.chisquare(count - 1, (_DRAWS, 1)))
    return values.mean(axis=0) + normal * scale


def _deviation(variance: np.ndarray, draws: np.ndarray) -> Interval:
    tails = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # No number in [0, 1] has a larger standard deviation than 0.5.
    return Interval(*np.minimum(np.sqrt([variance, *tails]), 0.5).tolist())
