"""Why accuracy varies between replicates: evaluation sequences, held-out classes, training.

Replicates cross S class splits with T training seeds. The T runs of a split answer the same N
sequences, each of which shows M of the split's held-out classes. Two sequences that share classes
are answered more alike than two that share none, by one run or by two runs of a split. These
covariances give the variance of accuracy over sets of any number of classes (a U-statistic of order
M; Hoeffding 1948). A two-way analysis of variance gives the effects of splits and seeds.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from emergent_icl.config.configs import alone, named_overrides
from emergent_icl.evaluation.evaluate import Evaluator, compile_evaluation
from emergent_icl.evaluation.metrics import ICL, Interval
from emergent_icl.runs.open import NUM_SEQUENCES, load_run
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.statistics import LEVEL
from emergent_icl.training.settings import pinned

# What replicas may differ in.
SPLIT, SEED = "data.split.seed", "training.seed"
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
# Draws behind intervals, and their seed.
_DRAWS, _SEED = 10_000, 0


class Answers(NamedTuple):
    """Which sequences the runs of S splits and T training seeds answer correctly."""

    is_correct: np.ndarray  # bool [S, T, N]
    shows: np.ndarray  # whether a sequence shows each held-out class of its split, bool [S, N, K]


class Variances(NamedTuple):
    """Variances and covariances of answers (0 or 1) and accuracies.

    Arrays of any leading shape: [] for estimates, [draws] for their uncertainty.
    """

    sequence: np.ndarray  # of a run's answer, given the classes in the sequence
    same_sequence: np.ndarray  # covariance of two runs' answers to one sequence, likewise
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
          {name in SOURCES: variance}. The effect of a training seed is the one that is the same in
          all splits, such as that of the initial weights; what it does in one split only is part
          of the rest.
        """
        shared, own = self._parts(num_classes, num_sequences)
        return {name: one + other for name, one, other in zip(SOURCES, shared, own, strict=True)}

    def of_mean(
        self, num_runs: int, num_classes: int, num_sequences: int, *, one_split: bool
    ) -> np.ndarray:
        """Variance of the mean accuracy of runs that each have their own training seed.

        With `one_split`, they share held-out classes and evaluation sequences, whose effects do
        not average out; otherwise each has its own.
        """
        shared, own = map(sum, self._parts(num_classes, num_sequences))
        return np.asarray(shared / (1 if one_split else num_runs) + own / num_runs)

    def _parts(self, num_classes: int, num_sequences: int) -> list[list[np.ndarray]]:
        """The sources' variances that the runs of a split share, and their own."""
        parts = []
        for sequence, covariances, effect, seed in (
            (self.same_sequence, self.between, self.split, np.zeros_like(self.seed)),
            (self.sequence - self.same_sequence, self.within - self.between, self.rest, self.seed),
        ):
            # These runs' own held-out classes are part of the effect.
            rest = effect - over_sets(covariances, self.num_classes)
            found = (sequence / num_sequences, over_sets(covariances, num_classes), seed, rest)
            parts.append([np.maximum(one, 0.0) for one in found])
        return parts


class Decomposition(NamedTuple):
    """Estimates, and draws of their uncertainty."""

    accuracy: float  # mean over runs
    estimates: Variances
    draws: Variances

    def deviations(self, num_classes: int, num_sequences: int) -> dict[str, Interval]:
        """Standard deviation of a run's accuracy by source, and by all, with 95% intervals."""
        estimates, draws = (
            {**parts, TOGETHER: sum(parts.values())}
            for parts in (one.sources(num_classes, num_sequences) for one in self[1:])
        )
        return {name: _deviation(estimates[name], draws[name]) for name in estimates}

    def error_of_mean(
        self, num_runs: int, num_classes: int, num_sequences: int, *, one_split: bool
    ) -> Interval:
        """Standard error of a mean over runs, with its 95% interval; see `of_mean`."""
        given = (num_runs, num_classes, num_sequences)
        estimate, draws = (one.of_mean(*given, one_split=one_split) for one in self[1:])
        return _deviation(estimate, draws)


