import pytest

from emergent_icl.config.registry import EVALUATION_MODES
from emergent_icl.data.sources.source import source_shape
from emergent_icl.data.task import class_space, evaluation_type, training_type
from emergent_icl.plots.captions import describe_data, describe_sequences


def described(config, name, is_training=False, **changes):
    config.update_from_flattened_dict(changes)
    space = class_space(config.data, source_shape(config.data))
    if is_training:
        config.data.sequences.type = name
        kind = training_type(config, space)
    else:
        kind = evaluation_type(config, space, name)
    return describe_sequences(config, kind, is_training)


def test_the_caption_of_the_papers_sequences(config):
    assert described(config, "bursty", True) == (
        "seq_len=9, p_bursty=0.9, shots=3, ways=2, zipf_exponent=0, labeling=ordered"
    )


@pytest.mark.parametrize(
    ("changes", "expected", "absent"),
    [
        ({"data.sequences.p_bursty": 0.0}, "p_bursty=0,", "shots"),
        ({"data.sequences.p_bursty": 0.5, "data.sequences.non_bursty": "common_uniform"},
         "non_bursty=common_uniform", "grouped"),
        ({"data.sequences.p_bursty": 1.0, "data.sequences.non_bursty": "common_uniform"},
         "p_bursty=1,", "non_bursty"),
        ({"data.sequences.grouped": True}, "grouped", "multiplicity"),
        ({"data.sequences.p_bursty_zipfian": 0.25}, "p_bursty_zipfian=0.25", "shared"),
        ({"data.sequences.label_multiplicity": 5}, "label_multiplicity=5", "p_bursty_zipfian"),
        ({"data.sequences.labeling": "shared"}, "labeling=shared, num_shared_labels=32", "multi"),
        ({"data.sequences.zipf_exponent": 1.5}, "zipf_exponent=1.5", "within"),
    ],
)  # fmt: skip
def test_options_are_listed_only_if_they_matter(config, changes, expected, absent):
    text = described(config, "bursty", True, **changes)
    assert expected in text
    assert absent not in text


def test_few_shot_options_differ_between_evaluation_and_training(config):
    changes = {"evaluation.shots": 5, "evaluation.distinct_ways": False}
    changes |= {"data.sequences.shots": 2, "data.sequences.seq_len": 5}
    changes["data.sequences.labeling"] = "original"
    evaluated = described(config, "fewshot_rare", False, **changes)
    assert evaluated == "shots=5, ways=2, distinct_ways=False, labeling=unfixed"
    trained = described(config, "fewshot_rare", True)
    assert trained == "shots=2, ways=2, labeling=original"
    assert described(config, "mixed").startswith("p_fewshot=0.1, shots=5")
    # Flipped classes are always distinct and have training labels.
    assert described(config, "flip") == "shots=5, ways=2, zipf_exponent=0, labeling=original"


def test_the_exponent_is_listed_only_if_it_has_an_effect(config):
    config.data.sequences.zipf_exponent = 2.0
    assert "zipf" not in described(config, "fewshot_holdout")
    assert "zipf" not in described(config, "no_support_rare")
    assert "zipf_exponent=2," in described(config, "no_support_zipfian")
    config.data.sequences.zipf_within_roles = True
    assert "zipf_exponent=2, zipf_within_roles" in described(config, "no_support_rare")


@pytest.mark.parametrize("name", EVALUATION_MODES)
def test_each_mode_has_a_caption(config, name):
    assert "labeling=" in described(config, name)


def test_the_caption_of_data_lists_source_and_split(config, image_config):
    assert describe_data(config) == "symbolic, 28 rare, 4 common, 8 held-out classes"
    image_config.data.drawings = "single"
    image_config.data.augment = True
    assert describe_data(image_config) == (
        "glyphs, 12 x 12 pixels, drawings=single, noise_scale=0.1, augment, "
        "28 rare, 4 common, 8 held-out classes"
    )
    config.data.split.update(groups="4", holdout=("group 0", 4))
    expected = "symbolic, 28 rare, 4 common, 8 held-out classes, groups=4, named holdout classes"
    assert describe_data(config) == expected
