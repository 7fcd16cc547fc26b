"""Sweeps over two options (conditions, jobs, results), and values from NumPy."""

import dataclasses

import numpy as np
import pytest
import tiny
import tiny_sweep
from finished_runs import Ends, finish

from emergent_icl.config.configs import named_overrides, with_options
from emergent_icl.evaluation.metrics import ICL
from emergent_icl.findings import FINDINGS
from emergent_icl.findings import map as classes_by_bursts
from emergent_icl.runs.check import check
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir
from emergent_icl.sweeps import registration
from emergent_icl.sweeps.claims import Claim, Difference, Trend
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.results import collect
from emergent_icl.sweeps.spec import Condition, Search, Sweep, SweepError, grid, over

CLASSES = over("data.split.num_rare", (10, 20), "classes")
BURSTS = over("data.sequences.p_bursty", (0.0, 0.5, 1.0), "p")
MAP = Sweep(
    name="map",
    title="A map",
    axis=("training classes", "bursty sequences"),
    base=with_options(
        tiny.get_config(), {"data.split.num_common": 0, "evaluation.num_sequences": 10_000}
    ),
    conditions=grid(CLASSES, BURSTS),
    seeds=(0, 3),
    together=True,
)
NAMES = [f"classes={count},p={p}" for count in (10, 20) for p in ("0", "0.5", "1")]


def finished(root, sweep):
    """Results of a sweep whose runs end with ICL = classes / 100 + p / 10 + seed / 1,000."""
    for job in make_jobs([sweep], root):
        ends = {}
        for one in job.config.training.replica_overrides:
            changed = with_options(job.config, {key: one[key] for key in one if key != "name"})
            data = changed.data
            ends[one["name"]] = (
                data.split.num_rare / 100
                + data.sequences.p_bursty / 10
                + one["training.seed"] / 1_000
            )
        finish(job, Ends(icl=ends, iwl=0.5))
    return collect([sweep], root, {"preset": None})


def test_a_grid_has_a_condition_for_each_pair_of_values():
    MAP.check()
    assert [one.name for one in MAP.conditions] == NAMES
    assert MAP.conditions[-1].value == (20, 1.0)
    config = MAP.config(MAP.conditions[-1])
    assert (config.data.split.num_rare, config.data.sequences.p_bursty) == (20, 1.0)


def test_one_job_trains_all_conditions_of_a_seed(tmp_path):
    jobs = make_jobs([MAP], tmp_path)
    assert [one.name for one in jobs] == ["map/together/seeds=0", "map/together/seeds=3"]
    for job, seed in zip(jobs, MAP.seeds, strict=True):
        names = [name for name, _ in named_overrides(job.config)]
        assert names == NAMES
        # Each replica equals the run in a job of its own condition.
        alone = [MAP.replicas([seed])[0] | dict(one.overrides) for one in MAP.conditions]
        together = [overrides for _, overrides in named_overrides(job.config)]
        assert [one | {"name": f"seed={seed}"} for one in together] == alone


@pytest.mark.parametrize("together", [True, False])
def test_results_list_each_run_under_its_condition(tmp_path, together):
    results = finished(tmp_path, dataclasses.replace(MAP, together=together))
    assert (results["verdicts"], results["claims"], results["runs"]) == ({}, 0, 12)
    sweep = results["sweeps"]["map"]
    assert list(sweep["axis"]) == ["training classes", "bursty sequences"]
    for name, one in sweep["conditions"].items():
        count, p = one["value"]
        assert name == f"classes={count},p={p:g}"
        ends = {seed: run["final"]["icl"] for seed, run in one["runs"].items()}
        least = count / 100 + p / 10
        assert ends == {"0": pytest.approx(least), "3": pytest.approx(least + 0.003)}


@pytest.mark.usefixtures("quick_runs")
def test_results_of_runs_trained_together_match_their_evaluations(tmp_path):
    quick = {"training.num_steps": 2, "evaluation.num_sequences": 50, "evaluation.every": 2}
    base = with_options(MAP.base, quick | {"evaluation.modes": (ICL[0],)})
    sweep = dataclasses.replace(
        MAP, base=base, conditions=MAP.conditions[:2], measures=("icl",), seeds=(3,)
    )
    (job,) = make_jobs([sweep], tmp_path)
    train(job.config, job.workdir)
    evals = job.workdir.read_summary()["replicas"]
    results = collect([sweep], tmp_path, {})
    for name, one in results["sweeps"]["map"]["conditions"].items():
        icl = one["runs"]["3"]["final"]["icl"]
        mode, metric = ICL
        assert icl == pytest.approx(evals[name]["evals"][mode][metric], abs=1e-5)


def test_a_claim_compares_conditions_along_one_axis(tmp_path):
    claim = Claim(
        "More classes, more in context.",
        (Difference("icl", high="classes=20,p=1", low="classes=10,p=1", more_than=0.05),),
    )
    sweep = dataclasses.replace(MAP, claim=claim)
    sweep.check()
    results = finished(tmp_path, sweep)
    assert results["verdicts"]["map"]["verdict"] == "reproduced"
    (found,) = results["verdicts"]["map"]["statistics"]
    assert found["numbers"]["difference"] == pytest.approx(0.1)


