"""The plan for a machine with one accelerator: each result is kept, and a second call continues."""

import contextlib
import functools
import itertools
import json
import math
import operator
import os
import pickle
import re
import signal

import jax
import numpy as np
import pytest
import tiny
from launching import PATIENCE, ROOT, launch, start, wait_for

from benchmarks import accelerator, candidates, golden
from benchmarks.candidates import CANDIDATES
from benchmarks.plan import PRECISIONS, How, Item, measure, plan
from benchmarks.worker import Worker
from emergent_icl.runs.check import check
from emergent_icl.runs.records import last_step
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.build import build
from emergent_icl.training.optimizers import hyper_from_config


def test_the_plan_names_each_measurement_once_the_most_important_first():
    items = list(plan(tiny.get_config("images")))
    names = [item.name for item in items]
    assert len(set(names)) == len(names)
    assert names[:4] == [
        "golden_transformer_resnet_highest",
        "golden_transformer_resnet_default",
        "step_batch_32_tf32",
        "step_deterministic_true",
    ]
    subjects = {name.partition("_")[0] for name in names}
    assert subjects == {"golden", "step", "candidate", "replicas", "evaluation"}
    for batch, precision in itertools.product((32, 128, 512), PRECISIONS):
        assert f"step_batch_{batch}_{precision}" in names
    # Other processes measure them.
    assert [item.name for item in pickle.loads(pickle.dumps(items))] == names


def test_a_flat_optimizer_computes_the_same_updates():
    config = tiny.get_config("vectors")
    experiment = build(config, check(config))
    state, hyper = experiment.init(0), hyper_from_config(config)
    flat = candidates.flat(experiment.optimizer)
    gradients = jax.tree.map(lambda leaf: leaf + 0.1, state.params)
    plain, _ = experiment.optimizer.update(
        gradients, state.opt_state, state.params, hyper, state.step
    )
    found, _ = flat.update(gradients, flat.init(state.params), state.params, hyper, state.step)
    assert jax.tree.structure(found) == jax.tree.structure(plain)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)


def test_joined_averages_are_those_of_each_layer():
    config = tiny.get_config("resnet")
    experiment = build(config, check(config))
    plain, state = experiment.network, experiment.init(0)
    joined = candidates.JoinedAverages(plain.parts, plain.policy)
    images = np.random.default_rng(0).random((3, *experiment.task.shape.example_shape, 1))
    found = expected = state.batch_stats
    assert len(expected) > 2
    for _ in range(2):
        embeddings, found = joined.encode(state.params, found, images, True)
        same, expected = plain.encode(state.params, expected, images, True)
        np.testing.assert_array_equal(embeddings, same)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_the_steps_of_a_candidate_use_its_network():
    class Fails(candidates.JoinedAverages):
        def encode(self, *arguments):
            raise ZeroDivisionError

    config = tiny.get_config("vectors")
    trainer = candidates.trainer(build(config, check(config)), candidates.Candidate(network=Fails))
    with contextlib.closing(trainer), pytest.raises(ZeroDivisionError):
        trainer.rival("compute").run(1)


@pytest.mark.parametrize("name", ["norm_in_a_condition", "no_axis_of_replicas"])
def test_what_helps_on_cpu_is_a_candidate_on_an_accelerator(name, monkeypatch):
    """The plain step there computes every norm, and keeps the axis of a single replica."""
    config = tiny.get_config("vectors")
    config.training.update(log_every=2, num_steps=4, steps_per_call=2)
    experiment, found, programs = build(config, check(config)), {}, {}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for kind, candidate in (("plain", candidates.PLAIN), (name, CANDIDATES[name])):
        with contextlib.closing(candidates.trainer(experiment, candidate)) as trainer:
            programs[kind] = str(jax.make_jaxpr(trainer.call)(trainer.state, trainer.batch))
            _, metrics = trainer.call(trainer.state, trainer.batch)
        found[kind] = jax.device_get(metrics)
        assert (" cond[" in programs[kind]) == (kind == "norm_in_a_condition")
    assert programs["plain"] != programs[name]
    norms = found["plain"]["grad_norm"].ravel()
    assert norms[0] == 0 < norms[1]  # The first step ends no line.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), *found.values())


def test_candidates_measure_a_run_of_the_first_version():
    """Its gradient norm is wanted at every step."""
    config = tiny.get_config("vectors")
    config.training.arithmetic = 1
    experiment = build(config, check(config))
    with contextlib.closing(
        candidates.trainer(experiment, CANDIDATES["norm_in_a_condition"])
    ) as trainer:
        _, metrics = trainer.call(trainer.state, trainer.batch)
    assert np.asarray(metrics["grad_norm"]).item() > 0


def measured(path, functions, ends=math.inf):
    """Measurements after a call with items {name: function of the seconds per block}."""
    results = accelerator.begun(path, "this machine", tiny.get_config("vectors"))
    items = [Item(name, function) for name, function in functions.items()]
    with Worker() as worker:
        accelerator.measure_missing(worker, items, results, path, How(0.5, "cpu"), ends)
    return json.loads(path.read_text())["measurements"]


FAILS = functools.partial(operator.getitem, {})
WORKS = functools.partial(dict.fromkeys, "s")


