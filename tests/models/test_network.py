import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emergent_icl.config.registry import ENCODERS, SEQUENCE_MODELS
from emergent_icl.models.dropout import dropout, of_layer
from emergent_icl.models.losses import query_loss
from emergent_icl.models.network import make_network
from emergent_icl.models.normalization import cast_parameters, make_policy
from emergent_icl.models.resnet import num_superpixels
from emergent_icl.models.transformer import rotate
from emergent_icl.presets import base
from emergent_icl.randomness import sequence_keys

# Counts in the reference implementation.
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
    model.num_layers = 1
    model.update(overrides)
    return model


def inputs(encoder, batch=2, length=4):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 11, (batch, length))
    if encoder == "embedding":
        return rng.integers(0, 1700, (batch, length)), labels
    return rng.random((batch, length, 16, 16, 1)).astype(np.float32), labels


TABLES = ("labels", "positions", "embeddings")


def init(network, examples, labels):
    """Random parameters of the usual scale, averages of 0 and 1; nothing is compiled."""
    key, rng = jax.random.PRNGKey(0), np.random.default_rng(0)

    def fill(path, leaf):
        name, shape = path[-1].key, leaf.shape
        if name in ("b", "offset", "scale"):
            return np.full(shape, float(name == "scale"), leaf.dtype)
        # Dense weights may be stacked [layers, in, out].
        inputs = np.prod(shape[:-1]) if len(shape) == 4 else shape[-2]
        spread = 0.02 if name in TABLES else inputs**-0.5
        return (spread * rng.standard_normal(shape)).astype(leaf.dtype)

    def fill_average(path, leaf):
        return np.full(leaf.shape, "var" in path[0].key, leaf.dtype)

    params, stats = jax.eval_shape(network.init, key, examples, labels)
    filled = (
        jax.tree_util.tree_map_with_path(fill, params),
        jax.tree_util.tree_map_with_path(fill_average, stats),
    )
    return jax.tree.map(jnp.asarray, filled)


def size(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("sequence_model", "num_layers", "num_labels"), PARAMETERS)
def test_parameter_counts_are_those_of_the_reference_implementation(
    sequence_model, num_layers, num_labels
):
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


VARIANTS = {
    "plain": {},
    "concatenated": {"tokens": "concatenated"},
    "learned": {"positions": "learned"},
    "rotary": {"positions": "rotary"},
    "attention only": {"attention_only": True, "head_hidden_sizes": (8,)},
}


@pytest.mark.parametrize(
    ("sequence_model", "variant"),
    [("transformer", variant) for variant in VARIANTS]
    + [(name, v) for name in ("lstm", "gru", "rnn") for v in ("plain", "concatenated")],
)
def test_logits_depend_neither_on_the_future_nor_on_the_querys_label(sequence_model, variant):
    """By gradient: logits depend neither on later tokens nor, for the query, on its label."""
    options = VARIANTS[variant]
    tokens = options.get("tokens", "interleaved")
    network = make_network(
        model(encoder="linear", sequence_model=sequence_model, **options), 11, num_positions=9
    )
    examples, labels = inputs("linear")
    params, _ = init(network, examples, labels)
    embeddings = jnp.asarray(np.random.default_rng(1).normal(size=(*labels.shape, 64)), jnp.float32)

    @jax.jit
    def predict(embeddings, labels):
        return network.predict(params, None, embeddings, labels, at="tokens")[0]

    # [T, B, S]: does the output of token t depend on example s?
    jacobian = jax.jit(jax.jacrev(lambda e: predict(e, labels).sum(axis=-1)))(embeddings)
    depends = np.abs(jacobian[:, 0]).max(axis=-1) > 0
    stride = 2 if tokens == "interleaved" else 1
    for token, row in enumerate(depends):
        np.testing.assert_array_equal(row, stride * np.arange(labels.shape[1]) <= token)

    # Labels are integers: change each in turn, and record which outputs change.
    before = predict(embeddings, labels)
    for position in range(labels.shape[1]):
        changed = labels.copy()
        changed[0, position] = (changed[0, position] + 1) % 11
        moved = np.abs(predict(embeddings, changed) - before).max(axis=-1) > 0
        is_query = position == labels.shape[1] - 1
        first = stride * position + (tokens == "interleaved")
        np.testing.assert_array_equal(moved, (np.arange(len(moved)) >= first) & (not is_query))


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_encoders_treat_examples_independently(encoder):
    network = make_network(model(encoder=encoder), 11)
    examples, labels = inputs(encoder)
    params, stats = init(network, examples, labels)
    encode = jax.jit(network.encode, static_argnums=3)
    flat = examples.reshape(8, *examples.shape[2:])
    embeddings, after = encode(params, stats, flat, False)
    assert embeddings.shape == (8, 64)
    changed = flat.copy()
    changed[3] = 1 - changed[3] if encoder != "embedding" else (changed[3] + 1) % 1700
    moved = np.abs(encode(params, stats, changed, False)[0] - embeddings).max(axis=1) > 0
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
        flat, _ = network.encode(params, stats, examples.reshape(8, 16, 16, 1), True)
        embeddings = flat.reshape(2, 4, -1)
        parts = network.predict(params, None, embeddings, labels)
        examples_only = network.predict(params, None, embeddings, labels, at="examples")
        every = network.predict(params, None, embeddings, labels, at="tokens")
        return whole, parts, every, examples_only

    whole, parts, every, examples_only = compute(examples)
    assert whole.shape == (2, 11)
    np.testing.assert_allclose(examples_only, every[:, ::2], atol=1e-5)
    assert every.shape == (2, 7, 11)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    np.testing.assert_allclose(whole, every[:, -1], atol=1e-5)


