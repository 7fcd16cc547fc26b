"""What a config costs, and what it is warned of."""

import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from emergent_icl.config.configs import with_options
from emergent_icl.data.task import make_task
from emergent_icl.presets import glyphs, omniglot, omniglot_augmented
from emergent_icl.runs.check import check
from emergent_icl.training import cost as costs
from emergent_icl.training.build import build
from emergent_icl.training.cost import count_flops
from emergent_icl.training.warnings import warnings


def cost_of(config, measure=False):
    check(config)
    return costs.step_cost(config, make_task(config), timed=measure)


@pytest.mark.parametrize("preset", ["symbols", "images", "resnet", "vectors"])
def test_parameters_and_memory_are_those_of_the_run(preset):
    config = tiny.get_config(preset)
    experiment = build(config)
    counts = costs.parameters_by_module(config, experiment.task)
    params = jax.eval_shape(lambda: experiment.init(0)).params
    assert sum(counts.values()) == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert {"tokens", "transformer", "head"} < set(counts)
    cost = cost_of(config)
    assert cost.bank_bytes == experiment.bank.examples.nbytes
    # Adam keeps two numbers per parameter.
    assert cost.state_bytes >= 3 * 4 * sum(counts.values())


def test_augmented_variants_take_no_memory():
    plain, augmented = omniglot.get_config("small"), omniglot_augmented.get_config("small")
    assert cost_of(plain).bank_bytes == cost_of(augmented).bank_bytes == 1623 * 20 * 28 * 28


def test_operations_grow_with_the_batch_and_the_layers():
    def flops(**options):
        config = tiny.get_config("images").unlock()
        config.update_from_flattened_dict(options)
        return cost_of(config).flops

    one = flops()
    assert flops(**{"training.batch_size": 16}) == pytest.approx(2 * one, rel=0.15)
    layers = [flops(**{"model.num_layers": count}) for count in (1, 2, 3)]
    assert layers[2] - layers[1] == pytest.approx(layers[1] - layers[0], rel=0.02)
    scanned = flops(**{"model.num_layers": 3, "model.scan_layers": True})
    assert scanned == pytest.approx(layers[2], rel=0.02)


def test_the_cost_of_the_paper_model():
    cost = cost_of(omniglot.get_config("paper"))
    assert 15e9 < cost.flops < 30e9
    assert cost.bank_bytes == 1623 * 20 * 105 * 105
    assert (cost.step_seconds, cost.temporary_bytes) == (None, None)


def test_measuring_compiles_and_times_a_step():
    cost = cost_of(tiny.get_config("images"), measure=True)
    assert 0 < cost.step_seconds < 5
    assert cost.compile_seconds > 0
    assert cost.temporary_bytes > 0
    assert 0 < cost.xla_flops < 2 * cost.flops
    assert cost.moved_bytes > cost.state_bytes


WARNINGS = {
    "data.split.num_holdout": (10, "10 holdout classes"),
    "data.sequences.p_bursty": (0.0, "nothing rewards ICL"),
    "data.sequences.zipf_exponent": (3.0, "the most frequent class is 83%"),
    "training.num_steps": (100, "the run ends before its peak learning rate"),
    "training.optimizer": (
        {"schedule": "paper", "warmup_steps": 0},
        "schedule 'paper' decays from the first step on",
    ),
    "training.interim_weight": (1.0, "is not trained"),
    "data.drawings": ("single", "identical to its class's examples"),
    "evaluation.modes": (("fewshot_holdout",), "lacks no_support_zipfian"),
    "evaluation.num_sequences": (100, "near 0.5 is +- 0.098"),
    "evaluation.shots": (6, "fewshot_holdout has 25 tokens, training has 17"),
    "data.glyphs.num_classes": (10**6, "GiB on the host and again on the device"),
}


