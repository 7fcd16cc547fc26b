"""Checks of sweeps before anything runs, and the draws of searches."""

import dataclasses
import math

import numpy as np
import pytest
import tiny_sweep
from scipy import stats

from emergent_icl.config.configs import with_options
from emergent_icl.sweeps.claims import Claim, Trend, Within
from emergent_icl.sweeps.spec import Condition, Search, SweepError, load_sweep, over

SWEEP = tiny_sweep.get_sweep()
FILE = tiny_sweep.__file__


def test_a_file_defines_a_sweep_with_or_without_presets():
    assert load_sweep(FILE).search is None
    assert load_sweep(f"{FILE}:searched").search.draws == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no function get_sweep"),
        ("get_sweep = 3", "has no function get_sweep"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def get_sweep(): return 3", "get_sweep must return a Sweep, not int"),
        ("def get_sweep(): raise ValueError('not today')", "not today"),
        ("def get_sweep(: pass", "SyntaxError"),
    ],
)
def test_an_invalid_file_is_named_with_the_reason(tmp_path, content, said):
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(SweepError, match=r"mine\.py") as error:
        load_sweep(str(path))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("none.py", "there is no file none.py; it must be FILE.py"),
        ("burstiness", "there is no file burstiness; it must be FILE.py"),
        (f"{FILE}:plian", "no preset 'plian'"),
    ],
)
def test_an_unknown_file_or_preset_is_named(where, said):
    with pytest.raises(SweepError, match=said):
        load_sweep(where)


