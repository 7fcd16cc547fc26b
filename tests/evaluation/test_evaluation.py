import jax
import numpy as np
import pytest

from emergent_icl.config.registry import EVALUATION_MODES
from emergent_icl.evaluation.evaluate import draw_mode
from emergent_icl.evaluation.metrics import curves, query_metrics
from emergent_icl.models.network import Network
from emergent_icl.training.build import build


def built(config, **options):
    config.update_from_flattened_dict(options)
    experiment = build(config.lock())
    state = experiment.init(config.training.seed)
    return experiment, state, jax.device_put(experiment.arrays())


def test_embedding_each_drawing_once_gives_the_results_of_embedding_every_sequence(image_config):
    config = image_config
    experiment, state, bank = built(
        config,
        **{"data.noise_scale": 0.0, "evaluation.modes": ("fewshot_holdout", "no_support_zipfian")},
    )
    results = experiment.evaluator()(state.params, state.batch_stats, bank)
    for name, metrics in results.items():
        mode = draw_mode(config, experiment.task, name)
        examples = bank.examples[mode.batch.class_ids, mode.batch.exemplar_ids][..., None] / 255.0
        logits, _ = experiment.network.apply(
            state.params, state.batch_stats, None, examples, mode.batch.labels, False
        )
        plain = query_metrics(logits, mode.batch.labels, mode.own, mode.judgment)
        assert set(plain) == set(metrics)
        for metric, values in plain.items():
            assert metrics[metric].mean == pytest.approx(float(values.mean()), abs=1e-5)


def test_results_do_not_depend_on_the_batch_size(image_config):
    values = []
    for chunk in (16, 64):
        experiment, state, bank = built(
            image_config.copy_and_resolve_references(), **{"evaluation.batch_size": chunk}
        )
        results = experiment.evaluator()(state.params, state.batch_stats, bank)
        values.append(results["fewshot_holdout"]["loss"].mean)
    # Pixel noise depends on the sequence, not on its position in a chunk.
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_batches_of_noisy_images_are_limited_too(image_config):
    """Noisy images, too, are embedded in chunks of `evaluation.batch_size`."""
    experiment, state, bank = built(image_config, **{"evaluation.batch_size": 20})
    sizes = []

    class Watched(Network):
        def encode(self, params, stats, examples, is_training):
            sizes.append(len(examples))
            return super().encode(params, stats, examples, is_training)

    network = Watched(experiment.network.parts, experiment.network.policy)
    watched = experiment._replace(network=network)
    watched.evaluator()(state.params, state.batch_stats, bank)
    # Two sequences of nine images.
    assert set(sizes) == {18}


def test_results_depend_on_the_seed_alone(config):
    losses = []
    for seed in (0, 0, 1):
        experiment, state, bank = built(
            config.copy_and_resolve_references(), **{"evaluation.seed": seed}
        )
        results = experiment.evaluator()(state.params, state.batch_stats, bank)
        losses.append(results["fewshot_holdout"]["loss"].mean)
    assert losses[0] == losses[1] != losses[2]


def test_an_untrained_model_is_at_chance(config):
    experiment, state, bank = built(config, **{"evaluation.num_sequences": 4000})
    results = experiment.evaluator()(state.params, state.batch_stats, bank)
    fewshot, iwl = results["fewshot_holdout"], results["no_support_zipfian"]
    assert fewshot["accuracy_closed"].mean == pytest.approx(0.5, abs=0.06)
    assert iwl["accuracy"].mean < 0.1
    assert curves(results) == {
        "icl": fewshot["accuracy_closed"].mean,
        "iwl": iwl["accuracy"].mean,
    }


def test_each_mode_has_its_valid_labels_and_answers(config):
    experiment, _, _ = built(
        config,
        **{
            "data.sequences.label_multiplicity": 3,
            "evaluation.modes": ("fewshot_holdout", "no_support_common", "no_support_rare"),
        },
    )
    task = experiment.task
    assert task.num_labels == 3 * 32 + 8
    judge = {name: draw_mode(config, task, name).judgment for name in task.evaluation}
    np.testing.assert_array_equal(np.flatnonzero(judge["fewshot_holdout"].is_valid), [0, 1])
    common, rare = range(3 * 28, 3 * 32), range(3 * 28)
    np.testing.assert_array_equal(np.flatnonzero(judge["no_support_common"].is_valid), common)
    np.testing.assert_array_equal(np.flatnonzero(judge["no_support_rare"].is_valid), rare)
    np.testing.assert_array_equal(np.flatnonzero(judge["no_support_rare"].is_common), common)
    # Any label of the class is correct.
    assert judge["no_support_rare"].answers[:7].tolist() == [0, 0, 0, 1, 1, 1, 2]


def test_training_types_use_the_options_of_training_in_evaluation(config):
    experiment, _, _ = built(
        config, **{"data.sequences.p_bursty": 0.0, "evaluation.modes": ("bursty",)}
    )
    batch = draw_mode(config, experiment.task, "bursty").batch
    supported = (batch.class_ids[:, :-1] == batch.class_ids[:, -1:]).any(axis=1)
    assert supported.mean() < 0.5


def test_curves_are_none_if_their_mode_was_not_evaluated():
    assert curves({}) == {"icl": None, "iwl": None}


def test_metrics_distinguish_context_from_weights(config):
    """A flipped query has one correct answer in the context and another in the weights."""
    experiment, _, _ = built(
        config,
        **{
            "data.sequences.label_multiplicity": 2,
            "evaluation.modes": ("flip", "no_support_zipfian", "relabelled"),
        },
    )
    task = experiment.task
    mode = draw_mode(config, task, "flip")
    owner_of_label = mode.judgment.owners[mode.batch.labels[:, -1]]
    assert (owner_of_label != mode.own).all()
    # Predictions from the weights, ignoring the context.
    place = task.space.places_of(mode.batch.class_ids[:, -1])
    by_heart = np.eye(task.num_labels, dtype=np.float32)[2 * place + 1]
    metrics = query_metrics(by_heart, mode.batch.labels, mode.own, mode.judgment)
    assert metrics["predicts_own_label"].mean() == 1
    assert metrics["accuracy"].mean() == 0
    # Predictions copied from the context.
    copied = np.eye(task.num_labels, dtype=np.float32)[mode.batch.labels[:, -1]]
    metrics = query_metrics(copied, mode.batch.labels, mode.own, mode.judgment)
    assert metrics["predicts_own_label"].mean() == 0
    assert metrics["accuracy"].mean() == metrics["predicts_context"].mean() == 1


@pytest.mark.parametrize("mode", list(EVALUATION_MODES))
def test_every_mode_is_evaluated(mode, config):
    experiment, state, bank = built(
        config,
        **{"evaluation.modes": (mode,), "evaluation.shots": 2, "evaluation.ways": 3},
    )
    results = experiment.evaluator()(state.params, state.batch_stats, bank)
    assert set(results) == {mode}
    assert all(np.isfinite(estimate.mean) for estimate in results[mode].values())
    is_fewshot = "fewshot" in mode or mode in ("flip", "mixed")
    assert experiment.task.evaluation[mode].seq_len == (7 if is_fewshot else 9)


def test_only_example_dropout_applies_in_evaluation(config):
    means = []
    for options in ({}, {"model.example_dropout": 0.5}, {"model.dropout": 0.5}):
        experiment, state, bank = built(config.copy_and_resolve_references().unlock(), **options)
        results = experiment.evaluator()(state.params, state.batch_stats, bank)
        means.append(results["fewshot_holdout"]["loss"].mean)
    plain, noisy_input, dropped = means
    assert plain == dropped != noisy_input