@pytest.mark.parametrize("path", WARNINGS)
def test_each_warning_can_be_triggered(path, monkeypatch):
    value, text = WARNINGS[path]

    # A machine with 16 GiB.
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 2**12, "SC_PHYS_PAGES": 2**22}.get)

    def found(**options):
        config = glyphs.get_config("demo").unlock()
        config.data.inverted = True
        config.update_from_flattened_dict(options)
        check(config)
        return warnings(config, make_task(config))

    assert found() == []
    options = (
        {f"{path}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {path: value}
    )
    assert any(text in warning for warning in found(**options))


@pytest.mark.parametrize(
    ("name", "scales"),
    [("adam", 0), ("sgd", 0), ("lion", 0), ("lamb", 1), ("lars", 1), ("adafactor", 1)],
)
def test_optimizers_that_scale_whole_arrays_give_a_warning(name, scales):
    options = {"training.optimizer.name": name, "training.optimizer.max_grad_norm": 0.5}
    config = with_options(omniglot.get_config("small"), options)
    found = warnings(config, make_task(config))
    assert sum("scales each array as a whole" in warning for warning in found) == scales


def test_the_holdout_warning_counts_characters_not_variants():
    config = omniglot_augmented.get_config("small").unlock()
    config.data.split.num_holdout = 80
    (warning,) = warnings(config, make_task(config))
    assert "80 holdout classes, variants of 10 characters" in warning
    config.data.split.num_holdout = 160
    assert warnings(config, make_task(config)) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evaluation.fewshot_labeling": "ordered"}, "requires labels 1523 to 1622, of which"),
        (
            {"evaluation.fewshot_labeling": "original"},
            r"requires labels 100 of \d+ to \d+, of which",
        ),
        ({"data.random_rare_images": True}, "rare queries of no_support_zipfian are images that"),
        (
            {
                "data.sequences.type": "fewshot_rare",
                "data.sequences.labeling": "unfixed",
                "data.sequences.shots": 4,
            },
            "no class keeps a label, so no_support_zipfian can show nothing",
        ),
        # A query that the context answers needs no label or image seen before.
        ({"data.random_rare_images": True, "evaluation.modes": ("fewshot_holdout", "bursty")}, ""),
        # Labels of trained classes may be rare.
        (
            {"data.sequences.zipf_exponent": 1.0, "evaluation.modes": ("fewshot_holdout", "flip")},
            "",
        ),
    ],
)
def test_modes_that_can_show_nothing_give_a_warning(options, said):
    config = with_options(omniglot.get_config("small"), options)
    check(config)
    found = warnings(config, make_task(config))
    if said:
        assert any(re.search(said, one) for one in found), found
    else:
        assert not any("labels" in one or "images that" in one for one in found), found


def test_the_timed_step_is_that_of_a_run(monkeypatch):
    """From arithmetic 2 on, the gradient norm is computed at logged steps only."""
    given = []
    make_update = costs.make_update

    def spy(*arguments, **options):
        gradients = {"module": {"w": np.array([3.0, 4.0])}}
        norm = options["gradient_norm"]
        given.append([float(norm(gradients, np.int32(step))) for step in (9, 10)])
        return make_update(*arguments, **options)

    monkeypatch.setattr(costs, "make_update", spy)
    for arithmetic in (1, 2):
        cost_of(with_options(tiny.get_config(), {"training.arithmetic": arithmetic}), measure=True)
    assert given == [[5.0, 5.0], [0.0, 5.0]]


def test_thin_strokes_on_a_background_of_ones_give_a_warning():
    config = omniglot.get_config("small").unlock()
    assert warnings(config, make_task(config)) == []
    config.data.inverted = False
    (warning,) = warnings(config, make_task(config))
    assert "hardly sees Omniglot's thin strokes" in warning


