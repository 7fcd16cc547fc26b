import haiku as hk
import jax
import numpy as np
import pytest

from emergent_icl.modules.embedding import TokenEmbedding, sinusoidal_positions, token_width


def test_positions_by_hand():
    positions = sinusoidal_positions(3, 4)
    # Frequencies 1 and 30^(-1/2); sines, then cosines.
    slow = 30**-0.5
    expected = [[np.sin(t), np.sin(slow * t), np.cos(t), np.cos(slow * t)] for t in range(3)]
    np.testing.assert_allclose(positions, expected, rtol=1e-6, atol=1e-7)
    assert sinusoidal_positions(17, 64).shape == (17, 64)


def embed(layout, embeddings, labels):
    transformed = hk.without_apply_rng(
        hk.transform(lambda e, y: TokenEmbedding(5, embeddings.shape[-1], layout)(e, y))
    )
    params = transformed.init(jax.random.PRNGKey(0), embeddings, labels)
    tokens = transformed.apply(params, embeddings, labels)
    return tokens - sinusoidal_positions(*tokens.shape[1:]), params["tokens"]["labels"]


EMBEDDINGS = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
LABELS = np.array([[1, 4, 2], [0, 0, 3]])


def test_interleaved_tokens_alternate_and_end_with_the_query():
    tokens, table = embed("interleaved", EMBEDDINGS, LABELS)
    assert tokens.shape == (2, 5, 4)
    assert table.shape == (5, 4)
    np.testing.assert_allclose(tokens[:, ::2], EMBEDDINGS, atol=1e-6)
    np.testing.assert_allclose(tokens[:, 1::2], table[LABELS[:, :2]], atol=1e-6)


def test_concatenated_tokens_replace_the_querys_label_by_a_dummy():
    tokens, table = embed("concatenated", EMBEDDINGS, LABELS)
    assert tokens.shape == (2, 3, 8)
    assert table.shape == (6, 4)
    np.testing.assert_allclose(tokens[..., :4], EMBEDDINGS, atol=1e-6)
    np.testing.assert_allclose(tokens[:, :2, 4:], table[LABELS[:, :2]], atol=1e-6)
    np.testing.assert_allclose(tokens[:, 2, 4:], np.tile(table[5], (2, 1)), atol=1e-6)


@pytest.mark.parametrize(("layout", "width"), [("interleaved", 64), ("concatenated", 128)])
def test_token_width(layout, width):
    assert token_width(64, layout) == width


def test_label_table_starts_small():
    _, table = embed("interleaved", np.zeros((1, 3, 4000), np.float32), LABELS[:1])
    # Cut at two standard deviations, which leaves .88 of them.
    assert np.std(table) == pytest.approx(0.88 * 0.02, rel=0.02)
    assert np.abs(table).max() <= 0.04 + 1e-6