def test_scanned_layers_have_the_same_parameters_outputs_and_gradients():
    examples, labels = inputs("linear")
    networks = [
        make_network(model(encoder="linear", num_layers=2, scan_layers=flag), 11)
        for flag in (False, True)
    ]
    (params, stats), (others, _) = (
        jax.jit(network.init)(jax.random.PRNGKey(0), examples, labels) for network in networks
    )
    jax.tree.map(np.testing.assert_array_equal, params, others)

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
    encode = jax.jit(network.encode, static_argnums=3)
    flat = examples.reshape(8, 16, 16, 1)
    # After one step, averages are the statistics of that batch, which differs from the one below.
    _, stats = encode(params, stats, 1 - flat**2, True)
    training, after = encode(params, stats, flat, True)
    evaluation, _ = encode(params, stats, flat, False)
    assert np.abs(training - evaluation).max() > 1e-3
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(after), strict=True)
    )


def test_layers_are_initialized_differently():
    network = make_network(model(encoder="linear", num_layers=2), 11)
    params, _ = jax.jit(network.init)(jax.random.PRNGKey(0), *inputs("linear"))
    stacked = [
        leaf for module, leaves in params.items() if "query" in module for leaf in [leaves["w"]]
    ]
    assert stacked[0].shape == (2, 64, 64)
    assert not np.array_equal(stacked[0][0], stacked[0][1])
    # Truncated normal of variance 1 / fan-in.
    assert np.std(stacked[0]) == pytest.approx(1 / 8, rel=0.05)


# ----------------------------------------------------------------------------- options


def logits_of(examples, labels, num_positions=0, keys=None, is_training=False, **options):
    network = make_network(model(**{"encoder": "linear", **options}), 11, num_positions)
    params, stats = init(network, examples, labels)

    @jax.jit
    def compute(keys):
        return network.apply(params, stats, keys, examples, labels, is_training)[0]

    return compute(keys)


@pytest.mark.parametrize("sequence_model", list(SEQUENCE_MODELS))
@pytest.mark.parametrize("option", ["dropout", "example_dropout"])
def test_dropout_depends_on_the_keys_of_sequences(sequence_model, option):
    examples, labels = inputs("linear")
    # In a recurrent model, only inputs of the second and later layers are dropped.
    options = {"sequence_model": sequence_model, "is_training": True, "num_layers": 2}
    plain = logits_of(examples, labels, **options)
    keys = sequence_keys(jax.random.PRNGKey(0), jnp.arange(2))
    dropped = logits_of(examples, labels, keys=keys, **options, **{option: 0.5})
    assert np.abs(dropped - plain).max(axis=1).min() > 1e-3
    # The mask of a row does not depend on other rows.
    second = logits_of(examples[1:], labels[1:], keys=keys[1:], **options, **{option: 0.5})
    np.testing.assert_allclose(second[0], dropped[1], atol=1e-5)
    keys = sequence_keys(jax.random.PRNGKey(1), jnp.arange(2))
    others = logits_of(examples, labels, keys=keys, **options, **{option: 0.5})
    assert np.abs(others - dropped).max() > 1e-3


