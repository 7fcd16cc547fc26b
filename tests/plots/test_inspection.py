"""Figures show a model's actual input, and statistics describe the same sample."""

import json

import jax
import numpy as np
import pytest
import tiny

from emergent_icl.data.bank import WHITE
from emergent_icl.data.task import make_task
from emergent_icl.plots import style
from emergent_icl.plots.inspection import (
    draw_subjects,
    figures,
    report,
    show,
)
from emergent_icl.runs.check import check
from emergent_icl.training.build import build


def inspected(preset="symbols", sample=50, seed=0, **changes):
    config = tiny.get_config(preset).unlock()
    config.update_from_flattened_dict(changes)
    check(config)
    experiment = build(config)
    subjects = draw_subjects(config.data.sequences.type, experiment.task, seed, sample)
    return experiment, subjects


def shown(experiment, subject, count=4, seed=0):
    return show(experiment, jax.device_put(experiment.arrays()), subject, count, seed)


def test_the_training_type_precedes_all_modes():
    modes = ("bursty", "fewshot_holdout")
    _, subjects = inspected(**{"evaluation.modes": modes})
    assert [subject.stem for subject in subjects] == ["train_bursty", *modes]
    assert [subject.heading for subject in subjects] == ["training (bursty)", *modes]
    # The same type in evaluation has different sequences.
    assert (subjects[0].sample.class_ids != subjects[1].sample.class_ids).any()


def test_images_match_the_bank():
    experiment, (training, *_) = inspected("images", **{"data.noise_scale": 0.0})
    picture = shown(experiment, training)
    assert picture.kind == "image"
    assert picture.examples.shape == (4, 9, 12, 12, 1)
    batch = training.sample
    stored = experiment.bank.examples[batch.class_ids[:4], batch.exemplar_ids[:4]]
    np.testing.assert_allclose(picture.examples[..., 0], stored / WHITE, atol=1e-6)
    np.testing.assert_array_equal(picture.labels, batch.labels[:4])


def test_rare_classes_are_shown_as_random_images():
    changes = {"data.random_rare_images": True, "data.noise_scale": 0.0}
    experiment, (training, *_) = inspected("images", **changes)
    picture = shown(experiment, training)
    is_rare = picture.notes == "rare"
    assert is_rare.any()
    assert set(np.unique(picture.examples[is_rare])) == {0.0, 1.0}
    assert np.abs(picture.examples[is_rare].mean() - 0.5) < 0.05
    # All examples of a rare class within a sequence are equal.
    for examples, class_ids in zip(picture.examples, picture.class_ids, strict=True):
        rare = experiment.task.space.places_of(class_ids) < 28
        first = [list(class_ids).index(name) for name in class_ids]
        np.testing.assert_array_equal(examples[rare], examples[first][rare])


def test_vectors_are_shown_with_noise_that_depends_on_the_seed():
    experiment, (training, *_) = inspected("vectors")
    vectors = shown(experiment, training)
    means = experiment.bank.examples[training.sample.class_ids[:4], 0]
    assert vectors.examples.shape == (4, 9, 16)
    # The data source's definition: (mean + 0.1 noise) / sqrt(1 + 0.1^2), noise ~ N(0, 1 / 16).
    error = vectors.examples * np.sqrt(1 + 0.1**2) - means
    assert np.std(error) == pytest.approx(0.1 / 4, rel=0.1)
    np.testing.assert_array_equal(shown(experiment, training).examples, vectors.examples)
    assert (shown(experiment, training, seed=1).examples != vectors.examples).all()


def test_integers_are_shown_unchanged():
    experiment, (training, *_) = inspected("symbols")
    np.testing.assert_array_equal(
        shown(experiment, training).examples, training.sample.class_ids[:4]
    )


def test_more_sequences_than_the_sample_can_be_shown():
    experiment, (training, *_) = inspected(sample=2)
    picture = shown(experiment, training, count=5)
    assert picture.labels.shape == (5, 9)
    np.testing.assert_array_equal(picture.labels[:2], training.sample.labels)


