import numpy as np
import pytest

from emergent_icl.models.losses import interim_loss, query_loss

LOGITS = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 7, (3, 5))


def by_hand(logits, labels):
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return -np.log(np.take_along_axis(probabilities, labels[..., None], axis=-1)[..., 0])


def test_query_loss_by_hand():
    np.testing.assert_allclose(
        query_loss(LOGITS[:, -1], LABELS), by_hand(LOGITS, LABELS)[:, -1], rtol=1e-5
    )


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_interim_loss_spreads_its_weight_over_the_context(weight):
    losses = by_hand(LOGITS, LABELS)
    expected = sum(weight / 4 * losses[:, i] for i in range(4)) + (1 - weight) * losses[:, -1]
    np.testing.assert_allclose(interim_loss(LOGITS, LABELS, weight), expected, rtol=1e-5)
