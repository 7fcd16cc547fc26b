"""Checkpoints and evaluations at listed and log-spaced steps."""

import signal

import jax
import numpy as np
import pytest
import tiny

from emergent_icl.cli.describe import _run_facts
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import with_options
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.agenda import agendas, resolve_steps_per_call
from emergent_icl.training.warnings import warnings

pytestmark = pytest.mark.usefixtures("quick_runs")

MODE = "eval/fewshot_holdout/loss"
LISTED = {"evaluation.at": (0, 5, "log:1"), "checkpoints.at": (0, 3, 15), "checkpoints.keep": 1}


def config(**options):
    values = {"training.num_steps": 30, "checkpoints.every": 10, "evaluation.every": 20}
    values |= {"evaluation.modes": ("fewshot_holdout",), "logging.loggers": ()}
    names = {name.replace("__", "."): value for name, value in options.items()}
    return with_options(tiny.get_config(), {**values, **LISTED, **names})


def run(folder, config, stop_after=None):
    polls = iter([] if stop_after is None else [None] * stop_after + [signal.SIGTERM])
    try:
        return train(config, Workdir(folder), Display(), lambda: next(polls, None))
    except Interrupted as stop:
        assert stop_after is not None
        return stop.step


def saved(folder):
    with CheckpointStore(Workdir(folder).checkpoints) as store:
        return store.steps()


def evaluated(folder):
    lines = read_metrics(Workdir(folder).metrics)
    return {line["step"]: line[MODE] for line in lines if MODE in line}


def lines(folder):
    times = ("steps_per_second", "sequences_per_second")
    found = read_metrics(Workdir(folder).metrics)
    return [{key: x for key, x in line.items() if key not in times} for line in found]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    run(folder, config())
    return folder


@pytest.mark.parametrize(
    ("at", "steps_per_call", "expected"),
    [
        ((), 1, ()),
        ((0, 7, 3, 7, 1000, 1001), 1, (0, 3, 7, 1000)),
        (("log:1",), 1, (1, 10, 100, 1000)),
        (("log:3",), 1, (1, 2, 5, 10, 22, 46, 100, 215, 464, 1000)),
        # Rounded to the end of a call, without repeats; step 0 only if listed.
        (("log:3",), 10, (10, 20, 50, 100, 220, 460, 1000)),
        ((0, 30, "log:1"), 10, (0, 10, 30, 100, 1000)),
        (("log:999",), 500, (500, 1000)),
    ],
)
def test_listed_steps(at, steps_per_call, expected):
    options = {"training.num_steps": 1000, "evaluation.at": at, "checkpoints.at": ()}
    evaluations, saves = agendas(config(**options), steps_per_call)
    assert evaluations.listed == expected
    assert saves.listed == ()
    assert [step for step in (0, 10, 20, 40) if evaluations.has(step)] == [
        step for step in (0, 10, 20, 40) if step in (*expected, 20, 40)
    ]


def test_a_longer_run_includes_the_steps_of_a_shorter_one():
    short, long = (
        agendas(config(evaluation__at=("log:7",), training__num_steps=steps), 1)[0].listed
        for steps in (700, 90_000)
    )
    assert short == tuple(step for step in long if step <= 700)


@pytest.mark.parametrize(
    ("option", "at", "problem"),
    [
        ("evaluation.at", (15,), r"evaluation\.at = 15 must be a multiple of "
            r"training\.steps_per_call = 10 \(nearest: 10 or 20\)"),
        ("checkpoints.at", (0, 3), r"checkpoints\.at = 3 .* \(nearest: 10\)"),
        *(("checkpoints.at", at, r"checkpoints\.at = .* must be a tuple of integers >= 0, and of "
            "'log:N' with N from 1 to 999")
          for at in ((-1,), (1.5,), (True,), ("log:0",), ("log:1000",), ("log",), 3)),
    ],
)  # fmt: skip
def test_invalid_steps_are_refused(option, at, problem):
    values = {"training.steps_per_call": 10, "evaluation.at": (), "checkpoints.at": (), option: at}
    with pytest.raises(ConfigError, match=problem):
        check(config(**values))


def test_listed_steps_limit_the_steps_per_call_and_log_spaced_ones_do_not():
    plain = {"training.steps_per_call": None, "training.log_every": 10, "checkpoints.at": ()}
    spaced = config(**plain, evaluation__at=("log:5",))
    assert resolve_steps_per_call(spaced) == 10
    assert resolve_steps_per_call(config(**plain, evaluation__at=(4,))) == 2


def test_the_initial_state_and_listed_steps_are_evaluated_and_saved(straight):
    assert list(evaluated(straight)) == [0, 1, 5, 10, 20, 30]
    assert saved(straight) == [0, 3, 15, 30]
    opened = load_run(straight, step=0)
    first = opened.experiment.init(0)
    jax.tree.map(np.testing.assert_array_equal, opened.params, jax.device_get(first.params))
    results = opened.evaluate("fewshot_holdout", None)
    assert results["fewshot_holdout"]["loss"].mean == pytest.approx(evaluated(straight)[0])


@pytest.mark.parametrize("stop_after", [1, 2, 3, 14, 16])
def test_a_run_stopped_at_any_step_resumes_exactly(stop_after, straight, tmp_path):
    """After the initial state, between two lines, or at a listed step."""
    assert run(tmp_path, config(), stop_after) == stop_after - 1
    run(tmp_path, config())
    assert lines(tmp_path) == lines(straight)
    assert saved(tmp_path) == saved(straight)


def test_lines_of_a_killed_start_are_not_repeated(straight, tmp_path):
    run(tmp_path, config(), 1)
    (tmp_path / "checkpoints").rename(tmp_path / ".lost")
    run(tmp_path, config())
    assert lines(tmp_path) == lines(straight)


def test_an_extended_run_equals_the_long_run(straight, tmp_path):
    run(tmp_path, config(training__num_steps=10))
    assert saved(tmp_path) == [0, 3, 10]
    run(tmp_path, config())
    assert lines(tmp_path) == lines(straight)
    assert saved(tmp_path) == saved(straight)


def test_listed_checkpoints_are_kept_after_the_list_has_changed(tmp_path):
    run(tmp_path, config(training__num_steps=20))
    run(tmp_path, config(checkpoints__at=()))
    assert saved(tmp_path) == [0, 3, 15, 30]


def test_describe_shows_listed_steps_and_warns_of_those_beyond_the_end():
    options = {"training.steps_per_call": 10, "checkpoints.at": (90,), "evaluation.at": ("log:3",)}
    shown = config(**options)
    assert _run_facts(shown) == {
        "initial weights": "random",
        "evaluations": "every 20 steps, and at 10, 20",
        "checkpoints": "every 10 steps",
    }
    (replica,) = check(shown)
    expected = "checkpoints.at: the run ends at step 30, before [90]"
    assert expected in list(warnings(shown, replica.task))
