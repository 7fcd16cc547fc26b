"""Our modules, compared with numbers computed by the reference implementation.

Each file in tests/golden holds inputs, parameters, outputs, and gradient norms of the original
model in float32. If one of these tests fails, find out why the model changed.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.golden import (
    CASES,
    GOLDEN,
    IMAGE_SHAPE,
    NUM_LABELS,
    canonical,
    collect,
    compute,
    gradient_norms,
    our_name,
    tolerated,
)
from emergent_icl.models.network import make_network
from emergent_icl.presets.base import get_config

FIRST_LAYER = r"(transformer_block|rnn/lstm|rnn/vanilla_rnn)/"
SECOND_LAYER = FIRST_LAYER.replace(")/", ")_1/")


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


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference_implementation(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    logits, eval_logits, loss, stats, grads = compute(name)

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
    for name, ours in gradient_norms(grads).items():
        np.testing.assert_allclose(
            ours, expected_norms.pop(name), rtol=1e-3, atol=tolerated(*name), err_msg=str(name)
        )
    assert not expected_norms