def decompose(answers: Answers) -> Decomposition:
    """Estimates variances; they are unbiased until negative ones are set to 0.

    Draws are those of generalized confidence intervals (Weerahandi 1993): chi-squared for mean
    squares, and a multivariate t over splits for covariances, each independent of the other.

    Raises:
      ValueError: there are too few held-out classes or sequences.
    """
    num_splits, num_seeds, num_sequences = answers.is_correct.shape
    accuracies = answers.is_correct.mean(axis=2)
    found = np.array([_covariances(*one) for one in zip(*answers, strict=True)])
    squares, freedom = mean_squares(accuracies)

    def variances(covariances: np.ndarray, squares: np.ndarray) -> Variances:
        within, between = covariances[..., 0, :], covariances[..., 1, :]
        # The last: the same sequence; before it, sequences that share all classes.
        sequence, same = (one[..., -1] - one[..., -2] for one in (within, between))
        of_split, of_seed, of_rest = np.moveaxis(squares, -1, 0)
        return Variances(
            sequence, same, within[..., :-1], between[..., :-1],
            (of_split - of_rest) / num_seeds - same / num_sequences,
            (of_seed - of_rest) / num_splits,
            of_rest - (sequence - same) / num_sequences,
            answers.shows.shape[-1],
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
    """
    order = covariances.shape[-1]
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
    order, shown = int(shows.sum(axis=1).max()), shows.astype(np.float32)
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
    # Residuals from an estimated mean are negatively correlated, all to the same degree.
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


@pinned()
def read_answers(workdir: Workdir, num_sequences: int = NUM_SEQUENCES) -> Answers:
    """Evaluates all replicas of a run on few-shot sequences of held-out classes.

    Raises:
      WorkdirError: the replicas do not cross splits with training seeds.
      Otherwise like `load_run`.
    """
    names = _crossed(workdir)
    splits, seeds = (sorted(set(own)) for own in zip(*names, strict=True))
    overrides = {"evaluation.modes": ICL[:1], "evaluation.num_sequences": num_sequences}
    runs = (
        load_run(workdir.path, overrides=overrides, replica=names[place])
        for place in itertools.product(splits, seeds)
    )
    evaluator, is_correct, shows = None, [], []
    for index, run in enumerate(runs):
        experiment = run.experiment
        compiled = evaluator.compiled if evaluator else None
        compiled = compiled or compile_evaluation(experiment.network, experiment.materialize)
        evaluator = Evaluator(experiment.config, experiment.task, compiled)
        model = (run.params, run.batch_stats, run.device_bank())
        is_correct.append(evaluator.per_sequence(ICL[0], *model)[ICL[1]] > 0)
        if index % len(seeds) == 0:
            # Variants of a character are one class.
            size = experiment.task.shape.group_size
            shown = evaluator.modes[ICL[0]].batch.class_ids // size
            shows.append(_shown(shown, experiment.config.data.split.num_holdout // size))
    correct = np.reshape(is_correct, (len(splits), len(seeds), num_sequences))
    return Answers(correct, np.array(shows))


def _crossed(workdir: Workdir) -> dict[tuple[int, int], str]:
    """{(split, training seed): name} of replicas; raises WorkdirError if they are not crossed."""
    config = workdir.read_config()
    names, others = {}, set()
    for name, overrides in named_overrides(config):
        one = alone(config, overrides)
        names[one.data.split.seed, one.training.seed] = name
        others |= overrides.keys() - {SPLIT, SEED}
    splits, seeds = (set(own) for own in zip(*names, strict=True))
    absent = next((one for one in itertools.product(splits, seeds) if one not in names), None)
    problem = (
        f"they also differ in {', '.join(sorted(others))}" if others
        else f"there are {len(splits)} x {len(seeds)}" if min(len(splits), len(seeds)) < 2
        else f"none has {SPLIT} = {absent[0]} and {SEED} = {absent[1]}" if absent
        else ""
    )  # fmt: skip
    if problem:
        raise WorkdirError(
            f"the replicas of {workdir.path} must combine each of several values of {SPLIT} with "
            f"each of several values of {SEED}, and differ in nothing else: {problem}"
        )
    return names


def _shown(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Which of the distinct classes each row [N, S] contains, bool [N, K]."""
    _, places = np.unique(classes, return_inverse=True)
    shows = np.zeros((len(classes), num_classes), bool)
    shows[np.arange(len(classes))[:, None], places.reshape(classes.shape)] = True
    return shows
