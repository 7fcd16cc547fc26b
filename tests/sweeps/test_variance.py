"""Variances are recovered from simulated answers; a command shows them for a trained run."""

import itertools
import json
import math

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from launching import launch, only_message

from emergent_icl.config.configs import with_options
from emergent_icl.evaluation.metrics import ICL
from emergent_icl.presets import omniglot
from emergent_icl.runs.open import load_run
from emergent_icl.runs.provenance import config_hash
from emergent_icl.runs.records import Display
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps import answers as answers_module
from emergent_icl.sweeps.answers import Answers, read_answers
from emergent_icl.sweeps.variance import (
    SOURCES,
    TOGETHER,
    Variances,
    decompose,
    mean_squares,
    over_sets,
)

# Standard deviations of the simulation: effects on the probability of a correct answer.
SPLIT, SEED, RUN = 0.03, 0.02, 0.02
CLASS, CLASS_OF_RUN, SEQUENCE = 0.06, 0.04, 0.1
NUM_CLASSES, NUM_SEQUENCES, WAYS = 20, 300, 2


def simulated(rng, num_splits=6, num_seeds=4, strength=1.0):
    """Answers with these effects times `strength`, with mean 0.6."""
    ranked = rng.random((num_splits, NUM_SEQUENCES, NUM_CLASSES)).argsort(axis=-1)
    shows = ranked < WAYS
    effects = rng.normal(0, SPLIT, (num_splits, 1, 1)) + rng.normal(0, SEED, (num_seeds, 1))
    effects = effects + rng.normal(0, RUN, (num_splits, num_seeds, 1))
    of_class = rng.normal(0, CLASS, (num_splits, 1, NUM_CLASSES))
    of_class = of_class + rng.normal(0, CLASS_OF_RUN, (num_splits, num_seeds, NUM_CLASSES))
    effects = effects + np.einsum("snk,stk->stn", shows, of_class)
    effects += rng.normal(0, SEQUENCE, (num_splits, 1, NUM_SEQUENCES))
    p = 0.6 + strength * effects
    return Answers(rng.random(p.shape) < p, shows, 0)


def linear(deviation):
    """Covariances if each class has an effect of its own."""
    return deviation**2 * np.arange(1, WAYS + 1)


@pytest.fixture(scope="module")
def simulations():
    rng = np.random.default_rng(1)
    return [decompose(simulated(rng)) for _ in range(80)]


def test_estimates_are_right_on_average(simulations):
    within, between = linear(math.hypot(CLASS, CLASS_OF_RUN)), linear(CLASS)
    expected = {
        "within": within,
        "between": between,
        "answer": 0.6 * 0.4,
        "same_sequence": SEQUENCE**2 + between[-1],
        "split": SPLIT**2 + over_sets(between, NUM_CLASSES),
        "seed": SEED**2,
        "rest": RUN**2 + over_sets(linear(CLASS_OF_RUN), NUM_CLASSES),
    }
    for name, value in expected.items():
        found = np.array([getattr(one.estimates, name) for one in simulations])
        error = found.std(axis=0) / math.sqrt(len(simulations))
        np.testing.assert_array_less(abs(found.mean(axis=0) - value), 3.5 * error, name)
        # So the test would notice an error of a half.
        assert (3.5 * error < 0.5 * value).all(), name


def covered(found, deviations_of, variance):
    """Fraction of 95% intervals that contain the true standard deviation."""
    intervals = map(deviations_of, found)
    return np.mean([one.low <= math.sqrt(variance) <= one.high for one in intervals])


def test_intervals_cover_the_truth(simulations):
    within, between = linear(math.hypot(CLASS, CLASS_OF_RUN)), linear(CLASS)
    classes, shared_classes = (over_sets(one, NUM_CLASSES) for one in (within, between))
    truth = {
        "evaluation sequences": (0.24 - classes) / NUM_SEQUENCES,
        "held-out classes": classes,
        "training seed": SEED**2,
        "rest of training": SPLIT**2 + RUN**2,
    }
    truth[TOGETHER] = sum(truth.values())
    for name, variance in truth.items():
        found = covered(
            simulations, lambda one, name=name: one.deviations(NUM_CLASSES, NUM_SEQUENCES)[name],
            variance,
        )  # fmt: skip
        assert found >= 0.85, name
    shared = (SEQUENCE**2 + between[-1] - shared_classes) / NUM_SEQUENCES
    shared += SPLIT**2 + shared_classes
    for one_split in (True, False):
        fixed = shared if one_split else 0
        found = covered(
            simulations,
            lambda one, is_one=one_split: one.error_of_mean(
                5, NUM_CLASSES, NUM_SEQUENCES, one_split=is_one
            ),
            fixed + (truth[TOGETHER] - fixed) / 5,
        )
        assert found >= 0.85, one_split


