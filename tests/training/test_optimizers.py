import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emergent_icl.config.registry import SCHEDULES
from emergent_icl.presets import base
from emergent_icl.training.optimizers import Hyper, make_optimizer

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
def test_schedules_without_warm_up_start_at_the_peak(name):
    hyper = HYPER._replace(warmup_steps=np.float32(0))
    np.testing.assert_allclose(SCHEDULES[name](jnp.float32(1), hyper, 10**6), 3e-4, rtol=1e-5)


PARAMS = {"layer": {"w": jnp.array([[3.0, -2.0]]), "b": jnp.array([1.0])}}
GRADS = {"layer": {"w": jnp.array([[3.0, 0.0]]), "b": jnp.array([4.0])}}


def one_update(config, hyper=HYPER, step=3999, grads=GRADS):
    optimizer = make_optimizer(config)

    @jax.jit  # Traced settings: nothing of the config's numbers may be needed in Python.
    def update(hyper, step):
        return optimizer.update(grads, optimizer.init(PARAMS), PARAMS, hyper, step)

    return update(hyper, jnp.int32(step))[0]["layer"]


def test_adam_is_optaxs_adam_at_the_scheduled_rate():
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
