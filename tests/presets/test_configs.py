"""Every preset is valid, every option is checked and read, and invalid configs are rejected."""

import contextlib
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from emergent_icl.cli import start
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import flatten
from emergent_icl.config.options import OPTIONS
from emergent_icl.data.sources import omniglot as omniglot_source
from emergent_icl.data.sources.omniglot import DataUnavailableError
from emergent_icl.data.sources.source import load_bank
from emergent_icl.data.task import make_task
from emergent_icl.models.network import make_network
from emergent_icl.presets import (
    base,
    gaussian,
    glyphs,
    omniglot,
    omniglot_augmented,
    omniglot_identical,
    stored,
    symbolic,
)
from emergent_icl.runs import initial
from emergent_icl.runs import train as loop
from emergent_icl.runs.check import check
from emergent_icl.runs.loggers import Opening, WeightsAndBiases
from emergent_icl.runs.records import Display
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training.replicas import make_replicas

CONFIGS = {
    "base.py": base.get_config,
    "omniglot.py:paper": lambda: omniglot.get_config("paper"),
    "omniglot.py:small": lambda: omniglot.get_config("small"),
    "omniglot.py:paper28": lambda: omniglot.get_config("paper28"),
    "omniglot_augmented.py:paper": lambda: omniglot_augmented.get_config("paper"),
    "omniglot_augmented.py:small": lambda: omniglot_augmented.get_config("small"),
    "omniglot_identical.py:paper": lambda: omniglot_identical.get_config("paper"),
    "omniglot_identical.py:small": lambda: omniglot_identical.get_config("small"),
    "glyphs.py:demo": lambda: glyphs.get_config("demo"),
    "gaussian.py:reddy": lambda: gaussian.get_config("reddy"),
    "gaussian.py:tiny": lambda: gaussian.get_config("tiny"),
    "symbolic.py:small": lambda: symbolic.get_config("small"),
}


def test_every_preset_is_listed():
    files = {path.name for path in Path(base.__file__).parent.glob("*.py")}
    files -= {"__init__.py", "stored.py"}  # The latter returns a run's config.
    assert files == {name.split(":")[0] for name in CONFIGS}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_are_locked_and_valid_and_survive_json(name, tmp_path):
    config = CONFIGS[name]()
    assert config.is_locked
    check(config)
    Workdir(tmp_path).claim(config)
    stored = Workdir(tmp_path).read_config()
    assert stored.to_dict() == config.to_dict()
    check(stored)
    assert {"fewshot_holdout", "no_support_zipfian"} <= set(config.evaluation.modes)


def test_a_stored_config_has_the_runs_values_and_the_base_types(tmp_path):
    config = CONFIGS["omniglot_augmented.py:small"]().unlock()
    config.training.replica_overrides = ({"name": "a", "training.seed": 3},)
    config.training.optimizer.options = {"b1": 0.8}
    Workdir(tmp_path).claim(config.lock())
    read = stored.get_config(str(tmp_path))
    assert read.is_locked
    assert read.to_dict() == config.to_dict()
    with read.unlocked(), pytest.raises(TypeError):
        read.training.num_steps = "many"
    check(read)


def test_a_stored_config_of_an_older_version_is_completed(tmp_path):
    config = CONFIGS["glyphs.py:demo"]()
    old = config.to_dict()
    del old["data"]["noise_scale"]
    workdir = Workdir(tmp_path)
    workdir.write_json(workdir.config, old)
    assert stored.get_config(str(tmp_path)).to_dict() == config.to_dict()


def test_a_folder_without_a_run_has_no_stored_config(tmp_path):
    with pytest.raises(WorkdirError, match="is not the work directory of a run"):
        stored.get_config(str(tmp_path))


def test_the_paper_preset_is_the_papers_setting():
    config = omniglot.get_config("paper")
    task = make_task(config)
    assert task.num_labels == 1623
    assert (task.shape.example_shape, task.training.seq_len) == ((105, 105), 9)
    settings = config.training.optimizer
    assert (settings.name, settings.learning_rate, settings.warmup_steps) == ("adam", 3e-4, 4000)
    assert (config.training.num_steps, config.training.batch_size) == (500_000, 32)


def test_every_declared_option_is_in_the_base_config():
    options = base.get_config().to_dict()
    assert options["training"]["optimizer"].pop("options") == {}
    declared = set(flatten(options)) | {"training.optimizer.options"}
    assert declared == set(OPTIONS)


