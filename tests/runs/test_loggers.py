"""Loggers: where metrics go besides metrics.jsonl."""

import json
import sys
import types

import pytest
import tiny

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import with_options
from emergent_icl.config.registry import LOGGERS
from emergent_icl.runs.open import load_run
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir

pytestmark = pytest.mark.usefixtures("quick_runs")


def config(*names, **options):
    values = {"training.num_steps": 20, "logging.loggers": names}
    return with_options(tiny.get_config(), values | options)


def run(folder, config):
    train(config, Workdir(folder), Display())
    times = ("steps_per_second", "sequences_per_second")
    found = read_metrics(Workdir(folder).metrics)
    return [{key: x for key, x in line.items() if key not in times} for line in found]


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package that records its calls."""
    fake = types.SimpleNamespace(runs=[], Settings=dict)

    class Run:
        def __init__(self, **settings):
            self.settings, self.rows, self.ended = settings, [], None
            fake.runs.append(self)

        def log(self, row, step):
            self.rows.append((step, row))

        def finish(self, exit_code):
            self.ended = exit_code

    fake.init = Run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


@pytest.fixture
def failing(monkeypatch):
    """A logger that fails at its second line; returns a list of its calls."""
    monkeypatch.setattr(LOGGERS, "maps", [{}, *LOGGERS.maps])
    calls = []

    @LOGGERS.register("failing")
    class Failing:
        def __init__(self, opening):
            self.opening = opening

        def write(self, step, records):
            calls.append(step)
            if len(calls) == 2:
                raise ConnectionError("no route to host")

        def close(self, failed):
            calls.append("closed")

    return calls


def test_loggers_do_not_change_the_metrics(tmp_path):
    assert run(tmp_path / "none", config()) == run(tmp_path / "both", config("tensorboard"))
    assert not Workdir(tmp_path / "none").tensorboard.exists()
    assert list(Workdir(tmp_path / "both").tensorboard.glob("events.*"))
    # A run may be resumed with other loggers.
    run(tmp_path / "none", config("tensorboard", **{"training.num_steps": 40}))
    assert list(Workdir(tmp_path / "none").tensorboard.glob("events.*"))


def test_weights_and_biases_receives_each_line(wandb, tmp_path):
    lines = run(tmp_path / "run", config("wandb", **{"logging.wandb_project": "bursts"}))
    (one,) = wandb.runs
    assert [step for step, _ in one.rows] == [line["step"] for line in lines]
    assert one.rows[0][1]["train/loss"] == lines[0]["train/loss"]
    assert (one.settings["project"], one.settings["name"]) == ("bursts", "run")
    assert one.settings["group"] is None
    assert one.settings["config"]["training"]["num_steps"] == 20
    assert json.dumps(one.settings["config"])
    assert one.ended == 0


def test_a_resumed_run_continues_its_wandb_run_and_other_runs_do_not(wandb, tmp_path, monkeypatch):
    run(tmp_path / "run", config("wandb"))
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "new").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "new/run")
    run(tmp_path / "new/run", config("wandb", **{"training.num_steps": 30}))
    run(tmp_path / "other", config("wandb"))
    monkeypatch.setattr("emergent_icl.runs.train.utc_now", lambda: "later")
    run(tmp_path / "run", config("wandb"))
    first, resumed, *others = [one.settings["id"] for one in wandb.runs]
    assert first == resumed
    assert len({first, *others}) == 3
    assert wandb.runs[1].rows[0][0] == 30


def test_replicas_are_runs_of_one_group(wandb, tmp_path):
    run(tmp_path / "pair", config("wandb", **{"training.replicas": 2}))
    assert [one.settings["name"] for one in wandb.runs] == ["seed=0", "seed=1"]
    assert {one.settings["group"] for one in wandb.runs} == {"pair"}
    assert len({one.settings["id"] for one in wandb.runs}) == 2
    assert [one.settings["config"]["training"]["seed"] for one in wandb.runs] == [0, 1]
    losses = [one.rows[0][1]["train/loss"] for one in wandb.runs]
    assert losses[0] != losses[1]


def test_a_run_that_fails_is_marked_as_failed(wandb, tmp_path):
    with pytest.raises(FloatingPointError):
        run(tmp_path, config("wandb", **{"training.optimizer.learning_rate": 1e30}))
    assert [one.ended for one in wandb.runs] == [1]


def test_a_logger_that_fails_is_reported_once_and_changes_nothing(failing, tmp_path, caplog):
    lines = run(tmp_path / "run", config("failing", "tensorboard"))
    assert failing == [10, 20]
    assert [record.getMessage() for record in caplog.records] == [
        "Logger 'failing' failed and is now disabled: no route to host"
    ]
    assert lines == run(tmp_path / "plain", config())
    assert list(Workdir(tmp_path / "run").tensorboard.glob("events.*"))


def test_a_logger_without_its_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'emergent-icl\[wandb\]'"):
        run(tmp_path / "run", config("wandb"))
    assert not (tmp_path / "run").exists()


def test_a_logger_that_cannot_start_ends_the_command_but_a_run_can_be_opened(
    wandb, tmp_path, monkeypatch
):
    run(tmp_path, config("wandb"))

    def refuse(**settings):
        raise ValueError("not logged in")

    wandb.init = refuse
    with pytest.raises(ConfigError, match="'wandb' cannot be started: not logged in"):
        run(tmp_path, config("tensorboard", "wandb", **{"training.num_steps": 40}))
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert load_run(tmp_path).step == 20
    run(tmp_path, config(**{"training.num_steps": 40}))


@pytest.mark.parametrize("names", [("tensorbord",), ("tensorboard", "tensorboard"), "wandb"])
def test_unknown_and_repeated_loggers_are_refused(names, tmp_path):
    with pytest.raises(ConfigError, match=r"logging\.loggers = .* tensorboard, wandb"):
        run(tmp_path / "run", with_options(config(), {"logging.loggers": names}))


def test_the_real_package_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")  # An extra: the tests above use a stand-in.
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(tmp_path / "run", config("wandb", **{"training.replicas": 2}))
    assert wandb.run is None
    assert len(list((tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb"))) == 2