def test_only_example_dropout_applies_in_evaluation():
    examples, labels = inputs("linear")
    keys = sequence_keys(jax.random.PRNGKey(0), jnp.arange(2))
    plain = logits_of(examples, labels)
    np.testing.assert_array_equal(plain, logits_of(examples, labels, keys=keys, dropout=0.5))
    noisy = logits_of(examples, labels, keys=keys, example_dropout=0.5)
    assert np.abs(noisy - plain).max() > 1e-3


def test_dropout_preserves_the_mean():
    keys = sequence_keys(jax.random.PRNGKey(0), jnp.arange(2000))
    dropped = dropout(jnp.ones((2000, 5)), 0.3, keys, "somewhere")
    assert dropped.mean() == pytest.approx(1, abs=0.02)
    elsewhere = dropout(jnp.ones((2000, 5)), 0.3, keys, "elsewhere")
    assert (dropped != elsewhere).mean() == pytest.approx(2 * 0.3 * 0.7, abs=0.03)
    assert dropout(1.0, 0.3, None, "nowhere") == 1


def test_dropout_differs_between_layers():
    keys = sequence_keys(jax.random.PRNGKey(0), jnp.arange(1))
    masks = [dropout(jnp.ones((1, 64)), 0.5, of_layer(keys, i), "mlp") for i in range(2)]
    assert not np.array_equal(*masks)


def test_rotary_scores_depend_on_distance_only():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 1, 1, 1, 8)).astype(np.float32)
    query, key = (np.tile(vector, (1, 6, 1, 1)) for vector in vectors)
    scores = np.einsum("btah,bsah->ts", rotate(query), rotate(key))
    for offset in range(-5, 6):
        diagonal = np.diagonal(scores, offset)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-5)
    assert len({round(float(np.diagonal(scores, offset)[0]), 4) for offset in range(6)}) == 6
    np.testing.assert_allclose(rotate(query)[:, 0], query[:, 0], rtol=1e-6)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary", "none"])
def test_order_matters_only_with_positions(positions):
    """Swapping two context pairs changes the output unless there are no positions."""
    examples, labels = inputs("linear")
    options = {"positions": positions, "num_positions": 7, "num_layers": 1}
    order = [1, 0, 2, 3]
    before = logits_of(examples, labels, **options)
    after = logits_of(examples[:, order], labels[:, order], **options)
    same = np.abs(before - after).max() < 1e-5
    # One layer that mixes tokens without positions sees a set of them.
    assert same == (positions == "none")


def test_attention_only_blocks_have_no_mlp():
    def shapes(**options):
        network = make_network(model(encoder="linear", num_layers=2, **options), 11)
        params, _ = jax.eval_shape(network.init, jax.random.PRNGKey(0), *inputs("linear"))
        return params

    full, attention_only = shapes(), shapes(attention_only=True)
    assert size(full) - size(attention_only) == 2 * (64 * 256 + 256 + 256 * 64 + 64 + 2 * 64)
    assert not any("mlp" in module for module in attention_only)


def test_the_head_has_the_configured_hidden_layers():
    network = make_network(model(encoder="linear", head_hidden_sizes=(32, 16)), 11)
    params, _ = jax.eval_shape(network.init, jax.random.PRNGKey(0), *inputs("linear"))
    widths = [params[name]["w"].shape for name in ("head_hidden_0", "head_hidden_1", "head")]
    assert widths == [(64, 32), (32, 16), (16, 11)]


@pytest.mark.parametrize(("image_size", "superpixels"), [(105, 16), (28, 1), (60, 4)])
def test_flattened_superpixels_preserve_the_embedding_size(image_size, superpixels):
    assert num_superpixels(image_size, 4) == superpixels
    options = model(encoder="resnet")
    options.resnet.flatten_superpixels = True
    network = make_network(options, 11)
    images = np.zeros((1, 2, image_size, image_size, 1), np.float32)
    params, stats = jax.eval_shape(
        network.init, jax.random.PRNGKey(0), images, np.zeros((1, 2), np.int32)
    )
    embeddings, _ = jax.eval_shape(
        lambda p, s, x: network.encode(p, s, x, False), params, stats, images[0]
    )
    assert embeddings.shape == (2, 64)
    (last,) = (v["w"] for k, v in params.items() if "group_3_block_1" in k and "conv_2" in k)
    assert last.shape[-1] == 64 // superpixels


