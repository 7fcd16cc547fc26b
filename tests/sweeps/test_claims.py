"""Measurements decide claims; missing runs leave them undecided."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emergent_icl.sweeps.claims import (
    AboveConstant,
    Claim,
    Coexistence,
    Difference,
    Fades,
    Trend,
    Within,
)
from emergent_icl.sweeps.evidence import Evidence, MeasuredRun
from emergent_icl.sweeps.statistics import Sample, mean_estimate
from emergent_icl.sweeps.verdicts import judge, judge_family


def evidence(values=None, seeds=None, **conditions):
    """Evidence from {condition: the ICL, or {measure: value}, of each run}.

    `seeds` are those of the runs' 1,000 evaluation sequences.
    """
    runs = {}
    for name, own in conditions.items():
        finals = [one if isinstance(one, dict) else {"icl": one} for one in own]
        drawn = [{}] * len(own)
        if seeds is not None:
            drawn = [{"evaluation_seed": seed, "num_sequences": 1000} for seed in seeds]
        runs[name] = tuple(
            MeasuredRun({key: {10: value} for key, value in final.items()}, **about)
            for final, about in zip(finals, drawn, strict=True)
        )
    return Evidence(runs, values or dict.fromkeys(conditions))


def result(check, found, expected_runs=5, rule="limits"):
    return judge(Claim("", (check,)), found, expected_runs, rule).results[0]


def outcome(check, found, expected_runs=5, rule="limits"):
    return result(check, found, expected_runs, rule).outcome


ABSENT = " (others are missing, or diverged)"
HIGH, LOW = (0.8, 0.85, 0.9, 0.82, 0.88), (0.5, 0.49, 0.51, 0.5, 0.5)


@pytest.mark.parametrize(
    ("high", "low", "by_limits", "by_point"),
    [
        (HIGH, LOW, "holds", "holds"),
        (LOW, HIGH, "fails", "fails"),
        (LOW, LOW, "fails", "fails"),  # The difference is clearly below 0.2.
        ((0.72, 0.66, 0.76, 0.7, 0.76), LOW, "undecided", "holds"),  # 0.22 +- 0.05
        ((0.9, 0.5, 0.5, 0.9, 0.9), LOW, "undecided", "undecided"),  # 0.24 +- 0.27
        ((0.9, 0.5, 0.5, 0.5, 0.9), LOW, "undecided", "undecided"),  # 0.16 +- 0.27
        ((np.nan,) * 5, LOW, "undecided", "undecided"),
    ],
)
def test_a_difference_is_judged_by_its_rule(high, low, by_limits, by_point):
    check, found = Difference("icl", high="a", low="b", more_than=0.2), evidence(a=high, b=low)
    assert outcome(check, found) == by_limits
    assert outcome(check, found, rule="point") == by_point


def test_a_difference_of_few_runs_is_undecided_for_a_stated_reason():
    check, found = Difference("icl", high="a", low="b"), evidence(a=HIGH[:3], b=LOW[:3])
    finding = result(check, found, 3, "point")
    assert (finding.outcome, finding.numbers["p"]) == ("undecided", 0.05)
    assert finding.reason == "with 3 and 3 runs p is at least 0.05"


def test_equivalence_requires_an_interval_within_the_margin():
    check = Difference("icl", high="a", low="b", more_than=-0.05, less_than=0.05)
    assert "is within -0.05 and 0.05 (95 % interval)" in check.text()
    for rule in ("limits", "point"):
        assert outcome(check, evidence(a=LOW, b=LOW), rule=rule) == "holds"
    assert outcome(check, evidence(a=HIGH, b=LOW)) == "fails"
    assert outcome(check, evidence(a=(0.6, 0.4, 0.5, 0.55, 0.45), b=LOW)) == "undecided"


def test_empty_ranges_are_rejected():
    with pytest.raises(ValueError, match=r"Within: low = 0\.6 must be below high = 0\.4"):
        Within("icl", "a", low=0.6, high=0.4)
    with pytest.raises(ValueError, match="Within: low or high must be a bound"):
        Within("icl", "a")
    with pytest.raises(
        ValueError, match=r"Difference: more_than = 0 must be below less_than = -0\.1"
    ):
        Difference("icl", high="a", low="b", less_than=-0.1)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: Difference("icl", high="a", low="a"), "must be two conditions, not 'a'"),
        (lambda: Fades("icl", "a", by=math.nan), "Fades: by = nan must be a finite number"),
        (lambda: AboveConstant("iwl", "a", by=math.inf), "AboveConstant: by = inf must be"),
        (lambda: Coexistence((), 0.6, "a"), "must name at least one measure"),
        (lambda: Coexistence(("icl",), math.nan, "a"), "Coexistence: above = nan must be"),
    ],
)
def test_checks_that_decide_nothing_are_rejected(check, said):
    with pytest.raises(ValueError, match=said):
        check()


def test_replicates_with_the_same_sequences_are_paired():
    """The difficulty of a split cancels if it affects both conditions."""
    rng = np.random.default_rng(0)
    hard = 0.1 * rng.standard_normal(5)
    high, low = 0.75 + hard, 0.6 + hard + 0.01 * rng.standard_normal(5)
    check = Difference("icl", high="a", low="b", more_than=0.1)
    assert outcome(check, evidence(a=high, b=low, seeds=range(5))) == "holds"
    assert outcome(check, evidence(a=high, b=low, seeds=(0,) * 5)) == "undecided"
    assert outcome(check, evidence(a=high, b=low)) == "undecided"


EQUAL = (0.5, 0.5)
EVERY_CHECK = (
    Difference("icl", high="a", low="b", more_than=0.001),
    Difference("icl", high="a", low="b", more_than=-0.001, less_than=0.001),
    Within("icl", "a", low=0.499),
    Coexistence(("icl",), above=0.501, not_at="b"),
    Fades("icl", "a", by=0.001),
)


@pytest.mark.parametrize("rule", ["limits", "point"])
@pytest.mark.parametrize("check", EVERY_CHECK)
@pytest.mark.parametrize("seeds", [None, (0, 0), (0, 1)])
def test_equal_runs_are_not_certain(check, seeds, rule):
    finding = result(check, evidence(a=EQUAL, b=EQUAL, seeds=seeds), 2, rule)
    assert finding.outcome == "undecided"
    for name, bounds in finding.numbers.items():
        assert not name.endswith("%") or bounds[0] < bounds[1]


def test_equal_runs_are_as_certain_as_the_number_of_their_sequences_allows():
    found = evidence(a=EQUAL, seeds=(0, 1))
    low, high = result(Within("icl", "a", low=0.4), found, 2).numbers["mean, 95 %"]
    # 2,000 sequences in total.
    assert (low, high) == pytest.approx((0.478, 0.522), abs=1e-3)
    assert outcome(Within("icl", "a", low=0.4), found, 2) == "holds"
    assert outcome(Within("icl", "a", low=0.6), found, 2) == "fails"


@pytest.mark.parametrize(
    ("runs", "expected"), [(HIGH, "holds"), (LOW, "fails"), ((0.7, 0.9, 0.8), "undecided")]
)
def test_an_accuracy_is_judged_against_the_best_constant_answer(runs, expected):
    check, found = AboveConstant("icl", "a", by=0.1), evidence(a=runs)
    assert result(check, found, len(runs)).reason == "the best constant answer is not known"
    found = found._replace(constants={"a": {"icl": 0.6}})
    finding = result(check, found, len(runs))
    assert (finding.outcome, finding.numbers["best constant answer"]) == (expected, 0.6)
    with pytest.raises(ValueError, match="measure = 'loss' must be an accuracy"):
        AboveConstant("loss", "a", by=0.1)


@pytest.mark.parametrize(
    ("rising", "ends", "expected"),
    [
        (True, (0.5, 0.6, 0.7), "holds"),
        (False, (0.5, 0.6, 0.7), "fails"),
        (False, (0.7, 0.6, 0.5), "holds"),
        (True, (0.5, 0.7, 0.5), "undecided"),
    ],
)
def test_a_trend_is_judged_by_rank_correlation(rising, ends, expected):
    runs = {name: [end + 0.01 * i for i in range(5)] for name, end in zip("abc", ends, strict=True)}
    found = evidence({"a": 0, "b": 1, "c": 2}, **runs)
    assert outcome(Trend("icl", rising=rising), found) == expected


def test_sampling_error_of_shared_sequences_is_not_a_trend():
    """Constant answers differ only by the sampling error, which is the same in every run."""
    runs, places = {"a": (0.49,) * 5, "b": (0.51,) * 5}, {"a": 0, "b": 1}
    check = Trend("icl", rising=True)
    assert outcome(check, evidence(places, seeds=(0,) * 5, **runs)) == "undecided"
    assert outcome(check, evidence(places, seeds=range(5), **runs)) == "holds"
    far = evidence(places, seeds=(0,) * 5, a=(0.4,) * 5, b=(0.6,) * 5)
    assert outcome(check, far) == "holds"
    assert outcome(Trend("icl", rising=False), far) == "fails"


@pytest.mark.parametrize(
    ("runs", "expected"),
    [(HIGH, "holds"), (LOW, "fails"), ((0.7, 0.8, 0.9, 0.7, 0.8), "undecided")],
)
def test_within_needs_the_whole_interval(runs, expected):
    assert outcome(Within("icl", "a", low=0.75), evidence(a=runs)) == expected


def test_within_states_its_bounds():
    assert "above 0.75" in Within("icl", "a", low=0.75).text()
    assert "below 0.6" in Within("icl", "a", high=0.6).text()
    assert "within 0.45 and 0.55" in Within("icl", "a", low=0.45, high=0.55).text()


def both(icl, iwl):
    return [{"icl": icl + 0.01 * i, "iwl_common": iwl - 0.01 * i} for i in range(5)]


@pytest.mark.parametrize(
    ("uniform", "skewed", "expected"),
    [
        (both(0.9, 0.05), both(0.8, 0.8), "holds"),
        # Each is high, but never in the same model.
        (both(0.9, 0.05), both(0.5, 0.9), "fails"),
        # Also where the claim excludes it.
        (both(0.9, 0.9), both(0.8, 0.8), "fails"),
        (both(0.9, 0.05), [*both(0.8, 0.8)[:3], *both(0.5, 0.9)[:2]], "undecided"),
    ],
)
def test_coexistence_needs_the_same_model(uniform, skewed, expected):
    check = Coexistence(("icl", "iwl_common"), above=0.65, not_at="zero")
    assert outcome(check, evidence(zero=uniform, one=skewed, two=both(0.5, 0.9))) == expected


def test_the_best_condition_has_the_highest_lower_limit():
    """A higher mean with an outlier is weaker evidence."""
    skewed = {"one": [*both(0.97, 0.97)[:4], {"icl": 0.5, "iwl_common": 0.9}]}
    skewed["two"] = both(0.8, 0.8)
    check = Coexistence(("icl", "iwl_common"), above=0.65, not_at="zero")
    finding = check.judge(evidence(zero=both(0.9, 0.05), **skewed))
    assert (finding.outcome, finding.numbers["best condition"]) == ("holds", "two")
    low, high = finding.numbers["lesser measure there, 97.5 %"]
    assert 0.65 < low < finding.numbers["lesser measure there"] < high


def test_coexistence_needs_a_condition_besides_the_excluded_one():
    check = Coexistence(("icl", "iwl_common"), above=0.65, not_at="zero")
    finding = check.judge(evidence(zero=both(0.9, 0.05)))
    assert (finding.outcome, finding.reason) == ("undecided", "there is no condition but zero")


def run_of(values, steps=None):
    steps = range(len(values)) if steps is None else steps
    return MeasuredRun({"icl": dict(zip(steps, values, strict=True))})


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((0.5, 0.55, 0.6), "holds"), ((0.9, 0.88, 0.89), "fails"), ((0.5, 0.89, 0.7), "undecided")],
)
def test_fading_is_judged_by_the_drop_from_the_peak(ends, expected):
    runs = tuple(run_of((0.5, 0.9, end)) for end in ends)
    found = Evidence({"a": runs}, {"a": None})
    assert outcome(Fades("icl", "a", by=0.1), found, expected_runs=3) == expected


def test_noise_alone_is_not_fading():
    """The maximum of 20 noisy points lies 0.056 above the last one on average."""
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        curves = 0.8 + 0.03 * rng.standard_normal((5, 20))
        runs = tuple(run_of(own) for own in curves)
        finding = Fades("icl", "a", by=0.05).judge(Evidence({"a": runs}, {"a": None}))
        found.append((finding.outcome, finding.numbers["drop"]))
    assert abs(np.mean([drop for _, drop in found])) < 0.005
    assert [one for one, _ in found].count("holds") <= 4
    assert [one for one, _ in found].count("fails") > 40


def test_the_interval_of_a_drop_includes_the_choice_of_the_step():
    """Without it, an interval that should cover in 95 of 100 cases covers in about 80."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(100):
        curves = enumerate(0.8 + 0.03 * rng.standard_normal((12, 20)))
        runs = tuple(
            run_of(own)._replace(evaluation_seed=seed, num_sequences=2000) for seed, own in curves
        )
        finding = Fades("icl", "a", by=0.05).judge(Evidence({"a": runs}, {"a": None}))
        low, high = finding.numbers["drop, 95 %"]
        covered += low < 0 < high
    assert covered >= 90


