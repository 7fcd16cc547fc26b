"""Overrides on the command line: values, and all problems at once."""

import pytest
from absl import flags
from launching import launch, train_flags

from emergent_icl.cli.flags import config_of
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten
from emergent_icl.config.options import OPTIONS
from emergent_icl.runs.check import check


def find_problems(argv):
    try:
        if (config := config_of(argv)) is not None:
            check(config)
    except ConfigError as error:
        return error.problems
    return []


def problems(*overrides, config="tests/tiny.py:symbols"):
    return find_problems(["prog", f"--config={config}", *overrides])


def given(*overrides, config="tests/tiny.py:symbols"):
    return config_of(["prog", f"--config={config}", *overrides])


def test_good_overrides_have_no_problems():
    assert problems() == []
    assert problems("--config.training.num_steps=10", "--config.data.sequences.grouped") == []
    assert problems("--config.training.num_steps", "10", "--noconfig.data.augment") == []
    assert problems("--config.evaluation.modes=('flip', 'bursty')") == []
    assert problems("--config.model.num_labels=99", "--config.model.head_hidden_sizes=(8, 8)") == []
    assert find_problems(["prog", "--config", "tests/tiny.py", "--config.training.seed=3"]) == []
    assert find_problems(["prog"]) == []


UNKNOWN = {
    "data.sequnces.p_bursty": "'data.sequences.p_bursty'",
    "training.num_step": "'training.num_steps'",
    "p_bursty": "'data.sequences.p_bursty'",
    "model.zipf_exponent": "'data.sequences.zipf_exponent'",
    "data.glyphs.num_clases": "'data.glyphs.num_classes'",
    "evaluation.mode": "'evaluation.modes'",
    "trainig.seed": "'training.seed'",
}


@pytest.mark.parametrize("path", UNKNOWN)
def test_a_misspelled_option_suggests_the_nearest_first(path):
    (problem,) = problems(f"--config.{path}=1")
    assert problem.startswith(f"{path} is not an option; did you mean {UNKNOWN[path]}")


def test_labels_must_suffice_even_if_training_uses_only_those_of_few_shot_sequences():
    fewshot = ("type=fewshot_rare", "labeling=unfixed", "shots=4")
    options = [f"--config.data.sequences.{one}" for one in fewshot]
    options.append("--config.evaluation.modes=('fewshot_holdout',)")
    assert problems(*options) == []
    (problem,) = problems(*options, "--config.model.num_labels=2")
    assert problem == "model.num_labels = 2 must be at least 40 for these data"


def test_nothing_is_suggested_if_nothing_is_similar():
    assert problems("--config.zzzzzz=1") == ["zzzzzz is not an option"]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.num_steps=abc", "training.num_steps = 'abc' must be an integer >= 1"),
        ("training.batch_size=3.5", "training.batch_size = 3.5 must be an integer >= 1"),
        ("data.augment=maybe", "data.augment = 'maybe' must be True or False"),
        ("data.noise_scale=x", "data.noise_scale = 'x' must be a number >= 0 and <= 100"),
        (
            "model.num_labels=many",
            "model.num_labels = 'many' must be an integer from 1 to 16777216, or none",
        ),
    ],
)
def test_a_type_error_names_the_option_value_and_rule(override, problem):
    assert problems(f"--config.{override}") == [problem]


def test_an_empty_value_is_an_empty_string():
    assert given("--config.data.data_dir=").data.data_dir == ""


UNSET = [path for path, option in OPTIONS.items() if option.default is None]


@pytest.mark.parametrize("path", UNSET)
@pytest.mark.parametrize("none", ["none", "None"])
def test_none_unsets_optional_options(path, none):
    words = [f"--config.{path}=7", f"--config.{path}={none}"]
    assert flatten(given(words[0]).to_dict())[path] == 7
    assert flatten(given(*words).to_dict())[path] is None
    (problem,) = problems(f"--config.{path}=no")
    assert problem.endswith(", or none")


def test_none_unsets_no_other_option():
    assert given("--config.model.positions=none").model.positions == "none"
    (problem,) = problems("--config.training.seed=none")
    assert problem == "training.seed = None must be an integer from 0 to 4294967295"


def test_values_are_parsed_by_the_types_of_options():
    config = given(
        "--config.data.noise_scale=1", "--config.data.augment=1", "--config.data.split.groups=4",
        "--config.evaluation.modes=flip", "--config.model.head_hidden_sizes=[8, 8]",
        "--config.training.num_steps=1_000",
    )  # fmt: skip
    values = [
        config.data.noise_scale, config.data.augment, config.data.split.groups,
        config.evaluation.modes, config.model.head_hidden_sizes, config.training.num_steps,
    ]  # fmt: skip
    assert list(map(repr, values)) == ["1.0", "True", "'4'", "('flip',)", "(8, 8)", "1000"]


@pytest.mark.parametrize("word", ["--config.training.num_steps", "--config.data.split.groups"])
def test_an_option_without_a_value_is_an_error(word):
    with pytest.raises(flags.Error, match=f"{word} needs a value"):
        given(word)


def test_optimizer_arguments_are_options():
    config = given("--config.training.optimizer.options.b1=0.8")
    assert config.training.optimizer.options.to_dict() == {"b1": 0.8}
    assert config.is_locked
    (problem,) = problems("--config.training.optimizer.options.nestrov=true")
    assert problem.endswith("does not take nestrov (allowed: b1, b2, eps, eps_root, mu_dtype, "
                            "nesterov); did you mean 'nesterov'?")  # fmt: skip
    (problem,) = problems("--config.training.optimizer.options.b1.x=1")
    assert problem.startswith("training.optimizer.options.b1.x is not an option")


def test_an_override_needs_a_config():
    (problem,) = find_problems(["prog", "--config.training.num_steps=3"])
    assert problem == "--config.training.num_steps needs a --config"


def test_a_section_is_explained():
    (problem,) = problems("--config.checkpoints=3")
    assert problem == (
        "checkpoints is not an option but a section; its options are "
        "checkpoints.at, checkpoints.every, checkpoints.keep"
    )


def test_all_problems_are_reported_at_once(tmp_path):
    wrong = {
        "data.sequnces.ways": 2,
        "training.num_steps": "many",
        "data.sequences.p_bursty": 1.5,
        "model.encoder": "embeding",
    }
    done = launch("train", *train_flags(tmp_path / "run", **wrong))
    assert done.returncode == 2
    assert "The config has 4 problems" in done.stderr
    for text in (
        "did you mean 'data.sequences.ways'",
        "training.num_steps = 'many'",
        "data.sequences.p_bursty = 1.5 must be a number >= 0 and <= 1",
        "did you mean 'embedding'",
    ):
        assert text in done.stderr
    assert not (tmp_path / "run").exists()