def test_without_effects_the_sampling_of_sequences_remains():
    rng = np.random.default_rng(2)
    found = [decompose(simulated(rng, strength=0.0)) for _ in range(40)]
    together = [one.deviations(NUM_CLASSES, NUM_SEQUENCES)[TOGETHER] for one in found]
    expected = 0.24 / NUM_SEQUENCES
    assert np.mean([one.mean**2 for one in together]) == pytest.approx(expected, rel=0.15)
    assert np.mean([one.low**2 <= expected <= one.high**2 for one in together]) >= 0.85


@given(st.integers(2, 30), st.floats(0, 0.1), st.floats(0, 0.1))
def test_variance_over_sets_of_classes_is_exact(num_classes, of_class, of_pair):
    # The mean over all pairs of x_a + x_b + z_ab.
    covariances = np.array([of_class, 2 * of_class + of_pair])
    expected = 4 * of_class / num_classes + of_pair / math.comb(num_classes, 2)
    assert over_sets(covariances, num_classes) == pytest.approx(expected, abs=1e-12)


def test_mean_squares_of_pure_effects():
    rows, columns = np.array([[1.0], [2.0], [6.0]]), np.array([[0.0, 4.0]])
    squares, freedom = mean_squares(rows + columns)
    assert freedom.tolist() == [2, 1, 2]
    assert squares == pytest.approx([2 * rows.var(ddof=1), 3 * columns.var(ddof=1), 0])


numbers = st.floats(-0.01, 0.01)


@given(numbers, numbers, numbers, numbers, numbers, st.integers(2, 50), st.integers(1, 100))
def test_the_error_of_a_mean(same, cov, split, seed, rest, num_classes, num_runs):
    within = np.array([cov, 2 * cov])
    a, b, c, d, e = map(np.asarray, (0.24, same, split, seed, rest))
    found = Variances(a, b, within, within / 2, c, d, e, NUM_CLASSES)
    together = found.of_mean(1, num_classes, 100, one_split=False)
    one, own = (
        found.of_mean(num_runs, num_classes, 100, one_split=is_one) for is_one in (True, False)
    )
    assert own == pytest.approx(together / num_runs)
    assert together >= 0
    # What all runs share does not average out.
    assert own <= one * (1 + 1e-9)
    assert one <= together * (1 + 1e-9)
    assert found.of_mean(1, num_classes, 100, one_split=True) == pytest.approx(together)


def test_too_few_classes_or_sequences_are_refused():
    answers = simulated(np.random.default_rng(0))
    with pytest.raises(ValueError, match="3 sequences with 2 of 20 held-out classes each are too"):
        decompose(Answers(answers.is_correct[..., :3], answers.shows[:, :3], 0))
    with pytest.raises(ValueError, match="a set of 1 classes is too small: sequences show 2"):
        decompose(answers).deviations(1, 100)
    answers.shows[0, 0] = False
    with pytest.raises(ValueError, match="sequences show 0 to 2 different held-out classes"):
        decompose(answers)


def crossed(splits, seeds, **others):
    """Overrides of replicas, named by place."""
    return tuple(
        {"name": f"s{s}t{t}", "data.split.seed": s, "training.seed": t, **others}
        for s, t in itertools.product(splits, seeds)
    )


def test_the_preset_crosses_splits_with_seeds():
    overrides = omniglot.get_config("crossed").training.replica_overrides
    places = {(one["data.split.seed"], one["training.seed"]) for one in overrides}
    assert places == set(itertools.product(range(6), range(6)))
    assert len(overrides) == len(places)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick_runs):
    workdir = Workdir(tmp_path_factory.mktemp("crossed") / "run")
    overrides = {"training.replica_overrides": crossed((0, 1, 2), (4, 5))}
    train(with_options(tiny.get_config("symbols"), overrides), workdir, Display())
    return workdir