def test_a_drop_from_an_obvious_peak_has_the_interval_of_a_mean():
    ends = np.array([0.5, 0.55, 0.6, 0.62, 0.48])
    runs = tuple(run_of((0.5, 0.9, end)) for end in ends)
    finding = Fades("icl", "a", by=0.1).judge(Evidence({"a": runs}, {"a": None}))
    usual = mean_estimate(Sample(0.9 - ends)).interval()
    assert finding.numbers["drop, 95 %"] == pytest.approx((usual.low, usual.high), rel=0.02)


def test_of_two_steps_with_equal_accuracies_the_earlier_is_the_peak():
    """The first two runs sum to 1.45 at both steps, but to a little more at the second."""
    runs = tuple(map(run_of, ((0.6, 0.8), (0.85, 0.65), (0.7, 0.95))))
    finding = Fades("icl", "a", by=0.1).judge(Evidence({"a": runs}, {"a": None}))
    assert finding.numbers["drop"] == pytest.approx((0.7 - 0.95) / 3)


@pytest.mark.parametrize("count", [1, 2])
def test_few_runs_do_not_decide_fading(count):
    one = run_of((0.5, 0.9, 0.5))._replace(num_sequences=2000)
    runs = tuple(one._replace(evaluation_seed=seed) for seed in range(count))
    finding = Fades("icl", "a", by=0.1).judge(Evidence({"a": runs}, {"a": None}))
    assert (finding.outcome, finding.numbers["drop"]) == ("undecided", pytest.approx(0.4))
    assert "drop, 95 %" not in finding.numbers