def test_classes_that_are_hardly_shown_give_a_warning():
    config = omniglot_augmented.get_config("small").unlock()
    config.data.sequences.zipf_exponent = 3.0
    found = warnings(config, make_task(config))
    (warning,) = [text for text in found if "rarest class" in text]
    # 10,000 steps x 32 sequences x 9 examples; weight 12,800^-3 over the zeta-like sum.
    share = 12_800.0**-3 / np.sum(np.arange(1, 12_801, dtype=float) ** -3)
    assert f"{2_880_000 * share:.2g} times" in warning


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        # The rarest classes own the labels that few-shot modes use.
        (
            {"data.sequences.zipf_exponent": 3.0},
            "labels 0 and 1, of which training does not",
        ),
        # With original labels, no trained class has label 0 if class 0 is held out.
        ({"data.sequences.labeling": "original", "data.split.seed": 11}, "does not show 0 in"),
        ({"data.sequences.type": "no_support_common"}, "does not show 0 and 1 in 20,000"),
        ({"data.sequences.type": "mixed", "data.sequences.shots": 4}, ""),
        ({"data.sequences.type": "relabelled", "data.sequences.zipf_exponent": 3.0}, ""),
    ],
)
def test_few_shot_labels_that_training_does_not_show_give_a_warning(options, expected):
    whole = {"data.split.num_rare": 1500, "data.split.num_common": 20, "data.split.num_holdout": 80}
    config = with_options(omniglot.get_config("small"), {**whole, **options})
    every = warnings(config, make_task(config))
    found = [one for one in every if "requires labels" in one]
    assert len(found) == bool(expected)
    assert all(expected in one for one in found)


def test_holdout_integers_give_a_warning(config):
    found = warnings(config, make_task(config))
    assert any("never trained" in warning for warning in found)


# ------------------------------------------------------------------------- operations

A = jax.ShapeDtypeStruct((3, 4, 5), jnp.float32)
B = jax.ShapeDtypeStruct((3, 5, 6), jnp.float32)


def test_matrix_products_against_hand_counts():
    assert count_flops(lambda a, b: a @ b, A, B) == 2 * 3 * 4 * 5 * 6
    assert count_flops(lambda a, b: jnp.tanh(a @ b), A, B) == 2 * 3 * 4 * 5 * 6 + 3 * 4 * 6
    assert count_flops(jax.jit(lambda a, b: a @ b), A, B) == 2 * 3 * 4 * 5 * 6


def test_loops_count_once_per_iteration():
    def body(carry, _):
        return carry @ carry, None

    square = jax.ShapeDtypeStruct((7, 7), jnp.float32)
    once = count_flops(lambda x: x @ x, square)
    many = count_flops(lambda x: jax.lax.scan(body, x, None, length=11)[0], square)
    assert many == 11 * once


def test_branches_count_as_the_most_expensive_one():
    square = jax.ShapeDtypeStruct((7, 7), jnp.float32)
    branches = [lambda x: x, lambda x: x @ x]
    counted = count_flops(lambda x: jax.lax.switch(x[0, 0].astype(int), branches, x), square)
    assert 2 * 7**3 <= counted < 2 * 7**3 + 100


@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradients_of_a_convolution_cost_three_convolutions(stride):
    images = jax.ShapeDtypeStruct((4, 32, 32, 8), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 8, 16), jnp.float32)

    def convolve(x, w):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=layout
        )

    forward = count_flops(convolve, images, kernel)
    assert forward == 2 * 4 * (32 // stride) ** 2 * 16 * 9 * 8
    gradients = jax.grad(lambda x, w: jnp.sum(jnp.sin(convolve(x, w))), argnums=(0, 1))
    assert count_flops(gradients, images, kernel) == pytest.approx(3 * forward, rel=0.05)


def test_without_loops_the_count_agrees_with_the_compiler():
    def network(x, w):
        return jnp.sum(jax.nn.relu(x @ w) @ w.T)

    arguments = np.ones((64, 64), np.float32), np.ones((64, 64), np.float32)
    function = jax.value_and_grad(network, argnums=1)
    theirs = jax.jit(function).lower(*arguments).cost_analysis()["flops"]
    assert count_flops(function, *arguments) == pytest.approx(theirs, rel=0.03)