def test_answers_are_those_of_an_evaluation(trained):
    answers = read_answers(trained, 500)
    assert answers.is_correct.shape == (3, 2, 500)
    assert answers.shows.shape == (3, 500, 8)
    assert (answers.shows.sum(axis=-1) == 2).all()
    for s, t in ((0, 1), (2, 0)):
        run = load_run(trained.path, replica=f"s{s}t{4 + t}")
        accuracy = run.evaluate(ICL[0], 500)[ICL[0]][ICL[1]].mean
        assert answers.is_correct[s, t].mean() == pytest.approx(accuracy)
        # Each run's classes are those of its own split.
        shown = run.sequences(ICL[0], 500).class_ids
        same = (shown[:, None] == shown[None]).all(axis=-1)
        assert (answers.shows[s] @ answers.shows[s].T)[same].all()


def test_the_command(trained, tmp_path):
    output = [f"--workdir={trained.path}", "--num_holdout=4,8", "--num_sequences=300"]
    done = launch("variance", *output, f"--output={tmp_path / 'a'}", "--format=svg")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in (*SOURCES, TOGETHER, "8 held-out classes"))
    about = json.loads((tmp_path / "a" / "variance.json").read_text())
    assert list(about["holdout"]) == ["4", "8"]
    found = decompose(read_answers(trained, 300))
    expected = {name: list(one) for name, one in found.deviations(4, 50).items()}
    assert (about["step"], about["config"]) == (40, config_hash(trained.read_config()))
    assert "step 40: standard deviation" in " ".join(done.stdout.split())
    assert about["num_sequences"] == 50
    assert about["holdout"]["4"]["deviations"] == expected
    assert (tmp_path / "a" / "variance.svg").stat().st_size > 1000
    (tmp_path / "file").touch()
    printed = launch("variance", *output, f"--output={tmp_path / 'file' / 'folder'}")
    assert (printed.returncode, printed.stdout) == (1, done.stdout.split("Written")[0])
    assert "Results are only printed" in only_message(printed.stderr)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "there are 1 x 1"),
        (crossed((0,), (0, 1)), "there are 1 x 2"),
        (crossed((0, 1), (0, 1))[:3], "none has data.split.seed = 1 and training.seed = 1"),
        (
            (*crossed((0,), (0, 1)), *crossed((1,), (0, 1), **{"data.sequences.p_bursty": 0.5})),
            "'s1t0' also sets data.sequences.p_bursty",
        ),
        (({**crossed((0,), (0,))[0], "name": "a"}, *crossed((0, 1), (0, 1))), "'a' and 's0t0' are"),
    ],
)
def test_replicas_that_are_not_crossed_are_refused(overrides, said, tmp_path):
    workdir = Workdir(tmp_path)
    config = with_options(
        tiny.get_config("symbols"), {"training.replica_overrides": tuple(overrides)}
    )
    workdir.claim(config)
    with pytest.raises(WorkdirError, match=f"each of several values .* nothing else: {said}"):
        read_answers(workdir)


def test_named_held_out_classes_are_refused(tmp_path):
    options = {"training.replica_overrides": crossed((0, 1), (0, 1)), "data.split.num_holdout": 2}
    named = {"data.split.holdout": ("3", "4")}
    Workdir(tmp_path).claim(with_options(tiny.get_config("symbols"), {**options, **named}))
    with pytest.raises(WorkdirError, match=r"has data\.split\.holdout, so its splits are no indep"):
        read_answers(Workdir(tmp_path))


def test_the_data_may_have_moved(trained, monkeypatch):
    given, load = [], answers_module.load_run

    def recorded(*args, overrides, **others):
        given.append((overrides["data.data_dir"], others["step"]))
        return load(*args, overrides=overrides, **others)

    monkeypatch.setattr(answers_module, "load_run", recorded)
    read_answers(trained, 60, {"data.data_dir": "/elsewhere"})
    # Runs that still train are compared at the same step, that of the first.
    assert given == [("/elsewhere", None), *[("/elsewhere", 40)] * 5]