def test_extended_runs_are_compared_at_steps_common_to_all():
    runs = (run_of((0.5, 0.9, 0.5), (10, 20, 40)), run_of((0.5, 0.9, 0.8, 0.5), (10, 20, 30, 40)))
    finding = Fades("icl", "a", by=0.1).judge(Evidence({"a": runs}, {"a": None}))
    assert finding.numbers["drop"] == pytest.approx(0.4)
    assert finding.numbers["mean height"] == pytest.approx(0.9)


def test_more_conditions_do_not_raise_the_false_positive_rate_of_coexistence():
    rng, check = np.random.default_rng(0), Coexistence(("icl",), above=0.65, not_at="zero")
    outcomes = []
    for _ in range(400):
        runs = {f"c{i}": 0.65 + 0.02 * rng.standard_normal(5) for i in range(6)}
        outcomes.append(check.judge(evidence(zero=LOW, **runs)).outcome)
    # 2.5% of 400, with room for chance; about 60 without the correction.
    assert outcomes.count("holds") < 22


def test_a_check_does_not_hold_without_all_runs():
    check = Within("icl", "a", low=0.75)
    finding = result(check, evidence(a=HIGH[:4]))
    assert (finding.outcome, finding.reason) == ("undecided", f"a has 4 of 5 runs{ABSENT}")
    assert "p" not in finding.numbers
    nothing = result(check, evidence(a=()))
    assert (nothing.outcome, nothing.reason) == ("undecided", "no runs of a")
    # Conditions that the check does not name may be missing.
    assert outcome(check, evidence(a=HIGH, b=())) == "holds"
    assert outcome(Trend("icl", rising=True), evidence({"a": 0, "b": 1}, a=HIGH, b=())) == (
        "undecided"
    )


