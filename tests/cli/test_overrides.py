"""Every problem of a command line at once."""

import pytest
from launching import launch, train_flags

from emergent_icl.cli.flags import find_problems

# ml_collections loads config files in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module.. method:DeprecationWarning")


def problems(*overrides, config="tests/tiny.py:symbols"):
    return find_problems(["prog", f"--config={config}", *overrides])


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
}


@pytest.mark.parametrize("path", UNKNOWN)
def test_a_misspelled_option_names_the_nearest_one_first(path):
    (problem,) = problems(f"--config.{path}=1")
    assert problem.startswith(f"{path} is not an option; did you mean {UNKNOWN[path]}")


def test_nothing_is_suggested_where_nothing_is_near():
    assert problems("--config.zzzzzz=1") == ["zzzzzz is not an option"]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.num_steps=abc", "training.num_steps = 'abc' must be an integer >= 1"),
        ("training.batch_size=3.5", "training.batch_size = '3.5' must be an integer >= 1"),
        ("data.augment=maybe", "data.augment = 'maybe' must be True or False"),
        ("data.noise_scale=x", "data.noise_scale = 'x' must be a number >= 0 and <= 100"),
        ("model.num_labels=many", "model.num_labels = 'many' must be an integer >= 1, or unset"),
    ],
)
def test_a_wrong_type_names_field_value_and_what_is_allowed(override, problem):
    assert problems(f"--config.{override}") == [problem]


def test_an_override_needs_a_config():
    (problem,) = find_problems(["prog", "--config.training.num_steps=3"])
    assert problem == "training.num_steps is given, but no --config=FILE whose option it is"


def test_sections_and_the_options_of_optimizers_are_explained():
    (problem,) = problems("--config.checkpoints=3")
    assert problem == (
        "checkpoints is not an option but a section; its options are "
        "checkpoints.every, checkpoints.keep"
    )
    (problem,) = problems("--config.training.optimizer.options.b1=0.8")
    assert "can be set in a config file only" in problem


def test_everything_that_is_wrong_comes_at_once(tmp_path):
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