SPACE = {"training.optimizer.learning_rate": (1e-3, 1e-1)}
TREND = Claim("", (Trend("icl", rising=True),))
ONE_AXIS = tiny_sweep.get_sweep()
WRONG = {
    "a trend": (MAP, {"claim": TREND}, "needs a single axis: compare conditions"),
    "one axis, two values": (MAP, {"axis": "classes", "claim": TREND}, "must be a pair of names"),
    "three axes": (MAP, {"axis": ("a", "b", "c")}, r"axis = \('a', 'b', 'c'\) must be a name, or"),
    "two axes, one value": (MAP, {"conditions": CLASSES}, "'classes=10' has the value 10, but two"),
    "two axes, no value": (MAP, {"conditions": (Condition("a", {}),)}, "'a' has the value None"),
    "two conditions in one cell": (
        MAP,
        {"conditions": (*MAP.conditions, Condition("again", {}, (20, 1.0)))},
        r"two conditions have the same values \(20, 1.0\)",
    ),
    "one axis without a claim": (ONE_AXIS, {"claim": None}, "must have at least one check"),
    "a search": (MAP, {"search": Search(SPACE)}, "a search cannot train its conditions together"),
    "other shapes": (
        MAP,
        {"conditions": grid(CLASSES, over("model.num_layers", (1, 2), "layers"))},
        "model.num_layers is common to all replicas",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_mismatched_axes_and_values_are_rejected(name):
    sweep, changes, said = WRONG[name]
    with pytest.raises(SweepError, match=said):
        dataclasses.replace(sweep, **changes).check()


def test_without_a_claim_there_is_nothing_to_register(tmp_path):
    with pytest.raises(SweepError, match="no claim to register"):
        registration.register([MAP], tmp_path)
    assert registration.status([MAP], tmp_path) == {"status": {}}


def test_the_predefined_map_is_not_a_finding():
    sweep = classes_by_bursts.get_sweep()
    sweep.check()
    assert sweep.name not in FINDINGS
    assert sweep.claim is None
    assert len(sweep.conditions) == 25


NUMPY = {
    "values of an axis": lambda: dataclasses.replace(
        ONE_AXIS, conditions=over("data.sequences.shots", np.array([1, 2, 3]), "p"), claim=PAIR
    ),
    "values of two axes": lambda: dataclasses.replace(
        MAP,
        conditions=grid(
            over("data.split.num_rare", np.array([10, 20]), "classes"),
            over("data.sequences.p_bursty", np.linspace(0, 1, 3, dtype=np.float32), "p"),
        ),
    ),
    "overrides": lambda: dataclasses.replace(
        ONE_AXIS,
        conditions=(
            Condition("p=1", {"data.sequences.grouped": np.bool_(True)}, np.float64(1)),
            Condition("p=2", {"data.split.holdout": np.arange(8)}, np.int64(2)),
        ),
        claim=PAIR,
        split="fixed",
    ),
    "seeds": lambda: dataclasses.replace(ONE_AXIS, seeds=np.arange(3)),
    "options of the base": lambda: ONE_AXIS.with_base_options({"training.batch_size": np.int64(4)}),
    "a search": lambda: dataclasses.replace(
        ONE_AXIS, search=Search({"training.optimizer.learning_rate": np.array([1e-3, 1e-1])})
    ),
}
PAIR = Claim("", (Difference("icl", high="p=2", low="p=1"),))


@pytest.mark.parametrize("where", NUMPY)
def test_a_sweep_accepts_numpy_values(where, tmp_path):
    """They are converted to plain numbers before they are checked, compared, or stored."""
    sweep = NUMPY[where]()
    sweep.check()
    given = repr((sweep.conditions, sweep.seeds, sweep.search))
    assert "array" not in given
    assert "np." not in given
    for job in make_jobs([sweep], tmp_path):
        job.workdir.make()
        job.workdir.claim(job.config)
        assert job.workdir.read_config().to_dict() == job.config.to_dict()


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.array(3)])
def test_replicas_accept_numpy_values(seed, tmp_path):
    given = {"name": "a", "training.seed": seed, "data.sequences.p_bursty": np.float64(0.5)}
    plain = {"training.seed": 3, "data.sequences.p_bursty": 0.5}
    config = with_options(tiny.get_config(), {"training.replica_overrides": [given]})
    check(config)
    (named,) = named_overrides(config)
    assert named == ("a", plain)
    assert all(type(one) in (int, float) for one in named[1].values())
    assert "np." not in repr(config.training.replica_overrides)
    # A config file assigns them without conversion.
    with config.unlocked():
        config.training.replica_overrides = (given,)
    assert named_overrides(config) == [("a", plain)]
    check(config)
    Workdir(tmp_path).claim(config)
    assert named_overrides(Workdir(tmp_path).read_config()) == [("a", plain)]