def test_the_verdict_is_that_of_the_worst_check():
    good, bad = Within("icl", "a", low=0.75), Within("icl", "a", high=0.75)
    unsure = Within("icl", "b", low=0.75)
    found = evidence(a=HIGH, b=(0.7, 0.8, 0.9, 0.7, 0.8))
    for checks, verdict in (
        ((good,), "reproduced"),
        ((good, unsure), "inconclusive"),
        ((good, unsure, bad), "not reproduced"),
    ):
        assert judge(Claim("", checks), found, 5, "limits").verdict == verdict


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 1))
def test_a_claim_and_its_opposite_never_both_hold(runs, bound):
    found = evidence(a=runs)
    above = outcome(Within("icl", "a", low=bound), found, len(runs))
    below = outcome(Within("icl", "a", high=bound), found, len(runs))
    assert {above, below} in ({"holds", "fails"}, {"undecided"}, {"fails"})


@settings(max_examples=50)
@given(
    st.lists(st.floats(0, 1), min_size=4, max_size=6, unique=True), st.floats(0, 1), st.booleans()
)
def test_a_check_holds_if_its_one_sided_p_is_below_0_025(runs, bound, shared):
    seeds = [0 if shared else i for i in range(len(runs))]
    found = evidence(a=runs, b=runs[::-1], seeds=seeds)
    for check in (
        Within("icl", "a", low=bound),
        Within("icl", "a", low=bound - 0.2, high=bound + 0.2),
        Difference("icl", high="a", low="b", more_than=-bound),
    ):
        finding = result(check, found, len(runs))
        assert (finding.outcome == "holds") == (finding.numbers["p"] < 0.025)


