"""Schedules, optimizers by name, and checks of their options."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from emergent_icl.config.registry import SCHEDULES
from emergent_icl.presets import base
from emergent_icl.training.optimizers import Hyper, make_optimizer, optimizer_problems

HYPER = Hyper(*map(np.float32, (3e-4, 4000, 0.0, 0.0)))


def training(**changes):
    training = base.get_config().training.unlock()
    training.optimizer.update(changes)
    return training


# Worked by hand: update number -> learning rate.
TABLES = {
    ("paper", 500_000): {
        1: 3e-4 / 4000,
        2000: 1.5e-4,
        4000: 3e-4,
        16_000: 1.5e-4,
        400_000: 3e-5,
    },
    ("constant", 10_000): {1: 3e-4 / 4000, 1000: 0.75e-4, 4000: 3e-4, 9999: 3e-4},
    ("cosine", 12_000): {2000: 1.5e-4, 4000: 3e-4, 8000: 1.5e-4, 10_000: 4.3934e-5, 12_000: 0.0},
}


@pytest.mark.parametrize(("name", "num_steps"), TABLES)
def test_schedules_against_tables(name, num_steps):
    for step, rate in TABLES[name, num_steps].items():
        found = SCHEDULES[name](jnp.float32(step), HYPER, num_steps)
        np.testing.assert_allclose(found, rate, rtol=1e-4, atol=1e-10, err_msg=f"step {step}")


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_without_warmup_start_at_the_peak(name):
    hyper = HYPER._replace(warmup_steps=np.float32(0))
    np.testing.assert_allclose(SCHEDULES[name](jnp.float32(1), hyper, 10**6), 3e-4, rtol=1e-5)


PARAMS = {"layer": {"w": jnp.array([[3.0, -2.0]]), "b": jnp.array([1.0])}}
GRADS = {"layer": {"w": jnp.array([[3.0, 0.0]]), "b": jnp.array([4.0])}}


def one_update(config, hyper=HYPER, step=3999, grads=GRADS):
    optimizer = make_optimizer(config)

    @jax.jit  # With traced settings, no number may be needed in Python.
    def update(hyper, step):
        return optimizer.update(grads, optimizer.init(PARAMS), PARAMS, hyper, step)

    return update(hyper, jnp.int32(step))[0]["layer"]


def test_adam_equals_optax_adam_at_the_scheduled_rate():
    ours = one_update(training())
    adam = optax.adam(3e-4)
    theirs, _ = adam.update(GRADS, adam.init(PARAMS), PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs["layer"])


def test_weights_decay_and_biases_do_not():
    hyper = HYPER._replace(weight_decay=np.float32(0.1))
    zero = jax.tree.map(jnp.zeros_like, GRADS)
    for name in ("adam", "adamw", "sgd", "lion"):
        update = one_update(training(name=name), hyper, grads=zero)
        np.testing.assert_allclose(update["w"], -3e-4 * 0.1 * PARAMS["layer"]["w"], rtol=1e-5)
        np.testing.assert_array_equal(update["b"], 0)


def test_gradients_are_clipped_by_their_global_norm():
    clipped = one_update(training(name="sgd", max_grad_norm=0.5))
    np.testing.assert_allclose(clipped["w"], -3e-4 * np.array([[0.3, 0.0]]), rtol=1e-5)
    np.testing.assert_allclose(clipped["b"], -3e-4 * np.array([0.4]), rtol=1e-5)
    free = one_update(training(name="sgd", max_grad_norm=100.0))
    np.testing.assert_allclose(free["b"], -3e-4 * 4, rtol=1e-5)


def test_options_reach_the_optimizer():
    config = training(name="sgd")
    config.optimizer.options.momentum = 0.9
    config.optimizer.options.nesterov = True
    np.testing.assert_allclose(one_update(config)["b"], -3e-4 * 4 * 1.9, rtol=1e-5)


def test_unknown_optimizers_and_options_are_refused():
    with pytest.raises(ValueError, match="no optimizer 'adamm'"):
        make_optimizer(training(name="adamm"))
    with pytest.raises(ValueError, match="no optimizer 'global_norm'"):
        make_optimizer(training(name="global_norm"))
    config = training()
    config.optimizer.options.betas = 0.9
    with pytest.raises(ValueError, match=r"optax\.adam does not take betas"):
        make_optimizer(config)


PUBLIC = [
    name
    for name, entry in inspect.getmembers(optax, callable)
    if not name.startswith("_") and not inspect.isclass(entry)
]
# Functions that cannot be used here, and why.
REFUSED = {
    "lbfgs": "missing 3 required keyword-only arguments",
    "noisy_sgd": "draws its own random numbers",
    "polyak_sgd": "no optimizer 'polyak_sgd' that takes a learning rate",
    "schedule_free_adamw": "no optimizer|cannot be used",
    "global_norm": "no optimizer 'global_norm'",
    "rprop": "reads the learning rate only once",
    "scale_by_rprop": "reads the learning rate only once",
}


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_every_function_of_optax_is_refused_or_trains():
    """Two updates in a loop of two replicas, as training traces them."""
    trained = set()
    for name in PUBLIC:
        config = training(name=name)
        problems = list(optimizer_problems(config))
        if problems:
            assert len(problems) == 1
            assert problems[0].startswith(f"training.optimizer.name = '{name}': optax")
            assert re.search(REFUSED.get(name, "that takes a learning rate"), problems[0])
            continue
        optimizer = make_optimizer(config)

        def two_updates(params, hyper, optimizer=optimizer):
            def update(carried, step):
                params, state = carried
                updates, state = optimizer.update(params, state, params, hyper, step)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(update, (params, optimizer.init(params)), jnp.arange(2))[0]

        both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (PARAMS, HYPER))
        params, state = jax.eval_shape(jax.vmap(two_updates), *both)
        assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, both[0])
        # Types that a checkpoint can store.
        kinds = {leaf.dtype.kind for leaf in jax.tree.leaves(state)}
        assert kinds <= set("fiub"), (name, kinds)
        updates, _ = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS, HYPER, np.int32(3999))
        assert np.any(updates["layer"]["w"]), name
        trained.add(name)
    assert trained >= {"adam", "adamw", "sgd", "lamb", "lars", "lion", "adafactor", "rmsprop"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"b3": 0.5}, "b3: optax.adam does not take b3 (allowed: b1, b2, eps"),
        ("adam", {"nestrov": True}, "does not take nestrov (allowed: b1, b2, eps, eps_root, mu_d"),
        ("adam", {"nestrov": True}, "; did you mean 'nesterov'?"),
        ("adam", {"b1": "big"}, "b1 = 'big' must be a number"),
        ("adam", {"b1": True}, "b1 = True must be a number"),
        ("adam", {"b1": float("nan")}, "b1 = nan must be a number"),
        ("adam", {"nesterov": 1}, "nesterov = 1 must be True or False"),
        ("adamw", {"mask": len}, "mask = <built-in function len> must be a number"),
        ("adamw", {"weight_decay": 0.1}, "set training.optimizer.weight_decay instead"),
        ("sgd", {"learning_rate": 0.1}, "set training.optimizer.learning_rate instead"),
        ("adam", {"b1": None}, "optax.adam cannot be used here"),
        ("sgd", {"momentum": "fast"}, "optax.sgd cannot be used here"),
        ("adam", {"mu_dtype": "float33"}, "optax.adam cannot be used here"),
        ("sign_sgd", {"momentum": 0.9}, "(allowed: nothing)"),
    ],
)
def test_options_are_checked_against_the_signature_before_compilation(name, options, message):
    config = training(name=name, options=ConfigDict(options))
    (problem,) = optimizer_problems(config)
    assert problem.startswith("training.optimizer.")
    assert message in problem


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adam", {"b1": 0, "eps": 1e-6, "mu_dtype": "bfloat16", "nesterov": True}),
        ("sgd", {"momentum": 0.9, "accumulator_dtype": None}),
        ("adafactor", {"min_dim_size_to_factor": 2, "clipping_threshold": None}),
    ],
)
def test_valid_options_have_no_problems(name, options):
    assert not list(optimizer_problems(training(name=name, options=ConfigDict(options))))
