"""results.json holds every number that was measured, and verdicts by the complete runs alone."""

import dataclasses
import json
import math

import pytest
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.data.task import make_task
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.measures import chance
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


def test_numbers_and_verdict_of_complete_runs(tmp_path):
    results = finished(tmp_path)
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "reproduced"
    assert verdict["claim"] == "Bursts do something."
    assert len(verdict["runs"]) == 10
    assert verdict["runs"][0] == "tiny/p=0/seeds=0-4 (seed=0)"
    difference, trend = verdict["statistics"]
    assert difference["numbers"]["difference"] == pytest.approx(0.3)
    assert difference["numbers"]["p"] == pytest.approx(1 / 252, abs=1e-5)
    assert trend["outcome"] == "holds"
    run = results["sweeps"]["tiny"]["conditions"]["p=1"]["runs"]["2"]
    assert run["curves"]["icl"] == {"steps": [20, 40], "values": [0.41, 0.82]}
    assert run["final"] == {"icl": 0.82, "iwl": 0.22, EXTRA: 0.25}
    assert EXTRA not in run["curves"]
    assert results["compute_seconds"] == 3.0
    assert results["machine"]["devices"] == "1 x cpu"
    # Of the runs, not of whoever judges them.
    assert results["versions"]["jax"] == "0.9.9"
    assert (results["preset"], results["dataset"]) == ("tiny", "symbolic")
    assert json.loads(json.dumps(results, allow_nan=False))["seeds"] == list(SEEDS)


def test_chance_is_one_of_two_in_context_and_one_of_all_labels_in_weights(tmp_path):
    conditions = finished(tmp_path)["sweeps"]["tiny"]["conditions"]
    assert conditions["p=0"]["chance"] == {"icl": 0.5, "iwl": 1 / 40}


def test_curves_are_kept_of_the_measures_that_a_sweep_shows(tmp_path):
    sweep = dataclasses.replace(PLAIN, measures=("icl", EXTRA))
    runs = finished(tmp_path, sweep)["sweeps"]["tiny"]["conditions"]["p=0"]["runs"]
    assert runs["0"]["curves"][EXTRA]["values"] == [0.125, 0.25]


def test_without_runs_there_is_no_verdict_but_a_reason(tmp_path):
    results = collect(tiny_sweep.seeded([PLAIN], SEEDS), tmp_path, {})
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "inconclusive"
    assert verdict["statistics"][0]["reason"] == "no runs of p=0, p=1"
    assert not any(tmp_path.iterdir())


def test_a_condition_that_failed_leaves_the_claim_open(tmp_path):
    results = finished(tmp_path, skip=("tiny/p=1/seeds=0-4",))
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "inconclusive"
    assert len(verdict["runs"]) == 5
    assert results["sweeps"]["tiny"]["conditions"]["p=1"]["runs"] == {}


def test_a_run_that_diverged_is_shown_and_decides_nothing(tmp_path):
    results = finished(tmp_path, diverged=("seed=3",))
    runs = results["sweeps"]["tiny"]["conditions"]["p=1"]["runs"]
    assert (runs["3"]["diverged_at_step"], runs["3"]["final"]) == (1, {})
    verdict = results["verdicts"]["tiny"]
    assert verdict["verdict"] == "inconclusive"
    assert (
        verdict["statistics"][0]["reason"]
        == f"p=0 has 4 of 5 runs{ABSENT}; p=1 has 4 of 5 runs{ABSENT}"
    )


def test_seeds_that_are_not_asked_for_do_not_count(tmp_path):
    finished(tmp_path)
    fewer = collect(tiny_sweep.seeded([PLAIN], SEEDS[:2]), tmp_path, {})
    assert len(fewer["verdicts"]["tiny"]["runs"]) == 4


def test_searches_are_told_with_what_they_chose(tmp_path):
    for job in make_jobs(tiny_sweep.seeded([SEARCHED], SEEDS), tmp_path, 5):
        if job.name == "tiny/p=0/search":
            finish(job, Ends(icl={"draw=0": 0.5, "draw=1": 0.7}))
        if job.name == "tiny/p=1/search":
            finish(job, Ends(icl=0.5), diverged=("draw=0", "draw=1"))
    search = collect(tiny_sweep.seeded([SEARCHED], SEEDS), tmp_path, {})["sweeps"]["tiny"]["search"]
    assert search["p=0"]["chosen"] == "draw=1"
    assert search["p=1"]["chosen"] is None
    found = search["p=0"]["draws"]["draw=1"]
    assert (found["overrides"], found["final"]) == (SEARCHED.search.settings()[1], {"icl": 0.7})


def test_the_file_is_json_with_a_line_a_curve(tmp_path):
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
        # Open: among all 40 labels, of which two are ever right.
        ("eval/fewshot_holdout/accuracy", 1 / 40),
        ("iwl", 1 / 40),
        ("loss", None),
        ("eval/flip/accuracy", None),
    ],
)
def test_chance_is_that_of_the_labels_that_may_be_given(measure, expected, config):
    assert chance(measure, make_task(config)) == expected
