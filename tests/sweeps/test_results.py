"""The content of results.json; only complete runs decide verdicts."""

import dataclasses
import json
import math

import pytest
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.data.task import make_task
from emergent_icl.evaluation.measures import best_constant, chance
from emergent_icl.presets import omniglot_augmented
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.results import collect, results_text

PLAIN, SEARCHED = tiny_sweep.get_sweep(), tiny_sweep.get_sweep("searched")
SEEDS = (0, 1, 2, 3, 4)
EXTRA = "eval/fewshot_holdout/predicts_context"

ABSENT = " (others are missing, or diverged)"


def ends(job):
    bursty = "p=1" in job.name
    spread = {f"seed={seed}": seed / 100 for seed in SEEDS}
    icl = {name: 0.5 + 0.3 * bursty + one for name, one in spread.items()}
    iwl = {name: 0.8 - 0.6 * bursty + one for name, one in spread.items()}
    return Ends(icl=icl, iwl=iwl, **{EXTRA: 0.25})


def finished(root, sweep=PLAIN, skip=(), **options):
    for job in make_jobs(tiny_sweep.seeded([sweep], SEEDS), root, len(SEEDS)):
        if job.name not in skip:
            finish(job, ends(job), **options)
    return collect(tiny_sweep.seeded([sweep], SEEDS), root, {"preset": "tiny"})


def test_complete_runs_give_numbers_and_a_verdict(tmp_path):
    results = finished(tmp_path)
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "reproduced"
    assert verdict["claim"] == "Bursts do something."
    assert len(verdict["runs"]) == 10
    assert verdict["runs"][0] == "tiny/p=0/seeds=0-4 (seed=0)"
    difference, trend = verdict["statistics"]
    assert difference["numbers"]["difference"] == pytest.approx(0.3)
    assert difference["check"].endswith("is above 0 (95 % interval)")
    assert difference["numbers"]["p"] < 1e-4
    assert trend["outcome"] == "holds"
    # A family of one claim.
    assert (results["claims"], verdict["rule"]) == (1, "limits")
    assert verdict["strict"]["p"] == verdict["strict"]["p_adjusted"] == trend["numbers"]["p"]
    assert verdict["strict"]["outcomes"] == ["holds", "holds"]
    run = results["sweeps"]["tiny"]["conditions"]["p=1"]["runs"]["2"]
    assert run["curves"]["icl"] == {"steps": [20, 40], "values": [0.41, 0.82]}
    assert run["final"] == {"icl": 0.82, "iwl": 0.22, EXTRA: 0.25}
    assert EXTRA not in run["curves"]
    assert results["compute_seconds"] == 3.0
    assert results["machine"]["devices"] == "1 x cpu"
    # The version that trained, not the one that judges.
    assert results["versions"]["jax"] == "0.9.9"
    assert (results["preset"], results["dataset"]) == ("tiny", "symbolic")
    assert json.loads(json.dumps(results, allow_nan=False))["seeds"] == list(SEEDS)


def test_chance_is_one_half_for_icl_and_one_over_all_labels_for_iwl(tmp_path):
    conditions = finished(tmp_path)["sweeps"]["tiny"]["conditions"]
    assert conditions["p=0"]["chance"] == {"icl": 0.5, "iwl": 1 / 40}


def test_curves_of_a_sweeps_measures_are_kept(tmp_path):
    sweep = dataclasses.replace(PLAIN, measures=("icl", EXTRA))
    runs = finished(tmp_path, sweep)["sweeps"]["tiny"]["conditions"]["p=0"]["runs"]
    assert runs["0"]["curves"][EXTRA]["values"] == [0.125, 0.25]


def test_without_runs_a_verdict_is_inconclusive_for_a_stated_reason(tmp_path):
    results = collect(tiny_sweep.seeded([PLAIN], SEEDS), tmp_path, {})
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "inconclusive"
    assert verdict["statistics"][0]["reason"] == "no runs of p=0, p=1"
    assert not any(tmp_path.iterdir())


def test_a_condition_without_runs_makes_the_claim_inconclusive(tmp_path):
    results = finished(tmp_path, skip=("tiny/p=1/seeds=0-4",))
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "inconclusive"
    assert len(verdict["runs"]) == 5
    assert results["sweeps"]["tiny"]["conditions"]["p=1"]["runs"] == {}


def test_a_diverged_run_is_listed_but_decides_nothing(tmp_path):
    results = finished(tmp_path, diverged=("seed=3",))
    runs = results["sweeps"]["tiny"]["conditions"]["p=1"]["runs"]
    assert (runs["3"]["diverged_at_step"], runs["3"]["final"]) == (1, {})
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "inconclusive"
    assert len(verdict["runs"]) == 8
    assert (
        verdict["statistics"][0]["reason"]
        == f"p=0 has 4 of 5 runs{ABSENT}; p=1 has 4 of 5 runs{ABSENT}"
    )


