"""Stored runs keep their behavior at every entry point if a default has changed."""

import json
import signal

import numpy as np
import pytest
import tiny

from emergent_icl import presets
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import place, with_options
from emergent_icl.config.registry import EVALUATION_MODES
from emergent_icl.evaluation.evaluate import draw_mode
from emergent_icl.runs.open import load_run
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.jobs import Job
from emergent_icl.training.replicas import make_replicas

pytestmark = pytest.mark.usefixtures("quick_runs")

OPTIONS = {"training.num_steps": 20, "checkpoints.every": 10, "checkpoints.keep": 3}
TODAY = with_options(tiny.get_config(), OPTIONS)
# The values of an earlier version, which had one way to draw and did not derive shots and ways.
BEFORE = {"data.sequences.draws": 1, "evaluation.shots": 3, "evaluation.ways": 2}


class Facts(Display):
    def started(self, facts):
        self.facts = facts


def forget(workdir):
    tree = json.loads(workdir.config.read_text())
    del tree["data"]["sequences"]["draws"]
    workdir.config.write_text(json.dumps(tree))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """An unfinished run as an earlier version left it."""
    workdir = Workdir(tmp_path_factory.mktemp("stored"))
    train(with_options(TODAY, {**BEFORE, "training.num_steps": 10}), workdir, Display())
    forget(workdir)
    return workdir


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.num_steps", "abc"), ("training.seed", 1.5), ("training.steps_per_call", "x"),
        ("evaluation", 3), ("training.optimizer.options", 3), ("data.sequences", [1]),
    ],
)  # fmt: skip
def test_a_stored_value_of_the_wrong_type_gives_the_same_message_everywhere(path, value, tmp_path):
    tree = TODAY.to_dict()
    section, name = place(tree, path)
    section[name] = value
    (tmp_path / "config.json").write_text(json.dumps(tree))
    with pytest.raises(ConfigError, match=path) as opened:
        load_run(tmp_path)
    with pytest.raises(ConfigError) as trained:
        train(presets.load(f"stored:{tmp_path}"), Workdir(tmp_path))
    assert str(trained.value) == str(opened.value)


def evaluated(workdir, step):
    lines = {line["step"]: line for line in read_metrics(workdir.metrics)}
    return {key: value for key, value in lines[step].items() if key.startswith("eval/")}


def test_the_same_command_keeps_the_stored_behavior(stored, tmp_path):
    """Also the second time: the config that the first writes must allow the next one."""
    first = evaluated(stored, 10)
    for steps in (20, 30):
        seen = Facts()
        train(with_options(TODAY, {"training.num_steps": steps}), stored, seen)
        kept = "data.sequences.draws = 1, as stored, evaluation.shots = 3, as stored"
        assert seen.facts["keeps"] == kept
        assert seen.facts["lengths"] == "trained on 8 pairs, evaluated on fewshot_holdout 6"
    assert "draws" not in json.loads(stored.config.read_text())["data"]["sequences"]
    opened = load_run(stored.path, step=10)
    assert opened.experiment.config.data.sequences.draws == 1
    results = opened.experiment.evaluator()(opened.params, opened.batch_stats, opened.device_bank())
    again = {f"eval/{m}/{k}": one.mean for m, own in results.items() for k, one in own.items()}
    assert again == pytest.approx(first, abs=1e-6)
    plain = Workdir(tmp_path)
    train(with_options(TODAY, {**BEFORE, "training.num_steps": 30}), plain, Display())
    assert evaluated(plain, 30) == evaluated(stored, 30)


def test_a_command_with_another_value_is_refused(stored):
    other = with_options(TODAY, {"evaluation.shots": 2})
    with pytest.raises(WorkdirError, match=r"evaluation\.shots: 3 there, 2 here") as raised:
        stored.check(other)
    assert str(raised.value).count(" there, ") == 1


def test_a_sweep_finds_its_stored_runs(stored):
    """With the option that it leaves unset, it would report another one than was measured."""
    steps = {"training.num_steps": stored.read_config().training.num_steps}
    job = Job("sweep", "condition", stored, with_options(TODAY, steps))
    assert not job.is_complete()
    with pytest.raises(WorkdirError, match=r"evaluation\.shots: 3 there, unset here"):
        job.check()
    job = job._replace(config=with_options(TODAY, {**steps, "evaluation.shots": 3}))
    job.check()
    assert job.is_complete()


def test_a_new_run_uses_the_values_of_its_config(tmp_path):
    seen, workdir = Facts(), Workdir(tmp_path)
    with pytest.raises(Interrupted):
        train(TODAY, workdir, seen, lambda: signal.SIGTERM)
    assert seen.facts["keeps"] == seen.facts["lengths"] == ""
    assert workdir.read_config() == TODAY


def drawn(mode, count, **options):
    config = with_options(
        tiny.get_config("images"),
        {"evaluation.modes": (mode,), "evaluation.num_sequences": count, **options},
    )
    (replica,) = make_replicas(config)
    return draw_mode(config, replica.task, mode)


@pytest.mark.parametrize("mode", list(EVALUATION_MODES))
def test_sequences_of_an_evaluation_are_the_first_of_any_larger_number(mode):
    few, many = drawn(mode, 40), drawn(mode, 1500)
    for one, other in zip(few.batch, many.batch, strict=True):
        np.testing.assert_array_equal(one, other[:40])
    np.testing.assert_array_equal(few.own, many.own[:40])
    another = drawn(mode, 40, **{"evaluation.seed": 1})
    assert any((a != b).any() for a, b in zip(few.batch, another.batch, strict=True))
    # Later blocks do not repeat the first.
    assert (many.batch.class_ids[:500] != many.batch.class_ids[1000:]).any()