def test_claims_of_a_paper_are_judged_as_one_family():
    """A claim that holds alone may hold by chance among many."""
    close = evidence(a=(0.77, 0.8, 0.88, 0.79, 0.86))  # p = 0.013
    checks = (Within("icl", "a", low=0.75),)
    family = {f"claim {i}": (Claim("", checks), close, 5) for i in range(4)}
    for name, (own, strict) in judge_family(family).items():
        assert own is strict
        alone = judge(*family[name], "limits")
        assert (alone.verdict, strict.verdict) == ("reproduced", "inconclusive")
        assert strict.p_adjusted == pytest.approx(4 * alone.p)
    (only,) = judge_family({"claim": family["claim 0"]}).values()
    assert only.own.verdict == "reproduced"


def test_claims_under_the_older_rule_keep_their_verdict_alongside_the_stricter_reading():
    found = evidence(a=(0.72, 0.66, 0.76, 0.7, 0.76), b=LOW)
    claim = Claim("", (Difference("icl", high="a", low="b", more_than=0.2),), "point")
    (readings,) = judge_family({"claim": (claim, found, 5)}).values()
    assert (readings.own.verdict, readings.strict.verdict) == ("reproduced", "inconclusive")


def test_a_claim_without_runs_counts_toward_its_family():
    check = Within("icl", "a", low=0.75)
    family = {"run": (Claim("", (check,)), evidence(a=HIGH), 5)}
    planned = family | {"planned": (Claim("", (check,)), evidence(a=()), 5)}
    alone, both = judge_family(family)["run"].strict, judge_family(planned)["run"].strict
    assert both.p_adjusted == pytest.approx(2 * alone.p_adjusted)
    assert judge_family(planned)["planned"].strict.p == 1
