"""JAX settings do not change a run's numbers; those that make a run impossible are named."""

import contextlib
import logging

import jax
import launching
import numpy as np
import pytest
import sharing
import tiny

from emergent_icl.cli import console
from emergent_icl.config.configs import with_options
from emergent_icl.runs.check import check
from emergent_icl.runs.checkpoints import checksum
from emergent_icl.runs.open import load_run
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir
from emergent_icl.training import settings
from emergent_icl.training.build import build
from emergent_icl.training.cost import step_cost

CONFIG = with_options(
    tiny.get_config("symbols"),
    {
        "training.num_steps": 2, "training.log_every": 1, "checkpoints.every": 2,
        "evaluation.every": 2, "evaluation.num_sequences": 20, "model.dropout": 0.1,
    },
)  # fmt: skip
# What users set in their shells and notebooks.
OTHERS = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_enable_custom_prng": True,
    "jax_legacy_prng_key": "error",
    "jax_softmax_custom_jvp": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_default_matmul_precision": "highest",
    "jax_disable_jit": True,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
}


@contextlib.contextmanager
def set_to(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


def numbers(folder):
    """Everything that each entry point computes."""
    train(CONFIG, Workdir(folder))
    run = load_run(folder)
    shown = run.sequences("fewshot_holdout", 2)
    drawn = [shown.examples, run.predict(shown.examples, shown.labels)]
    return checksum((run.params, drawn)), run.evaluate(num_sequences=None)


@pytest.fixture(scope="module", autouse=True)
def programs():
    with pytest.MonkeyPatch.context() as patch:
        sharing.share(patch)
        yield


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return numbers(tmp_path_factory.mktemp("run"))


ALONE = [pytest.param([name], id=name, marks=pytest.mark.faults) for name in OTHERS]


@pytest.mark.parametrize("names", [pytest.param(list(OTHERS), id="all"), *ALONE])
def test_settings_do_not_change_numbers(names, expected, tmp_path, caplog):
    settings._report.cache_clear()
    with caplog.at_level(logging.WARNING), contextlib.ExitStack() as changed:
        for name in names:
            changed.enter_context(set_to(name, OTHERS[name]))
        assert numbers(tmp_path) == expected
        assert all(getattr(jax.config, name) == OTHERS[name] for name in names)
    for name in names:
        said = [record for record in caplog.records if f"{name}=" in record.getMessage()]
        assert len(said) == (name.removeprefix("jax_") in settings.PINNED)


def test_every_pinned_setting_is_tested():
    assert {f"jax_{name}" for name in settings.PINNED} <= set(OTHERS)
    for name, value in settings.PINNED.items():
        assert getattr(jax.config, f"jax_{name}") == value, "JAX has another default now"


def test_commands_compute_with_the_same_settings():
    with set_to("jax_enable_x64", True), console.command(["command"]):
        assert jax.numpy.zeros(1, float).dtype == np.float32


def test_a_seed_offset_is_refused(tmp_path):
    with set_to("jax_random_seed_offset", 5):
        for entry in (lambda: check(CONFIG), lambda: train(CONFIG, Workdir(tmp_path / "new"))):
            with pytest.raises(settings.SettingError, match="jax_random_seed_offset=5 would"):
                entry()
    assert not (tmp_path / "new").exists()


ENTRIES = {
    "train": lambda folder: train(CONFIG, Workdir(folder)),
    "build": lambda folder: build(CONFIG),
    "step_cost": lambda folder: step_cost(CONFIG, check(CONFIG)[0].task),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize 'cuda'")])
def test_a_platform_without_devices_is_named(entry, error, tmp_path, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(jax, "device_count", fail)
    with set_to("jax_platforms", "cuda"), pytest.raises(settings.SettingError) as raised:
        ENTRIES[entry](tmp_path / "new")
    assert str(raised.value).startswith("JAX_PLATFORMS=cuda names no usable device (")
    assert not (tmp_path / "new").exists()


@pytest.mark.faults
@pytest.mark.parametrize(
    "words",
    [
        ("train", *launching.train_flags("new")),
        ("evaluate", "--workdir=run"),
        ("inspect_run", "--workdir=run"),
        ("inspect_data", *launching.train_flags("new")),
        ("describe", *launching.train_flags(), "--nomeasure"),
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_every_command_names_a_platform_that_is_not_available(words, platform, tmp_path):
    numbers(tmp_path / "run")
    words = [word.replace("workdir=", f"workdir={tmp_path}/") for word in words]
    done = launching.launch(*words, env={"JAX_PLATFORMS": platform})
    assert done.returncode == 1
    message = launching.only_message(done.stderr)
    assert message.startswith(f"error: JAX_PLATFORMS={platform} names no usable device")
    assert not (tmp_path / "new").exists()