def test_the_resnet_has_the_configured_blocks_per_group():
    options = model(encoder="resnet")
    options.resnet.channels, options.resnet.blocks_per_group = (8, 12, 64), (1, 3, 2)
    network = make_network(options, 11)
    images = np.zeros((1, 2, 40, 40, 1), np.float32)
    params, _ = jax.eval_shape(
        network.init, jax.random.PRNGKey(0), images, np.zeros((1, 2), np.int32)
    )
    blocks = {k.split("group_")[1][:9] for k in params if "group_" in k}
    assert blocks == {f"{group}_block_{i}" for group, n in enumerate((1, 3, 2)) for i in range(n)}


# --------------------------------------------------------------------------- attention


@pytest.mark.parametrize("tokens", ["interleaved", "concatenated"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_attention_weights_are_causal_and_sum_to_one(tokens, scan_layers):
    network = make_network(
        model(encoder="linear", tokens=tokens, scan_layers=scan_layers, num_layers=3), 11
    )
    examples, labels = inputs("linear")
    params, _ = init(network, examples, labels)
    embeddings = np.random.default_rng(0).normal(size=(2, 4, 64)).astype(np.float32)
    weights = jax.jit(network.attend)(params, None, embeddings, labels)
    length = 7 if tokens == "interleaved" else 4
    assert weights.shape == (3, 2, 8, length, length)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    assert np.abs(np.triu(weights, k=1)).max() == 0


@pytest.mark.parametrize("sequence_model", ["lstm", "gru", "rnn"])
def test_recurrent_models_have_no_attention(sequence_model):
    network = make_network(model(encoder="linear", sequence_model=sequence_model), 11)
    examples, labels = inputs("linear")
    params, _ = init(network, examples, labels)
    assert network.attend(params, None, np.zeros((2, 4, 64), np.float32), labels) is None


# --------------------------------------------------------------------- mixed precision


@pytest.mark.parametrize(
    ("encoder", "sequence_model"),
    [("resnet", "transformer"), *(("linear", name) for name in SEQUENCE_MODELS)],
)
def test_bfloat16_losses_agree_with_float32_within_two_percent(encoder, sequence_model):
    """Parameters, BatchNorm, and logits stay in float32; only computation is in bfloat16."""
    examples, labels = inputs(encoder, batch=8)

    def network_of(precision):
        options = model(encoder=encoder, sequence_model=sequence_model, precision=precision)
        options.resnet.channels, options.resnet.blocks_per_group = (64,), (1,)
        return make_network(options, 11)

    networks = {precision: network_of(precision) for precision in ("float32", "bfloat16")}
    params, stats = init(networks["float32"], examples, labels)

    def loss(params, network):
        logits, after = network.apply(params, stats, None, examples, labels, True)
        assert logits.dtype == jnp.float32
        return query_loss(logits, labels).mean(), after

    results = {}
    for precision, network in networks.items():
        compute = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
        (value, after), gradients = compute(params, network)
        results[precision] = float(value), gradients
        for leaf in jax.tree.leaves((gradients, after)):
            assert leaf.dtype in (jnp.float32, jnp.int32)
    (exact, exact_gradients), (short, short_gradients) = results.values()
    assert exact != short
    assert short == pytest.approx(exact, rel=0.02)
    ravel = jax.flatten_util.ravel_pytree
    a, b = ravel(exact_gradients)[0], ravel(short_gradients)[0]
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    assert cosine > 0.99


def test_normalization_keeps_float32_in_bfloat16():
    network = make_network(model(encoder="resnet", precision="bfloat16"), 11)

    def cast_after_init():
        params, _ = network.init(jax.random.PRNGKey(0), *inputs("resnet"))
        return cast_parameters(make_policy("bfloat16"), params)

    cast = jax.eval_shape(cast_after_init)
    for module, leaves in cast.items():
        kind = jnp.float32 if "norm" in module.split("/")[-1] else jnp.bfloat16
        assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype(kind)}
