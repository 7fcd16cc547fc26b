"""Our modules, compared with numbers computed by the reference implementation.

Each file in tests/golden holds inputs, parameters, outputs, and gradient norms of the original
model in float32. If one of these tests fails, find out why the model changed.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emergent_icl.models.network import make_network
from emergent_icl.presets.base import get_config

GOLDEN = Path(__file__).parent.parent / "golden"
IMAGE_SHAPE = (105, 105, 1)
NUM_LABELS = 40
NUM_LAYERS = 2

CASES = {
    "transformer_resnet": {"encoder": "resnet", "sequence_model": "transformer"},
    "lstm_resnet": {"encoder": "resnet", "sequence_model": "lstm"},
    "vanilla_rnn_embedding_concatenated": {
        "encoder": "embedding",
        "sequence_model": "rnn",
        "tokens": "concatenated",
        "num_symbols": 40,
    },
}

# Original module path -> (our module path, layer of the stack or None).
RENAMES = [
    (
        r"input_embedder/simple_res_net/~/block_group_(\d+)/~/block_(\d+)/~/",
        r"resnet/group_\1_block_\2/~/",
    ),
    (r"input_embedder/simple_res_net/~/", "resnet/"),
    (r"input_embedder/embed$", "symbol_encoder"),
    (r"input_embedder$", "tokens"),
    (r"^transformer/layer_norm$", "transformer/final_norm"),
    (r"^(transformer|rnn)/linear$", "head"),
    (r"dense_block/linear_1$", "mlp_narrow"),
    (r"dense_block/linear$", "mlp_widen"),
    (r"self_attention_block/causal_self_attention/linear_3$", "attention/output"),
    (r"self_attention_block/causal_self_attention/linear_2$", "attention/value"),
    (r"self_attention_block/causal_self_attention/linear_1$", "attention/key"),
    (r"self_attention_block/causal_self_attention/linear$", "attention/query"),
    (r"(transformer_block.*)/layer_norm_1$", r"\1/mlp_norm"),
    (r"(transformer_block.*)/layer_norm$", r"\1/attention_norm"),
    (r"^rnn/(lstm|vanilla_rnn)_(\d+)/", r"recurrent/layer_\2/"),
    (r"^rnn/(lstm|vanilla_rnn)/", "recurrent/layer_0/"),
]
FIRST_LAYER = r"(transformer_block|rnn/lstm|rnn/vanilla_rnn)/"
SECOND_LAYER = FIRST_LAYER.replace(")/", ")_1/")


def our_name(original):
    """The original module path, a slash, and a leaf name -> ((module, leaf), layer)."""
    module, leaf = original.rsplit("/", 1)
    for pattern, replacement in RENAMES:
        module = re.sub(pattern, replacement, module)
    layer = None
    if match := re.match(r"transformer/transformer_block(?:_(\d+))?/(.*)", module):
        layer = int(match[1] or 0)
        module = "transformer/layers/block/" + match[2]
    leaf = {"embs": "labels"}.get(leaf, leaf)
    return canonical(module), leaf, layer


def canonical(module):
    """A Haiku path without the markers that state where a module was built."""
    module = module.replace("/~/", "/").replace("__layer_stack_with_per_layer", "layers")
    return re.sub(r"(layers/)+", "layers/", module)


def collect(golden, prefix):
    """{(module, leaf): array}, with the transformer's layers stacked."""
    found = {}
    for key in golden.files:
        if key.startswith(prefix):
            module, leaf, layer = our_name(key.removeprefix(prefix))
            found.setdefault((module, leaf), {})[layer] = golden[key]
    return {
        name: layers[None] if None in layers else np.stack([layers[i] for i in sorted(layers)])
        for name, layers in found.items()
    }


def fill(template, values):
    """`template` with every leaf replaced from `values`; each value is used exactly once."""
    unused = dict(values)
    filled = {
        module: {leaf: jnp.asarray(unused.pop((canonical(module), leaf))) for leaf in leaves}
        for module, leaves in template.items()
    }
    assert not unused, f"no place for {sorted(unused)}"
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_equal(ours.shape, theirs.shape), template, filled
    )
    return filled


