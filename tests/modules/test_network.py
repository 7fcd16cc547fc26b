import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.modules.encoders import ENCODERS
from emergent_icl.modules.network import SEQUENCE_MODELS, make_network
from experiments.configs import base

# Measured on the original implementation, with 1623 labels.
PARAMETERS = {
    ("transformer", 12, 1623): 831_479,
    ("transformer", 2, 1623): 331_639,
    ("lstm", 12, 1623): 627_831,
    ("lstm", 2, 1623): 297_591,
    ("rnn", 12, 1623): 331_383,
    ("rnn", 2, 1623): 248_183,
    ("transformer", 12, 12_880): 2_283_632,
}
BATCH_STATS = 2_618


def model(**overrides):
    model = base.get_config().model.unlock()
    model.num_layers = 2
    model.update(overrides)
    return model


def inputs(encoder, batch=2, length=4):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 11, (batch, length))
    if encoder == "embedding":
        return rng.integers(0, 1700, (batch, length)), labels
    return rng.random((batch, length, 16, 16, 1)).astype(np.float32), labels


def init(network, examples, labels, seed=0):
    return jax.jit(network.init)(jax.random.PRNGKey(seed), examples, labels)


def size(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("sequence_model", "num_layers", "num_labels"), PARAMETERS)
def test_parameter_counts_are_the_papers(sequence_model, num_layers, num_labels):
    network = make_network(model(sequence_model=sequence_model, num_layers=num_layers), num_labels)
    params, stats = jax.eval_shape(
        network.init,
        jax.random.PRNGKey(0),
        np.zeros((1, 9, 105, 105, 1), np.float32),
        np.zeros((1, 9), np.int32),
    )
    assert size(params) == PARAMETERS[sequence_model, num_layers, num_labels]
    counters = sum(leaf.dtype == jnp.int32 for leaf in jax.tree.leaves(stats))
    assert size(stats) == BATCH_STATS
    assert counters > 0


@pytest.mark.parametrize("sequence_model", list(SEQUENCE_MODELS))
@pytest.mark.parametrize("tokens", ["interleaved", "concatenated"])
def test_neither_the_future_nor_the_querys_label_is_seen(sequence_model, tokens):
    """By gradient: token t's logits depend on nothing behind t; the query's not on its label."""
    network = make_network(
        model(encoder="linear", sequence_model=sequence_model, tokens=tokens), 11
    )
    examples, labels = inputs("linear")
    params, _ = init(network, examples, labels)
    embeddings = jnp.asarray(np.random.default_rng(1).normal(size=(*labels.shape, 64)), jnp.float32)

    @jax.jit
    def predict(embeddings, labels):
        return network.predict(params, None, embeddings, labels, every_token=True)[0]

    # [T, B, S]: does token t's output move with example s?
    jacobian = jax.jit(jax.jacrev(lambda e: predict(e, labels).sum(axis=-1)))(embeddings)
    depends = np.abs(jacobian[:, 0]).max(axis=-1) > 0
    stride = 2 if tokens == "interleaved" else 1
    for token, row in enumerate(depends):
        np.testing.assert_array_equal(row, stride * np.arange(labels.shape[1]) <= token)

    # Labels are integers: change each in turn, and see which outputs change.
    before = predict(embeddings, labels)
    for position in range(labels.shape[1]):
        changed = labels.copy()
        changed[0, position] = (changed[0, position] + 1) % 11
        moved = np.abs(predict(embeddings, changed) - before).max(axis=-1) > 0
        is_query = position == labels.shape[1] - 1
        first = stride * position + (tokens == "interleaved")
        np.testing.assert_array_equal(moved, (np.arange(len(moved)) >= first) & (not is_query))


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_encoders_see_one_example_at_a_time(encoder):
    network = make_network(model(encoder=encoder), 11)
    examples, labels = inputs(encoder)
    params, stats = init(network, examples, labels)
    encode = jax.jit(network.encode, static_argnums=4)
    flat = examples.reshape(8, *examples.shape[2:])
    embeddings, after = encode(params, stats, None, flat, False)
    assert embeddings.shape == (8, 64)
    changed = flat.copy()
    changed[3] = 1 - changed[3] if encoder != "embedding" else (changed[3] + 1) % 1700
    moved = np.abs(encode(params, stats, None, changed, False)[0] - embeddings).max(axis=1) > 0
    np.testing.assert_array_equal(moved, np.arange(8) == 3)
    jax.tree.map(np.testing.assert_array_equal, stats, after)


@pytest.mark.parametrize("sequence_model", list(SEQUENCE_MODELS))
def test_apply_is_predict_after_encode_and_the_query_is_the_last_token(sequence_model):
    network = make_network(model(encoder="linear", sequence_model=sequence_model), 11)
    examples, labels = inputs("linear")
    params, stats = init(network, examples, labels)

    @jax.jit
    def compute(examples):
        whole, _ = network.apply(params, stats, None, examples, labels, True)
        flat, _ = network.encode(params, stats, None, examples.reshape(8, 16, 16, 1), True)
        embeddings = flat.reshape(2, 4, -1)
        parts = network.predict(params, None, embeddings, labels)
        return whole, parts, network.predict(params, None, embeddings, labels, every_token=True)

    whole, parts, every = compute(examples)
    assert whole.shape == (2, 11)
    assert every.shape == (2, 7, 11)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    np.testing.assert_allclose(whole, every[:, -1], atol=1e-5)


def test_scanned_layers_have_the_same_parameters_outputs_and_gradients():
    examples, labels = inputs("linear")
    networks = [
        make_network(model(encoder="linear", scan_layers=flag), 11) for flag in (False, True)
    ]
    params, stats = init(networks[0], examples, labels)
    jax.tree.map(np.testing.assert_array_equal, params, init(networks[1], examples, labels)[0])

    def loss(params, network):
        return jnp.sum(network.apply(params, stats, None, examples, labels, True)[0] ** 2)

    unrolled, scanned = (
        jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, network) for network in networks
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *(unrolled, scanned)
    )


def test_batch_norm_uses_the_batch_in_training_and_averages_in_evaluation():
    network = make_network(model(encoder="resnet"), 11)
    examples, labels = inputs("resnet")
    params, stats = init(network, examples, labels)
    encode = jax.jit(network.encode, static_argnums=4)
    flat = examples.reshape(8, 16, 16, 1)
    # Averages of another batch: after one step they are that batch's statistics.
    _, stats = encode(params, stats, None, 1 - flat**2, True)
    training, after = encode(params, stats, None, flat, True)
    evaluation, _ = encode(params, stats, None, flat, False)
    assert np.abs(training - evaluation).max() > 1e-3
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(after), strict=True)
    )


def test_layers_start_different():
    network = make_network(model(encoder="linear"), 11)
    params, _ = init(network, *inputs("linear"))
    stacked = [
        leaf for module, leaves in params.items() if "query" in module for leaf in [leaves["w"]]
    ]
    assert stacked[0].shape == (2, 64, 64)
    assert not np.array_equal(stacked[0][0], stacked[0][1])
    # Truncated normal of variance 1 / fan-in.
    assert np.std(stacked[0]) == pytest.approx(1 / 8, rel=0.05)