class Spy:
    """A config that records the full path of every option read from it."""

    def __init__(self, node, seen, prefix=""):
        self._node, self._seen, self._prefix = node, seen, prefix

    def __getattr__(self, name):
        value = getattr(self._node, name)
        if name not in self._node:
            return value  # A method.
        path = self._prefix + name
        self._seen.add(path)
        return Spy(value, self._seen, path + ".") if isinstance(value, ConfigDict) else value

    def __iter__(self):
        return iter(self._node)

    def keys(self):
        return self._node.keys()

    def __getitem__(self, name):
        return getattr(self, name)


def read_initial_weights_and_logger(workdir, seen, monkeypatch):
    """Reads the options of initial weights, and of a logger with an optional package."""
    config = tiny.get_config("vectors").unlock()
    config.model.sequence_model = "rnn"
    workdir.write_json(workdir.config, config.to_dict())
    config.training.initial.run = str(workdir.path)
    (replica,) = make_replicas(config.lock())
    assert initial.read([replica._replace(config=Spy(config, seen))])[1] == []
    service = types.SimpleNamespace(init=lambda **_: None, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", service)
    WeightsAndBiases(Opening(workdir, Spy(config, seen), (replica,), 0, "now"))


def test_every_option_is_read(tmp_path, monkeypatch):
    """Each is read, under its full path, by a run to which it applies."""
    # These read every option, even without effect.
    monkeypatch.setattr(loop, "check", lambda config, num_devices: make_replicas(config))
    monkeypatch.setattr(Workdir, "check", lambda workdir, config: None)
    monkeypatch.setattr(Workdir, "claim", lambda workdir, config: None)
    seen = set()
    np.save(tmp_path / "vectors.npy", np.zeros((40, 5, 16)))
    for folder in ("symbols", "images", "vectors"):
        config = tiny.get_config(folder).unlock()
        config.training.num_steps = 10
        # The fastest to compile; a transformer's options are read below.
        config.model.sequence_model = "rnn"
        # With an empty cache, so that options of drawing are read.
        config.data.cache_dir = str(tmp_path / "cache")
        loop.train(Spy(config.lock(), seen), Workdir(tmp_path / folder), Display())
        monkeypatch.setenv("XLA_FLAGS", "")
        start.make_deterministic(Spy(config, seen))
    read_initial_weights_and_logger(Workdir(tmp_path / folder), seen, monkeypatch)

    config.data.source = "features"
    config.data.features.path = str(tmp_path / "vectors.npy")
    load_bank(Spy(config.data, seen, "data."))
    np.save(tmp_path / "images.npy", np.zeros((40, 5, 8, 8)))
    config.data.source, config.data.images.path = "images", str(tmp_path / "images.npy")
    load_bank(Spy(config.data, seen, "data."))

    paper = omniglot.get_config("paper").unlock()
    for sequence_model in ("transformer", "lstm"):
        paper.model.sequence_model = sequence_model
        network = make_network(Spy(paper.model, seen, "model."), 11)
        images, labels = np.zeros((1, 9, 28, 28, 1), np.float32), np.zeros((1, 9), np.int32)
        jax.eval_shape(network.init, jax.random.PRNGKey(0), images, labels)

    def build_and_forget(path, content, build):
        with contextlib.suppress(DataUnavailableError):
            build()
        return {
            "packed": np.zeros((2, 1, 1379), np.uint8),
            "images": np.zeros((2, 1, 8, 8), np.uint8),
            "names": np.array(["a", "b"]),
        }

    def unavailable(data_dir):
        raise DataUnavailableError

    monkeypatch.setattr(omniglot_source.cache, "load_or_build", build_and_forget)
    monkeypatch.setattr(omniglot_source, "_decode", unavailable)
    small = omniglot.get_config("small")
    omniglot_source.load_omniglot(Spy(small.data, seen, "data."))
    assert set(OPTIONS) - seen == set()


def test_the_users_config_is_not_changed():
    config = omniglot.get_config("small")
    before = config.to_json()
    check(config)
    make_task(config)
    assert config.to_json() == before
    assert config.model.num_labels is None


PROBLEMS = {
    "data.split.num_rare": (2000, "= 2100, but the data has 1623 classes"),
    "data.sequences.seq_len": (6, "seq_len = 6 is too short"),
    "data.sequences.ways": (4, "seq_len = 9 is too short"),
    "data.sequences.labeling": ("unfixed", "labeling 'unfixed' needs"),
    "data.sequences.p_bursty_common": (0.5, "must be at most 1"),
    "data.sequences.type": ("fewshot_rare", "seq_len = 9 must be 7"),
    "data.sequences.non_bursty": ("common_uniform", "data.split.num_common is 0"),
    "data.image_size": (4, "must be an integer from 8 to 105"),
    "data.noise_scale": (float("nan"), "must be a number"),
    "data.glyphs.min_strokes": (5, "must be at most max_strokes = 4"),
    "data.glyphs.max_pen_width": (0.01, "must be at most max_pen_width"),
    "model.num_heads": (7, "must divide the token width 64"),
    "model.num_labels": (100, "must be at least 1623"),
    "model.encoder": ("embedding", "needs integers"),
    "training.log_every": (0, "must be an integer >= 1"),
    "training.steps_per_call": (3, "training.num_steps = 10000 must be a multiple"),
    "training.optimizer.name": ("adamm", "optax has no optimizer 'adamm'"),
    "training.optimizer.schedule": ("cosin", "did you mean 'cosine'?"),
    "evaluation.shots": (20, "needs 21 exemplars"),
    "evaluation.ways": (101, "at least ways = 101 holdout classes"),
    "evaluation.modes": (("fewshot_common",), "data.split.num_common is 0"),
}


@pytest.mark.parametrize("path", PROBLEMS)
def test_problems_name_the_option_value_and_rule(path):
    value, message = PROBLEMS[path]
    config = omniglot.get_config("small").unlock()
    config.update_from_flattened_dict({path: value})
    with pytest.raises(ConfigError) as raised:
        check(config)
    assert message in str(raised.value)
    assert path.rsplit(".", 1)[0].split(".")[0] in str(raised.value)


CONTRADICTIONS = [
    ({"data.source": "gaussian", "data.augment": True}, "data.augment needs images"),
    (
        {"data.source": "symbolic", "data.random_rare_images": True},
        "data.random_rare_images needs images",
    ),
    ({"data.source": "gaussian"}, "data.inverted needs images"),
    (
        {"data.source": "symbolic", "data.inverted": False, "data.noise_scale": 0.1},
        "needs images or vectors",
    ),
    ({"data.omniglot.split": "test"}, "but the data has 659 classes"),
    (
        {"data.augment": True, "data.split.num_rare": 12_905, "data.split.num_holdout": 79},
        "need 1624 groups of 8 variants",
    ),
    (
        {"data.sequences.labeling": "shared", "data.sequences.label_multiplicity": 2},
        "needs data.sequences.labeling = 'ordered', not 'shared'",
    ),
    (
        {
            "data.sequences.type": "relabelled",
            "data.sequences.labeling": "shared",
            "data.sequences.num_shared_labels": 3,
        },
        "show up to 4 classes, but there are 3 labels",
    ),
    ({"data.sequences.type": "mixed"}, "data.split.num_common is 0"),
    ({"model.positions": "learned", "model.num_positions": 16}, "must be at least 17"),
    (
        {"model.positions": "learned", "model.num_positions": 17, "evaluation.shots": 8},
        "must be at least 33",
    ),
    ({"model.positions": "rotary", "model.sequence_model": "gru"}, "needs attention"),
    ({"model.positions": "rotary", "model.num_heads": 64}, "needs heads of even size"),
    ({"model.positions": "none", "model.positional_dropout": 0.1}, "needs positions"),
    ({"model.tokens": "concatenated", "training.interim_weight": 0.5}, "'interleaved'"),
    ({"model.encoder": "resnet", "model.resnet.channels": (8, 8, 64)}, "as many groups as"),
    (
        {
            "model.encoder": "resnet",
            "model.resnet.flatten_superpixels": True,
            "model.resnet.channels": (8, 8, 8, 36),
            "model.embedding_size": 36,
            "model.num_heads": 4,
            "data.image_size": 33,
        },
        "to be a multiple of 4 x 4 superpixels",
    ),
    ({"model.dropout": 1.0}, "must be a number >= 0 and <= 0.99"),
]


@pytest.mark.parametrize(("overrides", "message"), CONTRADICTIONS)
def test_contradictory_options_are_rejected(overrides, message):
    config = omniglot.get_config("small").unlock()
    config.update_from_flattened_dict(overrides)
    with pytest.raises(ConfigError) as raised:
        check(config)
    assert message in str(raised.value)


def test_all_problems_are_raised_at_once():
    config = omniglot.get_config("small").unlock()
    config.model.num_heads = 7
    config.data.sequences.seq_len = 6
    config.training.steps_per_call = 3
    with pytest.raises(ConfigError) as raised:
        check(config)
    assert len(raised.value.problems) >= 3


def test_an_invalid_value_does_not_hide_contradictions():
    config = omniglot.get_config("small").unlock()
    config.training.batch_size = 0
    config.data.split.num_rare = 5000
    config.model.num_heads = 7
    with pytest.raises(ConfigError) as raised:
        check(config)
    text = str(raised.value)
    assert len(raised.value.problems) == 3
    assert "training.batch_size = 0" in text
    assert "but the data has 1623 classes" in text
    assert "model.num_heads = 7 must divide" in text


@pytest.mark.parametrize(
    ("path", "value", "hint"),
    [
        ("evaluation.modes", ("fewshot_holdot", "flip"), "'fewshot_holdout'"),
        ("training.optimizer.name", "rmspropp", "'rmsprop'"),
        ("data.sequences.type", "burtsy", "'bursty'"),
    ],
)
def test_misspelled_values_suggest_the_nearest_name(path, value, hint):
    config = omniglot.get_config("small").unlock()
    config.update_from_flattened_dict({path: value})
    with pytest.raises(ConfigError, match=f"did you mean {hint}"):
        check(config)


@pytest.mark.parametrize(
    ("path", "value"),
    [("data", 3), ("data.sequences", "none"), ("model.resnet", None)],
)
def test_a_value_in_place_of_a_section_is_an_error(path, value):
    config = omniglot.get_config("small").unlock()
    with config.ignore_type():
        config.update_from_flattened_dict({path: value})
    with pytest.raises(ConfigError, match=f"{path}\\.[a-z_.]+ is missing"):
        check(config)


def test_too_many_labels_are_rejected():
    config = omniglot_augmented.get_config("small").unlock()
    config.data.sequences.label_multiplicity = 10_000
    with pytest.raises(ConfigError, match="there must be at most 16,777,216"):
        check(config)


def test_exemplars_are_required_only_where_they_are_used():
    config = gaussian.get_config().unlock()
    config.data.source = "glyphs"
    config.data.glyphs.num_exemplars = 4
    config.data.sequences.shots, config.data.sequences.ways = 3, 2
    with pytest.raises(ConfigError, match=r"evaluation\.shots = 4 needs 5 exemplars"):
        check(config)
    config.evaluation.modes = ("no_support_zipfian", "bursty")
    check(config)


def test_a_missing_option_is_named():
    config = omniglot.get_config("small").unlock()
    del config.data.sequences.shots
    with pytest.raises(ConfigError, match=r"data\.sequences\.shots is missing"):
        check(config)


def test_the_batch_must_be_a_multiple_of_the_devices():
    with pytest.raises(ConfigError, match="batch_size = 32 must be a multiple of the 5 devices"):
        check(omniglot.get_config("small"), num_devices=5)


def test_unknown_options_are_named():
    config = omniglot.get_config("small").unlock()
    config.training.num_step = 5
    with pytest.raises(
        ConfigError,
        match=r"training\.num_step is not an option; did you mean 'training\.num_steps'",
    ):
        check(config)


def test_an_optimizer_that_needs_more_than_gradients_is_rejected():
    config = omniglot.get_config("small").unlock()
    config.training.optimizer.name = "lbfgs"
    with pytest.raises(ConfigError, match=r"optax\.lbfgs cannot be used here"):
        check(config)


def test_holdout_classes_are_not_trained_on():
    config = omniglot.get_config("small").unlock()
    config.data.sequences.type = "fewshot_holdout"
    with pytest.raises(ConfigError, match=r"data\.sequences\.type = 'fewshot_holdout' must be"):
        check(config)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {
            "data.split.num_rare": st.integers(0, 40),
            "data.split.num_common": st.integers(0, 6),
            "data.sequences.seq_len": st.integers(2, 20),
            "data.sequences.shots": st.integers(1, 4),
            "data.sequences.ways": st.integers(1, 4),
            "data.sequences.p_bursty": st.floats(0, 1),
            "data.sequences.zipf_exponent": st.floats(0, 4),
            "data.sequences.label_multiplicity": st.integers(1, 3),
            "data.sequences.labeling": st.sampled_from(["ordered", "original", "unfixed"]),
            "evaluation.ways": st.integers(2, 9),
        }
    )
)
def test_valid_configs_sample_and_invalid_ones_are_rejected(overrides):
    config = tiny.get_config("symbols").unlock()
    config.update_from_flattened_dict(overrides)
    try:
        check(config)
    except ConfigError:
        return
    task = make_task(config)
    for kind in (task.training, *task.evaluation.values()):
        batch = kind.sample(np.random.default_rng(0), 4)
        assert batch.labels.max() < task.num_labels
