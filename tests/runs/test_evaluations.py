"""A results file holds evaluations of one run, at one step, with the same options."""

import errno
import json
import math
import os
import threading
import time
from pathlib import Path

import jax
import pytest
import tiny

from emergent_icl.config.configs import with_options
from emergent_icl.evaluation.metrics import Interval
from emergent_icl.runs import evaluations
from emergent_icl.runs.open import Run
from emergent_icl.runs.workdir import Workdir, WorkdirError, check_nothing_foreign, write_whole
from emergent_icl.training.build import build

pytestmark = pytest.mark.usefixtures("quick_runs")


def results(**modes):
    return {mode: {"loss": Interval(mean, mean - 1, mean + 1)} for mode, mean in modes.items()}


@pytest.fixture(scope="module")
def run():
    config = tiny.get_config()
    experiment = build(config)
    state = experiment.init(0)
    return Run(experiment, 40, state.params, state.batch_stats, config)


def opened_with(run, **options):
    paths = {f"evaluation.{name}": value for name, value in options.items()}
    config = with_options(run.experiment.config, paths)
    return run._replace(experiment=run.experiment._replace(config=config))


def write(folder, run, found, replica=""):
    path = evaluations.path_of(Workdir(folder), run, replica)
    replaced = evaluations.write(path, run, found, replica)
    return path, replaced, json.loads(path.read_text())


def test_modes_of_one_run_share_a_file(run, tmp_path):
    path, replaced, _ = write(tmp_path, run, results(bursty=2.0, flip=1.0))
    again = write(tmp_path, opened_with(run, modes=("flip",)), results(flip=3.0))
    assert again[:2] == (path, replaced) == (tmp_path / "evaluations" / "step_40.json", "")
    means = {mode: one["loss"]["mean"] for mode, one in again[2]["evals"].items()}
    assert means == {"bursty": 2.0, "flip": 3.0}


def test_results_of_commands_at_the_same_time_are_all_kept(run, tmp_path, monkeypatch):
    def slowly(path, read=evaluations.read):
        found = read(path)
        time.sleep(0.2)
        return found

    monkeypatch.setattr(evaluations, "read", slowly)
    modes = ("bursty", "flip", "zipfian")
    threads = [
        threading.Thread(target=write, args=(tmp_path, run, results(**{mode: 1.0})))
        for mode in modes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    path = evaluations.path_of(Workdir(tmp_path), run)
    assert sorted(json.loads(path.read_text())["evals"]) == sorted(modes)


def test_a_command_that_keeps_others_waiting_is_reported(run, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluations, "_PATIENCE_SECONDS", 0.1)
    path = tmp_path / "results.json"
    evaluations.write(path, run, results(bursty=2.0))
    before = path.read_bytes()
    with (
        evaluations._locked(path),
        pytest.raises(WorkdirError, match=r"another command is writing .*results\.json"),
    ):
        evaluations.write(path, run, results(flip=3.0))
    assert path.read_bytes() == before


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path, monkeypatch):
    path, real = tmp_path / "file", os.fsync

    def write_another(descriptor):
        real(descriptor)
        monkeypatch.setattr(os, "fsync", real)
        write_whole(path, "second")
        assert path.read_text() == "second"

    monkeypatch.setattr(os, "fsync", write_another)
    write_whole(path, "first")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, "before")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for error in (full, KeyboardInterrupt()):

        def fail(descriptor, error=error):
            raise error

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(type(error)) as raised:
            write_whole(path, "after")
        assert getattr(raised.value, "filename", str(path)) == str(path)
        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writers_left_is_removed_later(tmp_path, monkeypatch):
    """A file that may still be written is not, and neither is anyone else's."""
    path = tmp_path / "[file]"

    def kill(descriptor):
        raise SystemExit

    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    monkeypatch.setattr(os, "fsync", kill)
    with pytest.raises(SystemExit):
        write_whole(path, "killed")
    monkeypatch.undo()
    (left,) = tmp_path.iterdir()
    check_nothing_foreign(tmp_path, ["*.tmp"])
    others = [tmp_path / name for name in ("[file].tmp", "[file].mine.tmp", "x.12345678.tmp")]
    for other in others:
        other.write_text("")
        os.utime(other, (0, 0))
    write_whole(path, "first")
    assert left.exists()
    os.utime(left, (left.stat().st_mtime - 7200,) * 2)
    write_whole(path, "second")
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_the_summary_of_a_run_is_not_replaced(run, tmp_path):
    path = tmp_path / "summary.json"
    Workdir.write_json(path, {"step": 40, "evals": {}, "wall_seconds": 1.0})
    with pytest.raises(WorkdirError, match="is not an evaluation, and would be overwritten"):
        evaluations.write(path, run, {})
    assert json.loads(path.read_text())["wall_seconds"] == 1.0


def test_results_that_are_not_finite_are_reported(run, tmp_path):
    found = {"bursty": {"loss": Interval(math.nan, math.nan, math.nan)}}
    with pytest.raises(WorkdirError, match=f"loss in bursty is nan at step {run.step}"):
        evaluations.write(tmp_path / "results.json", run, found)
    assert not (tmp_path / "results.json").exists()


def test_results_of_another_run_are_replaced(run, tmp_path):
    """Another run has other parameters, other examples, or another config."""
    changed = jax.tree.map(lambda leaf: leaf + 1, run.params)
    seed = with_options(run.trained, {"training.seed": 3})
    bank = run.experiment.bank._replace(checksum=1)
    others = (
        run._replace(params=changed),
        run._replace(experiment=run.experiment._replace(bank=bank)),
        run._replace(trained=seed, experiment=run.experiment._replace(config=seed)),
    )
    for index, other in enumerate(others):
        folder = tmp_path / str(index)
        write(folder, run, results(bursty=2.0))
        _, replaced, content = write(folder, other, results(flip=3.0))
        assert replaced == "of another run"
        assert set(content["evals"]) == {"flip"}


def test_results_with_other_options_are_replaced_in_a_given_file(run, tmp_path):
    path = tmp_path / "results.json"
    assert evaluations.write(path, run, results(bursty=2.0)) == ""
    other = opened_with(run, num_sequences=70)
    assert (
        evaluations.write(path, other, results(flip=3.0)) == "with another num_sequences, options"
    )


def test_the_file_name_lists_options_that_differ_from_training(run, tmp_path):
    other = opened_with(run, num_sequences=70, shots=2, seed=5)
    path, _, content = write(tmp_path, other, results(flip=3.0), "low")
    assert path.name == "step_40_num_sequences=70_seed=5_shots=2.json"
    assert path.parent == tmp_path / "evaluations" / "low"
    assert content["options"] == {
        "evaluation.num_sequences": 70, "evaluation.seed": 5, "evaluation.shots": 2
    }  # fmt: skip
    assert (content["shots"], content["ways"], content["replica"]) == (2, 2, "low")
    # Setting an option to its derived value is not a difference.
    assert write(tmp_path, opened_with(run, shots=4), results(flip=3.0))[0].name == "step_40.json"
