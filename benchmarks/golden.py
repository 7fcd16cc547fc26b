"""Numbers that the reference implementation computed, and ours on the same inputs.

Each file in tests/golden holds inputs, parameters, outputs, and gradient norms of the original
model in float32.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from emergent_icl.models.network import BatchStats, Network, Params, make_network
from emergent_icl.presets.base import get_config

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
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


def our_name(original: str) -> tuple[str, str, int | None]:
    """The original module path, a slash, and a leaf name -> (module, leaf, layer)."""
    module, leaf = original.rsplit("/", 1)
    for pattern, replacement in RENAMES:
        module = re.sub(pattern, replacement, module)
    layer = None
    if match := re.match(r"transformer/transformer_block(?:_(\d+))?/(.*)", module):
        layer = int(match[1] or 0)
        module = "transformer/layers/block/" + match[2]
    leaf = {"embs": "labels"}.get(leaf, leaf)
    return canonical(module), leaf, layer


def canonical(module: str) -> str:
    """A Haiku path without the markers that state where a module was built."""
    module = module.replace("/~/", "/").replace("__layer_stack_with_per_layer", "layers")
    return re.sub(r"(layers/)+", "layers/", module)


def collect(golden: Any, prefix: str) -> dict[tuple[str, str], np.ndarray]:
    """{(module, leaf): array}, with the transformer's layers stacked."""
    found: dict[tuple[str, str], dict[int | None, np.ndarray]] = {}
    for key in golden.files:
        if key.startswith(prefix):
            module, leaf, layer = our_name(key.removeprefix(prefix))
            found.setdefault((module, leaf), {})[layer] = golden[key]
    return {
        name: layers[None] if None in layers else np.stack([layers[i] for i in range(len(layers))])
        for name, layers in found.items()
    }


def fill(template: Params, values: dict[tuple[str, str], np.ndarray]) -> Params:
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


class Outputs(NamedTuple):
    """What a model computes from three batches of the reference implementation."""

    logits_train: jax.Array  # of the third batch, [B, S, L]
    logits_eval: jax.Array  # of the third batch, after three updates of BatchNorm's averages
    loss: jax.Array
    batch_stats: BatchStats
    gradients: Params


def load_case(name: str) -> tuple[Any, np.ndarray, np.ndarray, Network]:
    """The recorded arrays, examples [3, B, S, ...], labels [3, B, S], and our network."""
    golden = np.load(GOLDEN / f"{name}.npz")
    examples = golden["examples"]
    if examples.dtype == np.uint8:
        pixels = np.unpackbits(examples, axis=-1)[..., : 105 * 105]
        examples = pixels.reshape(3, 3, 9, *IMAGE_SHAPE).astype(np.float32)
    model = get_config().model.unlock()
    model.num_layers = NUM_LAYERS
    model.update(CASES[name])
    return golden, examples, golden["labels"], make_network(model, NUM_LABELS)


def compute(name: str, precision: str = "highest") -> Outputs:
    """Our outputs, from the recorded parameters, at a precision of matrix products."""
    golden, examples, labels, network = load_case(name)
    with jax.default_matmul_precision(precision):
        key = jax.random.PRNGKey(0)
        template, stats = jax.eval_shape(network.init, key, examples[0], labels[0])
        # Averages start at zero.
        stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stats)
        params = fill(template, collect(golden, "param/"))
        train = jax.jit(lambda p, s, x, y: network.apply(p, s, None, x, y, True, "tokens"))
        before, logits = stats, jnp.zeros(())
        for batch in range(3):
            before = stats
            logits, stats = train(params, stats, examples[batch], labels[batch])
        evaluate = jax.jit(lambda p, s, x, y: network.apply(p, s, None, x, y, False, "tokens")[0])
        eval_logits = evaluate(params, stats, examples[2], labels[2])

        def loss_fn(params: Params, examples: np.ndarray, labels: np.ndarray) -> jax.Array:
            logits, _ = network.apply(params, before, None, examples, labels, True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[:, -1]).mean()

        gradient_fn = jax.jit(jax.value_and_grad(loss_fn))
        loss, gradients = gradient_fn(params, examples[2], labels[2])
    return Outputs(logits, eval_logits, loss, stats, gradients)


def gradient_norms(gradients: Params) -> dict[tuple[str, str], jax.Array]:
    """{(module, leaf): norm}, of each layer of the transformer's stack separately."""

    def norm(module: str, gradient: jax.Array) -> jax.Array:
        is_stack = module.startswith("transformer/layers/")
        axes = tuple(range(1, gradient.ndim)) if is_stack else None
        return jnp.sqrt(jnp.sum(jnp.square(gradient), axis=axes))

    return {name: norm(name[0], gradient) for name, gradient in _by_name(gradients).items()}


def tolerated(module: str, leaf: str) -> float:
    """An absolute difference of gradient norms that means nothing.

    A key bias shifts all scores of a query equally: its gradient is rounding error.
    """
    return 1e-6 if "attention/key" in module and leaf == "b" else 1e-9


# Greatest differences in float32, if only the order of summation differs.
LIMITS = {
    "logits_train": 1e-4,
    "logits_eval": 1e-4,
    "loss": 1e-4,
    "batch_stats": 1e-3,
    "gradient_norms": 1e-3,
}


def differences(name: str, precision: str) -> dict[str, float]:
    """Greatest differences from the reference implementation, of what `LIMITS` names.

    Those of logits and loss are absolute. Those of BatchNorm's averages and of gradient norms are
    relative, with an absolute tolerance besides: 1e-5, and `tolerated`.
    """
    golden, found = np.load(GOLDEN / f"{name}.npz"), compute(name, precision)
    outputs = found._asdict()
    greatest = {
        what: float(np.abs(outputs[what] - golden[what]).max())
        for what in ("logits_train", "logits_eval", "loss")
    }
    for what, prefix, ours in (
        ("batch_stats", "state/", _by_name(found.batch_stats)),
        ("gradient_norms", "gradnorm/", gradient_norms(found.gradients)),
    ):
        theirs, limit = collect(golden, prefix), LIMITS[what]
        assert ours.keys() == theirs.keys()
        besides = {one: 1e-5 if what == "batch_stats" else tolerated(*one) for one in ours}
        relative = [
            np.max(np.abs(ours[one] - theirs[one]) / (np.abs(theirs[one]) + besides[one] / limit))
            for one in ours
        ]
        greatest |= {what: float(np.max(relative))} if relative else {}
    return greatest


def _by_name(tree: Params | BatchStats) -> dict[tuple[str, str], Any]:
    """{(module, leaf): array}, with canonical names."""
    return {
        (canonical(module), leaf): array
        for module, leaves in tree.items()
        for leaf, array in leaves.items()
    }
