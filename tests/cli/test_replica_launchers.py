"""Replicas and process-wide settings, from the command line."""

import json
import os
from pathlib import Path

import pytest
from launching import launch, records, train_flags

from emergent_icl.cli import start

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
def test_replicas_spread_over_devices_are_the_same_runs(tmp_path):
    options = {"training.replicas": 2, "training.optimizer.name": "sgd"}
    for folder, devices, more in (
        ("together", 1, {}),
        ("spread", 2, {"training.spread_replicas": True}),
    ):
        flags = train_flags(tmp_path / folder, **options, **more)
        done = launch("train", *flags, devices=devices)
        assert done.returncode == 0, done.stderr
    pairs = zip(records(tmp_path / "together"), records(tmp_path / "spread"), strict=True)
    for one, other in pairs:
        assert (one["step"], one["replica"]) == (other["step"], other["replica"])
        assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)


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
    ],
)
def test_deterministic_operations_are_requested(config, monkeypatch, wanted, before, after):
    monkeypatch.setenv("XLA_FLAGS", before)
    config.training.deterministic = wanted
    start.make_deterministic(config)
    assert os.environ["XLA_FLAGS"] == after


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
