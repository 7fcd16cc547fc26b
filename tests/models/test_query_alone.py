"""A transformer gives the query the same logits whether or not it computes the others."""

import jax
import numpy as np
import pytest
from test_network import VARIANTS, init, inputs, model

from emergent_icl.models.network import make_network
from emergent_icl.randomness import sequence_keys


@pytest.mark.parametrize(
    "overrides",
    [
        *VARIANTS.values(),
        {"num_layers": 2},
        {"num_layers": 3, "scan_layers": True},
        {"num_layers": 3, "dropout": 0.3, "positional_dropout": 0.2},
    ],
    ids=str,
)
def test_logits_and_gradients_do_not_depend_on_query_alone(overrides):
    network = make_network(model(encoder="embedding", **overrides), 11, num_positions=7)
    examples, labels = inputs("embedding")
    params, stats = init(network, examples, labels)
    keys = sequence_keys(jax.random.PRNGKey(1), np.arange(len(labels)))

    def loss(params, at):
        logits, _ = network.apply(params, stats, keys, examples, labels, True, at=at)
        logits = logits if at == "query" else logits[:, -1]
        return (logits**2).sum(), logits

    @jax.jit
    def both(params):
        return [jax.grad(loss, has_aux=True)(params, at) for at in ("query", "examples")]

    alone, among = both(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), alone, among)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(alone[0])) > 0


def test_the_last_layer_computes_less_with_query_alone():
    from emergent_icl.training.cost import count_flops

    network = make_network(model(encoder="embedding", num_layers=2), 11)
    examples, labels = inputs("embedding", length=9)
    params, stats = init(network, examples, labels)

    def flops(at):
        return count_flops(
            lambda params: network.apply(params, stats, None, examples, labels, False, at=at)[0],
            params,
        )

    assert flops("query") < 0.75 * flops("examples")