def test_runs_of_other_seeds_are_ignored(tmp_path):
    finished(tmp_path)
    fewer = collect(tiny_sweep.seeded([PLAIN], SEEDS[:2]), tmp_path, {})
    assert len(fewer["verdicts"]["tiny"]["runs"]) == 4


def test_searches_are_listed_with_the_chosen_draws(tmp_path):
    for job in make_jobs(tiny_sweep.seeded([SEARCHED], SEEDS), tmp_path, 5):
        if job.name == "tiny/p=0/search":
            finish(job, Ends(icl={"draw=0": 0.5, "draw=1": 0.7}))
        if job.name == "tiny/p=1/search":
            finish(job, Ends(icl=0.5), diverged=("draw=0", "draw=1"))
    search = collect(tiny_sweep.seeded([SEARCHED], SEEDS), tmp_path, {})["sweeps"]["tiny"]["search"]
    assert search["p=0"]["chosen"] == "draw=1"
    assert search["p=1"]["chosen"] is None
    about = SEARCHED.search
    assert search["p=0"]["choose_by"] == about.choose_by
    assert search["p=0"]["num_steps"] == (about.num_steps or SEARCHED.base.training.num_steps)
    found = search["p=0"]["draws"]["draw=1"]
    assert (found["overrides"], found["final"]) == (SEARCHED.search.settings()[1], {"icl": 0.7})


def test_the_file_is_json_with_one_line_per_curve(tmp_path):
    results = json.loads(json.dumps(finished(tmp_path)))
    text = results_text(results)
    assert json.loads(text) == results
    assert '"icl": {"steps": [20, 40]' not in text  # A dictionary of lists has a line for each.
    assert '"steps": [20, 40],\n' in text
    assert json.loads(results_text({"a": [], "b": {}, "c": [[1], {}]})) == {
        "a": [], "b": {}, "c": [[1], {}],
    }  # fmt: skip
    with pytest.raises(ValueError, match="not JSON compliant"):
        results_text({"a": math.nan})


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("icl", 1 / 2),
        # Open: among all 40 labels, of which only two occur as answers.
        ("eval/fewshot_holdout/accuracy", 1 / 40),
        ("iwl", 1 / 40),
        ("loss", None),
        ("eval/flip/accuracy", None),
    ],
)
def test_chance_depends_on_the_labels_that_may_be_predicted(measure, expected, config):
    assert chance(measure, make_task(config)) == expected


@pytest.mark.parametrize("split", ["replicate", "fixed"])
@pytest.mark.parametrize("rule", ["limits", "point"])
def test_two_equal_runs_decide_nothing(split, rule, tmp_path):
    """Equal measurements do not imply a difference of exactly 0."""
    claim = dataclasses.replace(PLAIN.claim, rule=rule)
    sweep = dataclasses.replace(PLAIN, split=split, seeds=(0, 1), claim=claim)
    for job in make_jobs([sweep], tmp_path):
        finish(job, Ends(icl=0.5, iwl=0.5))
    verdict = collect([sweep], tmp_path, {})["verdicts"]["tiny"]
    assert verdict["verdict"] == verdict["strict"]["verdict"] == "inconclusive"
    low, high = verdict["statistics"][0]["numbers"]["difference, 95 %"]
    assert low < -0.1 < 0.1 < high


@pytest.mark.parametrize(("split", "expected"), [("replicate", list(SEEDS)), ("fixed", [0] * 5)])
def test_runs_record_the_seed_and_number_of_their_evaluation_sequences(split, expected, tmp_path):
    sweep = dataclasses.replace(PLAIN, split=split)
    runs = finished(tmp_path, sweep)["sweeps"]["tiny"]["conditions"]["p=1"]["runs"].values()
    assert [run["evaluation_seed"] for run in runs] == expected
    assert {run["num_sequences"] for run in runs} == {50}


def test_the_accuracy_of_the_best_constant_answer_is_recorded_alongside_chance(tmp_path):
    skewed = PLAIN.with_base_options({"data.sequences.zipf_exponent": 1.0})
    condition = finished(tmp_path, skewed)["sweeps"]["tiny"]["conditions"]["p=0"]
    # The most frequent of 32 classes.
    harmonic = sum(1 / rank for rank in range(1, 33))
    assert condition["constant"] == {"icl": 0.5, "iwl": pytest.approx(1 / harmonic, abs=1e-5)}
    assert condition["chance"] == {"icl": 0.5, "iwl": 1 / 40}


@pytest.mark.parametrize(("exponent", "expected"), [(1.5, 0.385), (2, 0.608), (3, 0.832)])
def test_the_most_frequent_of_12800_classes_alone_scores_high_under_zipf(exponent, expected):
    config = omniglot_augmented.get_config("small").unlock()
    config.data.sequences.zipf_exponent = float(exponent)
    task = make_task(config)
    assert task.space.split.num_train == 12_800
    assert best_constant("iwl", task) == pytest.approx(expected, abs=5e-4)
    assert best_constant("loss", task) is None