# Small print.


def notes(name, **changes):
    experiment, subjects = inspected(**{"evaluation.modes": (name,), **changes})
    picture = shown(experiment, subjects[1], count=30)
    return picture, experiment.task.space.places_of(picture.class_ids)


def test_notes_state_roles():
    picture, places = notes("no_support_zipfian")
    expected = np.where(places < 28, "rare", "common")
    np.testing.assert_array_equal(picture.notes, expected)
    assert {"rare", "common"} == set(picture.notes.ravel())
    picture, _ = notes("fewshot_holdout")
    assert set(picture.notes.ravel()) == {"held-out"}


def test_notes_state_the_fixed_label_if_a_different_one_is_shown():
    picture, places = notes("flip")
    for row, labels, own in zip(picture.notes, picture.labels, places, strict=True):
        for note, label, place in zip(row, labels, own, strict=True):
            assert note == f"{'rare' if place < 28 else 'common'}\nown {place}"
            assert label != place


def test_with_label_multiplicity_each_label_of_a_class_is_its_own():
    changes = {"data.sequences.label_multiplicity": 3}
    picture, places = notes("bursty", **changes)
    assert (picture.labels != 3 * places).any()
    assert set(picture.notes.ravel()) == {"rare", "common"}
    picture, places = notes("flip", **changes)
    assert all("own" in note for note in picture.notes.ravel())
    assert f"own {3 * places[0, 0]}" in picture.notes[0, 0]


# Files.


def test_files_are_a_pure_function_of_config_and_seed(tmp_path):
    experiment, subjects = inspected("vectors", **{"evaluation.modes": ("flip",)})
    contents = []
    for _ in range(2):
        for name, figure in figures(experiment, subjects, 2, 0, "name"):
            style.save(figure, tmp_path / name)
        contents.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "sequences_train_bursty.png", "sequences_flip.png", "class_frequencies.png", "bursts.png",
    }  # fmt: skip


def test_the_report_contains_the_statistics_as_json():
    experiment, subjects = inspected(**{"data.sequences.p_bursty": 1.0})
    content = json.loads(json.dumps(report(experiment, subjects, 7), allow_nan=False))
    assert content["seed"] == 7
    assert content["training"]["bursty"]["support"] == 1.0
    assert list(content["evaluation"]) == ["fewshot_holdout", "no_support_zipfian"]
    few = content["evaluation"]["fewshot_holdout"]
    assert (few["num_sequences"], few["seq_len"]) == (50, 9)
    assert few["support_examples"] == {"4": 1.0}
    assert few["commonest_in_sequence"] == pytest.approx(5 / 9)
    assert content["config"]["data"]["sequences"]["p_bursty"] == 1.0


@pytest.mark.parametrize(
    ("options", "follows"),
    [
        ({}, True),
        ({"type": "relabelled", "non_bursty": "common_uniform"}, True),
        ({"non_bursty": "common_uniform"}, False),
        ({"non_bursty": "common_uniform", "p_bursty": 1.0}, True),
        ({"p_bursty_zipfian": 0.5}, False),
        ({"p_bursty_zipfian": 0.5, "p_bursty": 0.0}, True),
        ({"type": "mixed", "seq_len": 7}, False),
        ({"type": "no_support_zipfian"}, True),
        ({"type": "no_support_zipfian", "zipf_exponent": 1.0}, False),
        ({"type": "no_support_common"}, False),
        ({"type": "fewshot_zipfian", "seq_len": 7}, True),
        ({"type": "flip", "seq_len": 7}, True),
        ({"type": "flip", "seq_len": 7, "zipf_exponent": 1.0}, False),
    ],
)
def test_zipfs_law_is_followed_unless_options_change_frequencies(options, follows):
    config = tiny.get_config("symbols").unlock()
    config.data.sequences.update(options)
    assert make_task(config).training.follows_zipf is follows
