"""Under jax_enable_x64, everything is float64, and gradients agree with finite differences."""

import jax
import numpy as np
import pytest
import tiny
from jax.test_util import check_grads

from emergent_icl.data.materialize import make_materialize
from emergent_icl.data.task import make_task
from emergent_icl.models.losses import query_loss
from emergent_icl.models.network import make_network
from emergent_icl.training import cost
from emergent_icl.training.optimizers import hyper_from_config, make_optimizer
from emergent_icl.training.update import init_state, make_update

CASES = {
    "transformer of images": ("images", {}),
    "transformer on a ResNet": ("resnet", {"model.positions": "rotary"}),
    "LSTM": ("symbols", {"model.sequence_model": "lstm"}),
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def floats(tree):
    kinds = {np.dtype(leaf.dtype) for leaf in jax.tree.leaves(tree)}
    return {kind for kind in kinds if np.issubdtype(kind, np.floating)}


@pytest.fixture(params=CASES)
def config(request):
    preset, options = CASES[request.param]
    config = tiny.get_config(preset).unlock()
    config.update_from_flattened_dict(options)
    return config.lock()


def inputs(config, task, batch_size=2):
    """Examples and labels of training sequences."""
    bank, batch = cost.stand_in(task, batch_size)
    keys = jax.vmap(jax.random.PRNGKey)(np.arange(batch_size))
    materialize = make_materialize(config.data, task.shape)
    scale = np.float32(config.data.noise_scale)
    return materialize(bank, batch.class_ids, batch.exemplar_ids, keys, scale), batch.labels


@pytest.mark.usefixtures("x64")
def test_gradients_agree_with_finite_differences(config):
    task = make_task(config)
    network = make_network(config.model, task.num_labels)
    examples, labels = inputs(config, task)
    params, stats = jax.jit(network.init)(jax.random.PRNGKey(0), examples, labels)
    # A ResNet's initial scales of 0 would leave its branches unchecked.
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, params)
    assert floats((params, stats)) == {np.dtype(np.float64)}

    @jax.jit
    def loss(params):
        logits, after = network.apply(params, stats, None, examples, labels, True)
        assert floats((logits, after)) == {np.dtype(np.float64)}
        return query_loss(logits, labels).mean()

    check_grads(loss, (params,), order=1, modes=["rev"], eps=1e-6, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_a_training_step_stays_in_float64(config):
    task = make_task(config)
    network = make_network(config.model, task.num_labels)
    optimizer = make_optimizer(config.training)
    materialize = make_materialize(config.data, task.shape)
    update = make_update(network, optimizer, materialize)

    def one_step():
        state = init_state(network, optimizer, 0, *inputs(config, task, 1))
        return state, *update(state, hyper_from_config(config), *cost.stand_in(task, 4))

    before, after, metrics = jax.eval_shape(one_step)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), before) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), after
    )
    assert floats((after, metrics)) == {np.dtype(np.float64)}
