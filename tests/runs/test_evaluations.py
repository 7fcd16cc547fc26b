"""A results file holds evaluations of one run, at one step, with the same options."""

import json

import jax
import pytest
import tiny

from emergent_icl.config.configs import with_options
from emergent_icl.evaluation.metrics import Interval
from emergent_icl.runs import evaluations
from emergent_icl.runs.open import Run
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.build import build

pytestmark = pytest.mark.usefixtures("quick_runs")


def results(**modes):
    return {mode: {"loss": Interval(mean, mean - 1, mean + 1)} for mode, mean in modes.items()}


@pytest.fixture(scope="module")
def run():
    config = tiny.get_config()
    experiment = build(config)
    state = experiment.init(0)
    return Run(experiment, 40, state.params, state.batch_stats, config)


def opened_with(run, **options):
    paths = {f"evaluation.{name}": value for name, value in options.items()}
    config = with_options(run.experiment.config, paths)
    return run._replace(experiment=run.experiment._replace(config=config))


def write(folder, run, found, replica=""):
    path = evaluations.path_of(Workdir(folder), run, replica)
    replaced = evaluations.write(path, run, found, replica)
    return path, replaced, json.loads(path.read_text())


def test_modes_of_one_run_share_a_file(run, tmp_path):
    path, replaced, _ = write(tmp_path, run, results(bursty=2.0, flip=1.0))
    again = write(tmp_path, opened_with(run, modes=("flip",)), results(flip=3.0))
    assert again[:2] == (path, replaced) == (tmp_path / "evaluations" / "step_40.json", "")
    means = {mode: one["loss"]["mean"] for mode, one in again[2]["evals"].items()}
    assert means == {"bursty": 2.0, "flip": 3.0}


def test_results_of_another_run_are_replaced(run, tmp_path):
    """Another run has other parameters, other examples, or another config."""
    changed = jax.tree.map(lambda leaf: leaf + 1, run.params)
    seed = with_options(run.trained, {"training.seed": 3})
    bank = run.experiment.bank._replace(checksum=1)
    others = (
        run._replace(params=changed),
        run._replace(experiment=run.experiment._replace(bank=bank)),
        run._replace(trained=seed, experiment=run.experiment._replace(config=seed)),
    )
    for index, other in enumerate(others):
        folder = tmp_path / str(index)
        write(folder, run, results(bursty=2.0))
        _, replaced, content = write(folder, other, results(flip=3.0))
        assert replaced == "of another run"
        assert set(content["evals"]) == {"flip"}


def test_results_with_other_options_are_replaced_in_a_given_file(run, tmp_path):
    path = tmp_path / "results.json"
    assert evaluations.write(path, run, results(bursty=2.0)) == ""
    other = opened_with(run, num_sequences=70)
    assert (
        evaluations.write(path, other, results(flip=3.0)) == "with another num_sequences, options"
    )


def test_the_file_name_lists_options_that_differ_from_training(run, tmp_path):
    other = opened_with(run, num_sequences=70, shots=2, seed=5)
    path, _, content = write(tmp_path, other, results(flip=3.0), "low")
    assert path.name == "step_40_num_sequences=70_seed=5_shots=2.json"
    assert path.parent == tmp_path / "evaluations" / "low"
    assert content["options"] == {
        "evaluation.num_sequences": 70, "evaluation.seed": 5, "evaluation.shots": 2
    }  # fmt: skip
    assert (content["shots"], content["ways"], content["replica"]) == (2, 2, "low")
    # Setting an option to its derived value is not a difference.
    assert write(tmp_path, opened_with(run, shots=4), results(flip=3.0))[0].name == "step_40.json"