def test_a_file_without_presets_says_so(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text("def get_sweep():\n    return None\n")
    with pytest.raises(SweepError, match="it has no presets, such as 'foo'"):
        load_sweep(f"{path}:foo")


def with_conditions(*conditions):
    return dataclasses.replace(SWEEP, conditions=conditions)


def with_search(**changes):
    space = {"training.optimizer.learning_rate": (1e-3, 1e-1)}
    return dataclasses.replace(SWEEP, search=Search(**({"space": space} | changes)))


PLAIN = Claim("", (Within("icl", "a", low=0.5),))
WRONG = {
    "no condition": (with_conditions(), "at least one condition"),
    "equal names": (
        with_conditions(Condition("p=0", {}), Condition("P=0", {}), Condition("p=1", {})),
        r"must differ by more than case, not \['p=0', 'P=0', 'p=1'\]",
    ),
    "invalid folder name": (
        dataclasses.replace(SWEEP, name="a/b"),
        "the name 'a/b' must be a letter",
    ),
    "no check": (dataclasses.replace(SWEEP, claim=Claim("", ())), "at least one check"),
    "unknown condition": (with_conditions(Condition("p=0", {}, 0.0)), r"claim names \['p=1'\]"),
    "no value on the axis": (
        with_conditions(Condition("p=0", {}, 0.0), Condition("p=1", {})),
        r"has a trend, but conditions \['p=1'\] have no value",
    ),
    "unknown option": (
        with_conditions(*over("data.sequences.p_bursti", (0.0, 1.0), "p")),
        "condition 'p=0': .*p_bursti.*p_bursty",
    ),
    "value out of range": (
        with_conditions(*over("data.sequences.p_bursty", (0.0, 1.0, 1.5), "p")),
        "(?s)condition 'p=1.5': .*data.sequences.p_bursty = 1.5",
    ),
    "measure without its mode": (
        dataclasses.replace(SWEEP, measures=("eval/flip/accuracy",)),
        "eval/flip/accuracy needs evaluation.modes to contain 'flip'",
    ),
    "claim without its mode": (
        dataclasses.replace(SWEEP, claim=Claim("", (Trend("iwl_rare", rising=True),))),
        "iwl_rare needs evaluation.modes to contain 'no_support_rare'",
    ),
    "search criterion without its mode": (
        with_search(choose_by="iwl_common"),
        "iwl_common needs evaluation.modes",
    ),
    "mistyped measure": (
        dataclasses.replace(SWEEP, measures=("icll",)),
        r"no measure 'icll'; did you mean 'icl'\? \(allowed: icl, iwl, .*, or eval/MODE/METRIC",
    ),
    "mistyped metric": (
        with_search(choose_by="eval/fewshot_holdout/acuracy"),
        "no measure 'eval/fewshot_holdout/acuracy' .*METRIC one of loss, accuracy",
    ),
    "training accuracy": (
        dataclasses.replace(SWEEP, measures=("train/accuracy",)),
        "no measure 'train/accuracy'",
    ),
    "value of a draw out of range": (
        with_search(space={"data.sequences.zipf_exponent": (0.5, 50)}),
        r"(?s)the search, condition 'p=0': .*data\.sequences\.zipf_exponent = .* must be a number",
    ),
    "mistyped option of a search": (
        with_search(space={"training.optimizer.learning_ratez": (0.1, 1)}),
        "search.space: training.optimizer.learning_ratez must be one of",
    ),
    "mistyped option of a section": (
        with_search(space={"data.split.num_rar": (10, 20)}),
        "search.space: data.split.num_rar must be one of .*data.split",
    ),
    "range of words": (
        with_search(space={"training.optimizer.learning_rate": "ab"}),
        "learning_rate = 'ab' must be .low, high.",
    ),
    "range of one number": (
        with_search(space={"training.optimizer.learning_rate": 3.0}),
        "learning_rate = 3.0 must be .low, high.",
    ),
    "one seed": (dataclasses.replace(SWEEP, seeds=3), "seeds = 3 must be a tuple of integers"),
    "seeds as words": (
        dataclasses.replace(SWEEP, seeds=("0", "1")),
        "seeds must be integers from 0 to 999, not '0'",
    ),
    "seeds of searches": (
        SWEEP.with_replicates(2000),
        "seeds must be integers from 0 to 999, not 1000$",
    ),
    "no measures": (dataclasses.replace(SWEEP, measures=()), "measures must not be empty"),
    "trend over equal values": (
        with_conditions(Condition("p=0", {}, 1.0), Condition("p=1", {}, 1.0)),
        r"has a trend, but values \[1.0, 1.0\] must be numbers that differ",
    ),
    "trend over an unknown value": (
        with_conditions(Condition("p=0", {}, 0.0), Condition("p=1", {}, float("nan"))),
        r"has a trend, but values \[0.0, nan\] must be",
    ),
    "search over shapes": (
        with_search(space={"model.num_layers": (1, 3)}),
        "search.space: model.num_layers must be one of",
    ),
    "empty range": (
        with_search(space={"training.optimizer.learning_rate": (0.0, 0.1)}),
        r"learning_rate = \(0.0, 0.1\) must be \(low, high\) with 0 < low < high",
    ),
    "option of the axis in the search": (
        with_search(space={"data.sequences.p_bursty": (0.1, 1.0)}),
        "data.sequences.p_bursty is set by condition 'p=0' and by the search",
    ),
    "no draws": (with_search(draws=0), "search.draws = 0 must be at least 1"),
    "negative length of draws": (
        with_search(num_steps=-1),
        "search.num_steps = -1 must be at least 0",
    ),
    "search with a verdict's seed": (with_search(seed=3), "search.seed = 3 must be at least 1000"),
    "negative most_seeds": (dataclasses.replace(SWEEP, most_seeds=-1), "most_seeds = -1 must be"),
    "named held-out classes in replicates": (
        SWEEP.with_base_options({"data.split.holdout": tuple(range(8))}),
        r"condition 'p=0' names its held-out classes .*, so replicates share them: .* 'fixed'",
    ),
    "seed in a condition": (
        with_conditions(*over("data.split.seed", (0, 1), "p")),
        "condition 'p=0' sets data.split.seed: each replicate has its own",
    ),
    "replicas in a condition": (
        with_conditions(*over("training.replicas", (0, 1), "p")),
        "condition 'p=0' sets training.replicas: each replicate",
    ),
    "seed in a search": (
        with_search(space={"evaluation.seed": (1, 100)}),
        "the search sets evaluation.seed",
    ),
    "unknown rule": (
        dataclasses.replace(SWEEP, claim=Claim("", SWEEP.claim.checks, "loose")),
        "claim.rule = 'loose' must be one of limits, point",
    ),
    "unknown split": (dataclasses.replace(SWEEP, split="own"), "split = 'own' must be one of"),
    "unknown plot": (dataclasses.replace(SWEEP, plot="pie"), "plot = 'pie' must be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_sweeps_are_rejected_with_the_reason(name):
    sweep, said = WRONG[name]
    with pytest.raises(SweepError, match=said) as error:
        sweep.check()
    assert f"sweep '{sweep.name}'" in str(error.value)


def test_options_that_replicates_set_cannot_be_set_elsewhere():
    """They would be overwritten silently. Options that replicates share may be set."""
    with pytest.raises(SweepError, match="the base sets data"):
        SWEEP.with_base_options({"data.split.seed": 1, "evaluation.seed": 2})
    fixed = dataclasses.replace(SWEEP, split="fixed")
    assert fixed.with_base_options({"data.split.seed": 1}).base.data.split.seed == 1


def test_overrides_of_conditions_take_precedence_over_the_base():
    changed = SWEEP.with_base_options({"data.sequences.p_bursty": 0.5, "training.num_steps": 7})
    configs = [changed.config(condition) for condition in changed.conditions]
    assert [config.data.sequences.p_bursty for config in configs] == [0.0, 1.0]
    assert {config.training.num_steps for config in configs} == {7}
    with pytest.raises(SweepError, match="num_stepps"):
        SWEEP.with_base_options({"training.num_stepps": 7})


def test_conditions_differ_only_in_their_overrides():
    for condition in SWEEP.conditions:
        assert SWEEP.config(condition) == with_options(SWEEP.base, condition.overrides)


SPACE = {
    "training.optimizer.learning_rate": (1e-4, 1e-1),
    "training.optimizer.warmup_steps": (1, 10_000),
}


def test_draws_of_a_search_depend_only_on_its_seed():
    assert Search(SPACE).settings() == Search(SPACE).settings()
    assert Search(SPACE).settings() != Search(SPACE, seed=1001).settings()


def test_a_search_draws_once_from_each_part_of_a_range():
    settings = Search(SPACE, draws=8).settings()
    assert len(settings) == 8
    for option, (low, high) in SPACE.items():
        places = [math.log(one[option] / low) / math.log(high / low) for one in settings]
        # Rounding to three digits may move a draw slightly outside of its part.
        parts = sorted(8 * place for place in places)
        assert all(index - 0.3 <= part <= index + 1.3 for index, part in enumerate(parts))
    assert all(isinstance(one["training.optimizer.warmup_steps"], int) for one in settings)


def test_counts_are_rounded():
    space = {"data.sequences.label_multiplicity": (1, 10), "data.sequences.zipf_exponent": (0.1, 1)}
    sweep = with_search(space=space)
    sweep.check()
    for one in sweep.search.settings():
        assert type(one["data.sequences.label_multiplicity"]) is int
        assert type(one["data.sequences.zipf_exponent"]) is float


def test_more_replicates_keep_the_seeds_of_a_sweep():
    sweep = dataclasses.replace(SWEEP, seeds=(3, 7, 11))
    assert [sweep.with_replicates(count).seeds for count in (1, 3, 5)] == [
        (3,), (3, 7, 11), (3, 7, 11, 12, 13)
    ]  # fmt: skip


def test_draws_are_log_uniform_and_independent_between_options():
    draws = [one for seed in range(1000, 1050) for one in Search(SPACE, seed=seed).settings()]
    logs = {option: np.log([one[option] for one in draws]) for option in SPACE}
    rates = logs["training.optimizer.learning_rate"]
    uniform = stats.uniform(math.log(1e-4), math.log(1e3))
    assert stats.kstest(rates, uniform.cdf).pvalue > 0.01
    assert abs(np.corrcoef(*logs.values())[0, 1]) < 0.12
