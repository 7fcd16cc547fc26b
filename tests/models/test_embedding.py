import haiku as hk
import jax
import numpy as np
import pytest

from emergent_icl.models.tokens import TokenEmbedding, num_tokens, sinusoidal_positions, token_width
from emergent_icl.presets import base
from emergent_icl.randomness import sequence_keys


def test_positions_by_hand():
    positions = sinusoidal_positions(3, 4)
    # Frequencies 1 and 30^(-1/2); sines, then cosines.
    slow = 30**-0.5
    expected = [[np.sin(t), np.sin(slow * t), np.cos(t), np.cos(slow * t)] for t in range(3)]
    np.testing.assert_allclose(positions, expected, rtol=1e-6, atol=1e-7)
    assert sinusoidal_positions(17, 64).shape == (17, 64)


def embed(layout, embeddings, labels, num_labels=5, keys=None, is_training=True, **options):
    """Returns tokens and parameters."""
    model = base.get_config().model.unlock()
    model.update({"tokens": layout, "embedding_size": embeddings.shape[-1], **options})
    transformed = hk.without_apply_rng(
        hk.transform(lambda e, y: TokenEmbedding(model, num_labels, 7)(e, y, keys, is_training))
    )
    params = jax.jit(transformed.init)(jax.random.PRNGKey(0), embeddings, labels)
    return jax.jit(transformed.apply)(params, embeddings, labels), params["tokens"]


def without_positions(layout, embeddings, labels):
    tokens, params = embed(layout, embeddings, labels)
    return tokens - sinusoidal_positions(*tokens.shape[1:]), params["labels"]


EMBEDDINGS = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
LABELS = np.array([[1, 4, 2], [0, 0, 3]])


def test_interleaved_tokens_alternate_and_end_with_the_query():
    tokens, table = without_positions("interleaved", EMBEDDINGS, LABELS)
    assert tokens.shape == (2, 5, 4)
    assert table.shape == (5, 4)
    np.testing.assert_allclose(tokens[:, ::2], EMBEDDINGS, atol=1e-6)
    np.testing.assert_allclose(tokens[:, 1::2], table[LABELS[:, :2]], atol=1e-6)


def test_concatenated_tokens_replace_the_querys_label_with_a_dummy():
    tokens, table = without_positions("concatenated", EMBEDDINGS, LABELS)
    assert tokens.shape == (2, 3, 8)
    assert table.shape == (6, 4)
    np.testing.assert_allclose(tokens[..., :4], EMBEDDINGS, atol=1e-6)
    np.testing.assert_allclose(tokens[:, :2, 4:], table[LABELS[:, :2]], atol=1e-6)
    np.testing.assert_allclose(tokens[:, 2, 4:], np.tile(table[5], (2, 1)), atol=1e-6)


@pytest.mark.parametrize(("layout", "width"), [("interleaved", 64), ("concatenated", 128)])
def test_token_width(layout, width):
    assert token_width(64, layout) == width


def test_initial_scale_of_the_label_table():
    _, table = without_positions("interleaved", np.zeros((1, 3, 4000), np.float32), LABELS[:1])
    # Truncation at two standard deviations reduces the standard deviation by a factor of 0.88.
    assert np.std(table) == pytest.approx(0.88 * 0.02, rel=0.02)
    assert np.abs(table).max() <= 0.04 + 1e-6


def test_learned_positions_are_a_table_of_the_given_capacity():
    tokens, params = embed("interleaved", EMBEDDINGS, LABELS, positions="learned")
    assert params["positions"].shape == (7, 4)
    np.testing.assert_allclose(tokens[:, 2], EMBEDDINGS[:, 1] + params["positions"][2], atol=1e-6)


@pytest.mark.parametrize("positions", ["none", "rotary"])
def test_tokens_have_no_positions_if_the_sequence_model_adds_them_or_none_are_configured(positions):
    tokens, params = embed("interleaved", EMBEDDINGS, LABELS, positions=positions)
    np.testing.assert_array_equal(tokens[:, ::2], EMBEDDINGS)
    assert set(params) == {"labels"}


@pytest.mark.parametrize("layout", ["interleaved", "concatenated"])
def test_number_of_tokens(layout):
    assert embed(layout, EMBEDDINGS, LABELS)[0].shape[1] == num_tokens(3, layout)


ONES = np.ones((400, 3, 8), np.float32)
KEYS = sequence_keys(jax.random.PRNGKey(0), np.arange(400))
ZEROS = np.zeros((400, 3), int)


@pytest.mark.parametrize("is_training", [True, False])
def test_examples_are_dropped_in_evaluation_too(is_training):
    options = {"positions": "none", "example_dropout": 0.25, "is_training": is_training}
    tokens, _ = embed("interleaved", ONES, ZEROS, keys=KEYS, **options)
    examples = np.asarray(tokens[:, ::2])
    assert set(np.unique(examples.round(4))) == {0, np.float32(1.3333)}
    assert (examples == 0).mean() == pytest.approx(0.25, abs=0.02)
    # A mask depends on the sequence, not on its position in the batch.
    alone, _ = embed("interleaved", ONES[7:8], ZEROS[7:8], keys=KEYS[7:8], **options)
    np.testing.assert_array_equal(alone[0], tokens[7])


def test_positions_are_dropped_in_training_only():
    options = {"positional_dropout": 0.25, "keys": KEYS}
    plain, _ = embed("interleaved", ONES, ZEROS)
    evaluated, _ = embed("interleaved", ONES, ZEROS, is_training=False, **options)
    np.testing.assert_array_equal(plain, evaluated)
    trained, params = embed("interleaved", ONES, ZEROS, **options)
    dropped = np.asarray(trained)[:, ::2] == 1  # Only the example is left.
    # The sine at position 0 is 0 whether dropped or not.
    assert dropped[:, 1:].mean() == pytest.approx(0.25, abs=0.02)
    assert set(params) == {"labels"}