def original_names(name, num_layers):
    """Original parameter names for a number of layers, derived from those of the second layer."""
    golden = np.load(GOLDEN / f"{name}.npz")
    for key in golden.files:
        if not key.startswith("param/"):
            continue
        key = key.removeprefix("param/")
        if re.search(SECOND_LAYER, key):
            yield re.sub(SECOND_LAYER, r"\1/", key)
            for layer in range(1, num_layers):
                yield re.sub(SECOND_LAYER, rf"\g<1>_{layer}/", key)
        elif not re.search(FIRST_LAYER, key):
            yield key


@pytest.mark.parametrize("name", CASES)
def test_parameter_names_of_deep_models_map_one_to_one(name):
    """Also for layer numbers of two digits."""
    originals = list(original_names(name, 12))
    ours = [our_name(original) for original in originals]
    assert len(set(ours)) == len(ours) == len(set(originals))
    model = get_config().model.unlock()
    model.num_layers = 12
    model.update(CASES[name])
    is_image = model.encoder == "resnet"
    kind = jnp.float32 if is_image else jnp.int32
    examples = jax.ShapeDtypeStruct((1, 2, *(IMAGE_SHAPE if is_image else ())), kind)
    labels = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    network = make_network(model, NUM_LABELS)
    template, _ = jax.eval_shape(network.init, jax.random.PRNGKey(0), examples, labels)
    expected = set()
    for module, leaves in template.items():
        module = canonical(module)
        layers = range(12) if module.startswith("transformer/layers/") else (None,)
        expected |= {(module, leaf, layer) for leaf in leaves for layer in layers}
    assert set(ours) == expected


def load_case(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    examples = golden["examples"]
    if examples.dtype == np.uint8:
        pixels = np.unpackbits(examples, axis=-1)[..., : 105 * 105]
        examples = pixels.reshape(3, 3, 9, *IMAGE_SHAPE).astype(np.float32)
    model = get_config().model.unlock()
    model.num_layers = NUM_LAYERS
    model.update(CASES[name])
    return golden, examples, golden["labels"], make_network(model, NUM_LABELS)


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference_implementation(name):
    golden, examples, labels, network = load_case(name)
    with jax.default_matmul_precision("highest"):
        key = jax.random.PRNGKey(0)
        template, stats = jax.eval_shape(network.init, key, examples[0], labels[0])
        # Averages start at zero.
        stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stats)
        params = fill(template, collect(golden, "param/"))

        def train(params, stats, examples, labels):
            return network.apply(params, stats, None, examples, labels, True, "tokens")

        train_jit = jax.jit(train)
        before = stats
        for batch in range(3):
            before = stats
            logits, stats = train_jit(params, stats, examples[batch], labels[batch])
        evaluate = jax.jit(lambda p, s, x, y: network.apply(p, s, None, x, y, False, "tokens")[0])
        eval_logits = evaluate(params, stats, examples[2], labels[2])

        def loss_fn(params):
            logits, _ = network.apply(params, before, None, examples[2], labels[2], True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[2][:, -1]).mean()

        loss, grads = jax.jit(jax.value_and_grad(loss_fn))(params)

    np.testing.assert_allclose(logits, golden["logits_train"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(eval_logits, golden["logits_eval"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(loss, golden["loss"], rtol=1e-5)
    # If training and evaluation did not differ, the test would prove nothing.
    if stats:
        assert np.abs(logits - eval_logits).max() > 1e-3

    expected_stats = collect(golden, "state/")
    for module, leaves in stats.items():
        for leaf, ours in leaves.items():
            theirs = expected_stats.pop((canonical(module), leaf))
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    assert not expected_stats

    expected_norms = collect(golden, "gradnorm/")
    stacked = "transformer/layers/"
    for module, leaves in grads.items():
        for leaf, gradient in leaves.items():
            name = (canonical(module), leaf)
            axes = tuple(range(1, gradient.ndim)) if name[0].startswith(stacked) else None
            ours = np.sqrt(np.sum(np.square(gradient), axis=axes))
            # A key bias shifts all scores of a query equally: its gradient is rounding error.
            tolerance = 1e-6 if "attention/key" in name[0] and leaf == "b" else 1e-9
            np.testing.assert_allclose(
                ours, expected_norms.pop(name), rtol=1e-3, atol=tolerance, err_msg=str(name)
            )
    assert not expected_norms
