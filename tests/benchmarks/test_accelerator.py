"""The plan for a machine with one accelerator: each result is kept, and a second call continues."""

import contextlib
import json

import jax
import numpy as np
import pytest
import tiny
from launching import launch

from benchmarks import accelerator, candidates
from benchmarks.accelerator import Item
from emergent_icl.runs.check import check
from emergent_icl.training.build import build
from emergent_icl.training.optimizers import hyper_from_config


def test_the_plan_covers_each_subject_once_golden_numbers_first():
    names = [item.name for item in accelerator.plan(tiny.get_config("images"))]
    assert len(set(names)) == len(names)
    subjects = list(dict.fromkeys(name.partition("_")[0] for name in names))
    assert subjects == ["golden", "step", "candidate", "replicas", "evaluation"]
    assert [name for name in names if name.startswith("step_batch_512")] == [
        f"step_batch_512_{precision}" for precision in accelerator.PRECISIONS
    ]


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


def test_a_measurement_that_fails_says_why():
    def fail():
        raise MemoryError("RESOURCE_EXHAUSTED: too large\nmore")

    found = accelerator._measured(Item("large", fail))
    assert found["failed"] == "MemoryError: RESOURCE_EXHAUSTED: too large"
    assert accelerator.text({"ms_per_step": [3.0, 1.0, 2.0]}) == "ms per step 2 (1 to 3)"


@pytest.mark.faults
def test_a_second_call_measures_what_is_missing_and_trains_on(tmp_path):
    words = ("--config=tests/tiny.py:vectors", "--seconds=0.01", f"--out={tmp_path}")
    found = []
    # The longer second call leaves a slow machine time to train after a measurement that overran.
    for minutes in (0.6, 2):
        done = launch("accelerator_check", *words, f"--minutes={minutes}", fresh=True)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / "results.json").read_text()))
    first, second = (one["measurements"] for one in found)
    assert 0 < len(first) < len(second)
    assert {name: second[name] for name in first} == first
    assert max(second["golden_transformer_resnet_highest"]["greatest_difference"].values()) < 1e-4
    assert found[1]["training"]["step"] == 40
