"""Layout of replicas and batches on devices, and the training call."""

import logging

import jax
import numpy as np
import pytest
import tiny

from emergent_icl.data.feed import FeedSpec, sample_block
from emergent_icl.data.sequences.classes import SequenceBatch
from emergent_icl.models.network import make_network
from emergent_icl.training import devices
from emergent_icl.training.build import build
from emergent_icl.training.optimizers import hyper_from_config
from emergent_icl.training.update import make_update


class Setting:
    """A compiled update with all its arguments."""

    def __init__(self, seeds=(0,), over_replicas=devices.all_at_once):
        self.over_replicas = over_replicas
        config = tiny.get_config("images").unlock()
        # Adam would amplify rounding errors of gradients that are zero in exact arithmetic.
        config.training.optimizer.name = "sgd"
        self.experiment = build(config.lock())
        self.layout = layout = devices.Layout(len(seeds))
        self.update = make_update(
            make_network(
                config.model,
                self.experiment.task.num_labels,
                mean_over_devices=layout.mean_over_devices,
            ),
            self.experiment.optimizer,
            self.experiment.materialize,
            mean_over_devices=layout.mean_of_gradients,
            rows=layout.rows,
        )
        spec = FeedSpec(
            [self.experiment.task.training.sample] * len(seeds),
            seeds,
            config.training.batch_size,
            9,
        )
        self.block = sample_block(spec, 0)
        self.state = devices.stack_replicas([self.experiment.init(seed) for seed in seeds])
        self.hyper = devices.stack_replicas([hyper_from_config(config)] * len(seeds))
        self.bank = devices.place_bank(self.experiment.arrays())
        self.calls = {}

    def run(self, steps_per_call=1, num_steps=8, **hyper):
        """Trains some steps; returns host state [R, ...] and losses [num_steps, R]."""
        if steps_per_call not in self.calls:
            self.calls[steps_per_call] = devices.make_train_call(
                self.update, steps_per_call, over_replicas=self.over_replicas
            )
        state = self.layout.place(self.state)
        hyper = self.layout.place(self.hyper._replace(**hyper))
        losses = []
        for first in range(0, num_steps, steps_per_call):
            steps = SequenceBatch(*(leaf[first : first + steps_per_call] for leaf in self.block))
            state, metrics = self.calls[steps_per_call](
                state, hyper, self.bank, self.layout.shard_batch(steps)
            )
            host = self.layout.metrics_on_host(devices.fetch(self.layout.needed(metrics)))
            losses.append(host["loss"])
        state = self.layout.state_on_host(devices.fetch(self.layout.needed(state)))
        return state, np.concatenate(losses)


@pytest.fixture(scope="module")
def setting():
    return Setting()


def assert_close(left, right, tolerance):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), left, right
    )


def test_steps_in_one_call_equal_steps_one_by_one(setting):
    one, losses = setting.run(steps_per_call=1)
    four, losses_of_four = setting.run(steps_per_call=4)
    assert one.step == four.step == 8
    np.testing.assert_allclose(losses, losses_of_four, rtol=1e-5)
    assert_close(one.params, four.params, 1e-5)


@pytest.mark.parametrize("over_replicas", [devices.all_at_once, devices.in_turn])
def test_a_replica_equals_the_single_run(setting, over_replicas):
    together, losses = Setting((5, 0), over_replicas).run()
    assert losses.shape == (8, 2)
    assert not np.allclose(losses[:, 0], losses[:, 1])
    alone, losses_alone = setting.run()
    np.testing.assert_allclose(losses[:, 1], losses_alone[:, 0], rtol=1e-5)
    assert_close(
        jax.tree.map(lambda leaf: leaf[1], together.params),
        jax.tree.map(lambda leaf: leaf[0], alone.params),
        1e-5,
    )


@pytest.mark.parametrize("steps_per_call", [1, 4])
def test_a_lone_replica_needs_no_axis(setting, steps_per_call):
    found, losses = Setting((0,), devices.alone).run(steps_per_call)
    expected, losses_of_axis = setting.run(steps_per_call)
    assert losses.shape == losses_of_axis.shape
    np.testing.assert_allclose(losses, losses_of_axis, rtol=1e-5)
    assert_close(found.params, expected.params, 1e-5)


def test_the_same_state_and_batch_give_the_same_bits(setting):
    first, second = (setting.run()[0] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_a_batch_is_split_into_consecutive_shares(monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    leaf = np.arange(3 * 1 * 4 * 5).reshape(3, 1, 4, 5)
    sharded = devices.Layout().shard_batch(SequenceBatch(leaf, leaf, leaf)).labels
    assert sharded.shape == (2, 3, 1, 2, 5)
    np.testing.assert_array_equal(sharded[1, 2, 0], leaf[2, 0, 2:])


def test_compiles_once(setting):
    calls = devices.make_train_call(setting.update, 1)
    state, hyper = setting.layout.place(setting.state), setting.layout.place(setting.hyper)
    batch = setting.layout.shard_batch(SequenceBatch(*(leaf[:1] for leaf in setting.block)))
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            for _ in range(3):
                state, _ = calls(state, hyper, setting.bank, batch)
    finally:
        logger.removeHandler(handler)
    assert sum(message.startswith("Compiling") for message in messages) == 1


def test_the_learning_rate_is_traced(setting):
    after, _ = setting.run(num_steps=2, learning_rate=np.zeros(1, np.float32))
    jax.tree.map(np.testing.assert_array_equal, after.params, setting.state.params)
    assert after.step == 2


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_the_scale_of_the_noise_is_traced(setting, scale):
    _, plain = setting.run(num_steps=2)
    _, other = setting.run(num_steps=2, noise_scale=np.full(1, scale, np.float32))
    assert not np.allclose(plain, other, rtol=1e-6)
