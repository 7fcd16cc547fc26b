import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emergent_icl.evaluation.metrics import Judgment, interval, intervals, query_metrics

# Labels 0, 1: few-shot; 0..3 rare, 4..5 common, 6 unused.
JUDGMENT = Judgment(
    is_valid=np.array([1, 1, 0, 0, 0, 0, 0], bool),
    answers=np.array([0, 1, 2, 3, 4, 5, -1]),
    is_common=np.array([0, 0, 0, 0, 1, 1, 0], bool),
    is_rare=np.array([1, 1, 1, 1, 0, 0, 0], bool),
    is_fewshot=np.array([1, 1, 0, 0, 0, 0, 0], bool),
    owners=np.array([0, 0, 1, 1, 2, 2, -1]),
)
# Owners of the queries' classes. That of the last query owns no label that can be predicted.
OWN = np.array([0, 2, 1, 3])
LABELS = np.array([[0, 1, 0], [0, 1, 1], [0, 5, 1], [3, 3, 0]])
# Predictions among all labels: 0, 5, 5, 6; among valid ones: 0, 1, 0, 0.
LOGITS = jnp.array(
    [
        [9, 1, 0, 0, 0, 0, 0],
        [1, 2, 0, 0, 0, 9, 0],
        [2, 1, 0, 0, 0, 9, 0],
        [2, 1, 0, 0, 0, 0, 9.0],
    ]
)


def test_every_metric_by_hand():
    metrics = query_metrics(LOGITS, LABELS, OWN, JUDGMENT)
    expected = {
        "accuracy": [1, 0, 0, 0],
        "accuracy_closed": [1, 1, 0, 1],
        "predicts_common": [0, 1, 1, 0],
        "predicts_rare": [1, 0, 0, 0],
        "predicts_fewshot": [1, 0, 0, 0],
        "predicts_own_label": [1, 1, 0, 0],
        "predicts_context": [1, 0, 1, 0],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(metrics[name], values, err_msg=name)
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(4), LABELS[:, -1]])
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5, atol=1e-6)
    assert set(metrics) == {"loss", *expected}


def test_all_labels_of_a_class_are_correct_answers():
    either = JUDGMENT._replace(answers=np.array([0, 0, 2, 3, 4, 4, -1]))
    labels = np.array([[2, 1], [2, 0], [2, 4], [2, 4]])
    accuracy = query_metrics(LOGITS, labels, OWN, either)["accuracy"]
    np.testing.assert_array_equal(accuracy, [1, 0, 1, 0])


def test_wilson_interval_by_hand():
    # 8 of 10: (0.490, 0.943) in textbooks.
    mean, low, high = interval(np.array([1] * 8 + [0] * 2), is_proportion=True)
    assert (mean, low, high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_proportions_stay_within_bounds(values):
    mean, low, high = interval(np.array(values, float), is_proportion=True)
    assert -1e-9 <= low <= mean <= high <= 1 + 1e-9


def test_intervals_have_nominal_coverage():
    rng = np.random.default_rng(0)
    for draw, proportion, truth in (
        (lambda: rng.random(200) < 0.3, True, 0.3),
        (lambda: rng.exponential(2.0, 200), False, 2.0),
    ):
        estimates = [interval(draw().astype(float), proportion) for _ in range(1000)]
        covered = np.mean([low <= truth <= high for _, low, high in estimates])
        assert covered == pytest.approx(0.95, abs=0.025)


def test_only_proportions_get_wilson_intervals():
    values = np.array([0.0, 1.0, 1.0, 1.0])
    summary = intervals({"accuracy": values, "loss": 10 * values})
    assert summary["accuracy"].high <= 1
    assert summary["loss"].mean == 7.5
    assert summary["loss"].high > 10