def test_what_failed_says_why_and_is_measured_again(tmp_path, capsys):
    path = tmp_path / "results.json"
    first = measured(path, {"one": FAILS, "two": WORKS})
    assert first["one"]["failed"] == "KeyError: 0.5"
    assert first["two"]["s"] == 0.5
    second = measured(path, {"one": WORKS, "two": FAILS, "three": WORKS})
    assert second["one"]["s"] == second["three"]["s"] == 0.5
    assert "failed" not in second["one"]
    assert second["two"] == first["two"]
    # What is missing comes first.
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["one", "two", "three", "one"]


def test_other_devices_than_those_to_be_measured_are_an_error():
    with pytest.raises(RuntimeError, match="JAX found the devices 'cpu' instead of 'gpu'"):
        measure(Item("one", WORKS), How(0.5, "gpu"))


def test_numbers_that_do_not_agree_say_so(monkeypatch):
    item = next(plan(tiny.get_config("images")))
    found = dict.fromkeys(golden.LIMITS, 1e-6)
    monkeypatch.setattr(golden, "differences", lambda *case: found)
    assert item.measure(0.5)["agrees"]
    found["gradient_norms"] = 2e-3
    assert not item.measure(0.5)["agrees"]
    found["gradient_norms"] = math.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        item.measure(0.5)


def test_nothing_is_begun_when_the_time_is_over(tmp_path, capsys):
    path = tmp_path / "results.json"
    measured(path, {"one": WORKS})
    assert list(measured(path, {"one": WORKS, "two": WORKS}, ends=0)) == ["one"]
    assert "The time for measurements is over" in capsys.readouterr().out


def test_results_of_another_machine_or_config_are_not_continued(tmp_path, capsys, monkeypatch):
    path = tmp_path / "results.json"
    measured(path, {"one": WORKS})
    with pytest.raises(SystemExit):
        accelerator.begun(path, "this machine", tiny.get_config("images"))
    assert "has another config" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        accelerator.begun(path, "that machine", tiny.get_config("vectors"))
    message = "has another machine: 'this machine' instead of 'that machine'"
    assert message in re.sub(r"\s+", " ", capsys.readouterr().err)
    monkeypatch.setattr(accelerator, "code_commit", lambda: "another")
    with pytest.raises(SystemExit):
        accelerator.begun(path, "this machine", tiny.get_config("vectors"))
    assert "has another commit" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("XLA_FLAGS", "--xla_another")
    with pytest.raises(SystemExit):
        accelerator.begun(path, "this machine", tiny.get_config("vectors"))
    assert "has another environment" in capsys.readouterr().err


def test_a_measurement_in_one_line():
    assert accelerator.text({"ms_per_step": [3.0, 1.0, 2.0]}) == "ms per step 2 (1 to 3)"
    assert accelerator.text({"agrees": True, "loss": 0.5}) == "agrees True; loss 0.5"


def test_a_cpu_is_measured_only_if_asked_for(tmp_path):
    where = {"JAX_PLATFORMS": "cpu"}
    done = launch("accelerator_check", f"--out={tmp_path / 'out'}", env=where)
    assert done.returncode == 1
    assert "JAX finds no accelerator" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.faults
def test_later_calls_measure_what_is_missing_and_train_on(tmp_path):
    words = ("--cpu", "--config=tests/tiny.py:vectors", "--seconds=0.01", f"--out={tmp_path}")
    found = []
    # A slow machine needs longer or more calls.
    for minutes in (0.6, 2.5, 2.5, 2.5, 2.5):
        done = launch("accelerator_check", *words, f"--minutes={minutes}", fresh=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / "results.json").read_text()))
        if found[-1]["training"].get("step") == 40:
            break
    first, *_, last = (one["measurements"] for one in found)
    assert len(first) < len(last)
    assert not [name for name, one in last.items() if "failed" in one]
    assert {name: last[name] for name in first} == first
    assert last["golden_transformer_resnet_highest"]["agrees"]
    assert found[-1]["training"]["status"] in (0, accelerator.STOPPED)
    assert found[-1]["training"]["step"] == 40


TRAINS = """
import time
from pathlib import Path
import tiny
from benchmarks import accelerator, worker
from emergent_icl.config.configs import with_options
worker.end_with_children()
config = with_options(tiny.get_config("vectors"), {"training.num_steps": 10_000_000})
accelerator.train(config, Path(FOLDER), time.monotonic() + 600)
"""


@pytest.mark.faults
def test_the_training_is_saved_when_the_command_is_ended(tmp_path):
    here = str(ROOT / "tests")
    code = TRAINS.replace("FOLDER", repr(str(tmp_path)))
    words = ("-c", f"import sys; sys.path.append({here!r})" + code)
    process = start(*words, prefix=("setsid", "--wait"))
    run = Workdir(tmp_path / "run")
    wait_for(lambda: last_step(run.metrics), "the training to begin")
    # As Ctrl-C does.
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT
    newest = max(int(path.name) for path in run.checkpoints.iterdir())
    assert newest >= last_step(run.metrics)
    log = (tmp_path / "train.log").read_text()
    assert f"Stopped after step {newest}; the state is saved" in log
