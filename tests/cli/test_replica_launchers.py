"""Replicas and process-wide settings, from the command line."""

import json
import os
import warnings
from pathlib import Path

import jax
import pytest
import tiny
from launching import launch, records, train_flags

from emergent_icl.cli import start
from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import with_options
from emergent_icl.runs.session import train

OVERRIDES = (
    "({'name': 'iid', 'data.sequences.p_bursty': 0.0}, {'name': 'other', 'training.seed': 3})"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replicas")
    flags = train_flags(folder, **{"training.replica_overrides": OVERRIDES})
    done = launch("train", *flags)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_train_shows_every_replica(trained):
    folder, done = trained
    assert "replicas  iid, other" in done.stdout
    assert "ICL" in done.stdout
    assert set(json.loads((folder / "summary.json").read_text())["replicas"]) == {"iid", "other"}


def test_evaluate_writes_a_file_per_replica(trained):
    folder, _ = trained
    name = "step_40_num_sequences=60.json"
    one = folder / "evaluations" / "other" / name
    assert launch("evaluate", f"--workdir={folder}", "--num_sequences=60").returncode == 0
    for replica in ("iid", "other"):
        written = json.loads((folder / "evaluations" / replica / name).read_text())
        assert written["replica"] == replica
    one.unlink()
    flags = (f"--workdir={folder}", "--num_sequences=60")
    assert launch("evaluate", *flags, "--replica=other").returncode == 0
    assert one.exists()
    done = launch("evaluate", *flags, "--replica=othr")
    assert done.returncode == 1
    assert "has no replica 'othr' (available: iid, other)" in done.stderr


def test_inspect_run_names_its_figures_after_the_replica(trained):
    folder, _ = trained
    done = launch("inspect_run", f"--workdir={folder}", "--sequences=0", "--replica=iid")
    assert done.returncode == 0, done.stderr
    assert (folder / "figures" / "predictions_fewshot_holdout_step_40_iid.png").exists()


@pytest.mark.faults
def test_inspect_data_shows_the_requested_replica(trained, tmp_path):
    """With its own sequences and config; by default, the first replica."""
    folder, _ = trained
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    for flags, name, p_bursty in (((), "iid", 0.0), (("--replica=other",), "other", 0.9)):
        done = launch("inspect_data", f"--workdir={tmp_path}", "--sample=200", *flags)
        assert done.returncode == 0, done.stderr
        assert f"tiny symbols, {name}" in done.stdout
        assert "Note:" not in done.stdout
        inspected = json.loads((tmp_path / "inspection.json").read_text())
        assert inspected["config"]["data"]["sequences"]["p_bursty"] == p_bursty
    done = launch("inspect_data", f"--workdir={tmp_path}", "--replica=nobody")
    assert done.returncode == 1
    assert "has no replica 'nobody' (available: iid, other)" in done.stderr


def test_describe_warns_about_each_replica(tmp_path):
    overrides = "({'name': 'late', 'training.optimizer.warmup_steps': 5000}, {'name': 'b'})"
    done = launch(
        "describe", "--config=tests/tiny.py:images", "--nomeasure",
        f"--config.training.replica_overrides={overrides}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "late, b" in done.stdout
    assert "warning: late: training.optimizer.warmup_steps = 5000" in done.stdout
    assert "warning: b: training.optimizer.warmup_steps" not in done.stdout


@pytest.mark.faults
def test_replicas_on_cpu_are_spread_over_cores_and_resume_on_another_number(tmp_path):
    """The third run moves from two devices to one."""
    options = {"training.replicas": 4, "training.optimizer.name": "sgd"}
    shares = max(count for count in (1, 2, 4) if count <= start.available_cores())
    for folder, devices, shown in (("one", 1, 1), ("cores", None, shares), ("moved", 2, 2)):
        flags = train_flags(tmp_path / folder, **options)
        env = {} if devices is None else {"JAX_NUM_CPU_DEVICES": str(devices)}
        if folder == "moved":
            assert launch("train", *flags, "--stop_after=13", env=env).returncode == 143
            env = {"JAX_NUM_CPU_DEVICES": "1"}
        done = launch("train", *flags, env=env)
        assert done.returncode == 0, done.stderr
        if folder != "moved":
            assert f"devices  {shown} x cpu" in done.stdout
    one = records(tmp_path / "one")
    for folder in ("cores", "moved"):
        for expected, line in zip(one, records(tmp_path / folder), strict=True):
            assert (line["step"], line["replica"]) == (expected["step"], expected["replica"])
            assert line["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-4)
            assert line["train/grad_norm"] == pytest.approx(expected["train/grad_norm"], rel=1e-3)


def test_a_stored_run_resumes_on_the_devices_of_its_own_arithmetic(tmp_path):
    """Runs of version 0.1.0 did not spread replicas; the option did not exist."""
    flags = train_flags(tmp_path, **{"training.replicas": 2})
    done = launch("train", *flags, "--config.training.arithmetic=1", "--stop_after=10")
    assert done.returncode == 143, done.stderr
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text())
    assert tree["training"].pop("arithmetic") == 1
    path.write_text(json.dumps(tree))
    done = launch("train", *flags, "--stop_after=20")
    assert "training.arithmetic = 1, as stored" in done.stdout, done.stderr
    assert "devices  1 x cpu" in done.stdout


def test_spread_replicas_need_no_batch_that_devices_divide(tmp_path):
    """Three replicas on three devices, with batches of 8 sequences."""
    flags = train_flags(tmp_path, **{"training.replicas": 3})
    done = launch("train", *flags, env={"JAX_NUM_CPU_DEVICES": "3"})
    assert done.returncode == 0, done.stderr
    assert "devices  3 x cpu" in done.stdout


@pytest.mark.parametrize(
    ("cores", "options", "flags", "devices"),
    [
        (4, {"training.replicas": 6}, "", 3),
        (2, {"training.replica_overrides": ({"training.seed": 1}, {"training.seed": 2})}, "", 2),
        (2, {"training.replicas": 3}, "", 1),
        (2, {}, "", -1),
        (2, {"training.replicas": 2, "training.arithmetic": 1}, "", -1),
        (2, {"training.replicas": 2}, "--xla_force_host_platform_device_count=4", -1),
        (2, {"training.replicas": "two"}, "", -1),
    ],
)
def test_cpu_devices_divide_the_replicas(monkeypatch, cores, options, flags, devices):
    chosen = {"jax_num_cpu_devices": -1}
    monkeypatch.setattr(start, "available_cores", lambda: cores)
    monkeypatch.setattr(jax.config, "update", chosen.__setitem__)
    monkeypatch.setenv("XLA_FLAGS", flags)
    start.use_cores(with_options(tiny.get_config(), options))
    assert chosen == {"jax_num_cpu_devices": devices}


@pytest.mark.faults
def test_compiled_programs_are_cached(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert launch("train", *train_flags(tmp_path / "run")).returncode == 0
    assert start.compilation_cache().is_relative_to(tmp_path / "cache")
    assert list(start.compilation_cache().glob("*"))


def test_an_unwritable_cache_is_ignored(trained, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    blocked = tmp_path / "cache"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    flags = (f"--workdir={trained[0]}", "--num_sequences=50", "--replica=iid")
    done = launch("evaluate", *flags)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("wanted", "before", "after"),
    [
        (True, "", "--xla_gpu_deterministic_ops=true"),
        (True, "--a=b", "--a=b --xla_gpu_deterministic_ops=true"),
        (True, "--xla_gpu_deterministic_ops=false", "--xla_gpu_deterministic_ops=false"),
        (False, "--a=b", "--a=b"),
        (True, "--xla_gpu_deterministic_ops=true", "--xla_gpu_deterministic_ops=true"),
    ],
)
def test_deterministic_operations_are_requested(config, monkeypatch, caplog, wanted, before, after):
    monkeypatch.setenv("XLA_FLAGS", before)
    config.training.deterministic = wanted
    start.make_deterministic(config)
    assert os.environ["XLA_FLAGS"] == after
    said = f"XLA_FLAGS has {before}, which defeats training.deterministic = True on GPUs"
    assert [text.split(":")[0] for text in caplog.messages] == [said] * ("=false" in before)


def test_an_explicit_flag_against_determinism_causes_a_warning_from_python(
    config, monkeypatch, tmp_path
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    config.training.num_steps = 0
    for value, count in (("true", 0), ("false", 1)):
        monkeypatch.setenv("XLA_FLAGS", f"--xla_gpu_deterministic_ops={value}")
        with (
            pytest.raises(ConfigError),
            warnings.catch_warnings(record=True, action="always") as caught,
        ):
            train(config, tmp_path)
        said = "training.deterministic needs XLA_FLAGS=--xla_gpu_deterministic_ops=true"
        assert [str(one.message).startswith(said) for one in caught] == [True] * count


def test_a_malformed_config_is_left_to_validation(config, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    del config.training
    start.make_deterministic(config)
    assert os.environ["XLA_FLAGS"] == ""


def test_each_kind_of_processor_has_its_own_cache(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(start, "_CPU_INFO", info)
    folders = set()
    for flags in ("flags : sse avx512f", "flags : sse", "Features : neon"):
        info.write_text(f"processor : 0\n{flags}\n")
        folders.add(start.compilation_cache())
    monkeypatch.setattr(start, "_CPU_INFO", Path("/nonexistent"))
    folders.add(start.compilation_cache())
    assert len(folders) == 4
