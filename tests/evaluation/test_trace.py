import numpy as np
import pytest
import tiny

from emergent_icl.data.bank import DeviceBank
from emergent_icl.evaluation import trace as tracing
from emergent_icl.evaluation.evaluate import draw_mode
from emergent_icl.evaluation.trace import token_names
from emergent_icl.runs.open import Run, load_run
from emergent_icl.runs.records import Display
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training.build import build

pytestmark = pytest.mark.usefixtures("quick_runs")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on noisy images."""
    folder = tmp_path_factory.mktemp("traced")
    train(tiny.get_config("images"), Workdir(folder), Display())
    return load_run(folder)


def untrained(config, **options):
    config.update_from_flattened_dict(options)
    experiment = build(config.lock())
    state = experiment.init(0)
    return Run(experiment, 0, state.params, state.batch_stats, config)


def trace(run, mode, rows):
    parts = (run.params, run.batch_stats, run.device_bank())
    return tracing.trace(run.experiment.evaluator(), *parts, mode, rows)


def test_a_trace_shows_the_sequences_of_the_evaluation(run):
    found = trace(run, "fewshot_holdout", [3, 0])
    experiment = run.experiment
    mode = draw_mode(experiment.config, experiment.task, "fewshot_holdout")
    for ours, theirs in zip(found.batch, mode.batch, strict=True):
        np.testing.assert_array_equal(ours, theirs[[3, 0]])
    # Probabilities agree with the evaluation: the mean loss is the same.
    count = experiment.config.evaluation.num_sequences
    everything = trace(run, "fewshot_holdout", range(count))
    of_truth = everything.probabilities[np.arange(count), -1, everything.batch.labels[:, -1]]
    evaluate = experiment.evaluator()
    results = evaluate(run.params, run.batch_stats, run.device_bank())
    loss = results["fewshot_holdout"]["loss"].mean
    assert -np.log(of_truth).mean() == pytest.approx(loss, rel=1e-4)


def test_traces_do_not_depend_on_the_other_rows(run):
    alone, together = (trace(run, "no_support_zipfian", rows) for rows in ([4], [1, 4, 2]))
    np.testing.assert_allclose(alone.examples[0], together.examples[1], atol=1e-6)
    np.testing.assert_allclose(alone.probabilities[0], together.probabilities[1], atol=1e-5)
    np.testing.assert_allclose(alone.attention[:, 0], together.attention[:, 1], atol=1e-5)


def test_shapes_of_a_trace(run):
    found = trace(run, "fewshot_holdout", [0, 1])
    assert found.examples.shape == (2, 9, 12, 12, 1)
    assert found.probabilities.shape == (2, 9, run.experiment.task.num_labels)
    np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1, rtol=1e-5)
    assert found.attention.shape == (1, 2, 2, 17, 17)
    assert found.tokens.shape == (2, 17)
    assert found.positions.tolist() == list(range(9))


def test_concatenated_tokens_predict_only_the_query(config):
    found = trace(untrained(config, **{"model.tokens": "concatenated"}), "fewshot_holdout", [0])
    assert found.positions.tolist() == [8]
    assert found.probabilities.shape[:2] == (1, 1)
    assert found.attention.shape == (1, 1, 2, 9, 9)


def test_a_recurrent_model_has_no_attention(config):
    found = trace(untrained(config, **{"model.sequence_model": "gru"}), "fewshot_holdout", [0])
    assert found.attention is None
    assert found.probabilities.shape[1] == 9


def test_token_names():
    assert token_names(np.array([[3, 5, 9]]), True).tolist() == [
        ["x 3", "y 3", "x 5", "y 5", "query"]
    ]
    assert token_names(np.array([[3, 5, 9]]), False).tolist() == [["x, y 3", "x, y 5", "query"]]


def test_unknown_modes_and_rows_are_refused(run):
    with pytest.raises(ValueError, match=r"mode 'flip' is not among evaluation\.modes"):
        trace(run, "flip", [0])
    with pytest.raises(ValueError, match=r"sequences \[50, -1\] must be below"):
        trace(run, "fewshot_holdout", [50, 0, -1])


def test_the_device_bank_marks_rare_classes_as_random(image_config):
    image_config.data.random_rare_images = True
    arrays = build(image_config.lock()).arrays()
    assert isinstance(arrays, DeviceBank)
    split = build(image_config).task.space.split
    np.testing.assert_array_equal(
        np.sort(np.flatnonzero(arrays.is_random)), np.sort(split.class_ids[:28])
    )
