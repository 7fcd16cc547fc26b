"""Runs whose files were lost or damaged: what is not complete does not look so."""

import os
import shutil
import signal

import pytest
import tiny

from emergent_icl.config.configs import with_options
from emergent_icl.plots.comparison import compare
from emergent_icl.runs import records
from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.progress import NonFiniteLossError
from emergent_icl.runs.records import Display, MetricsWriter, read_metrics
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import Workdir, WorkdirError

pytestmark = pytest.mark.usefixtures("quick_runs")

CONFIG = tiny.get_config("symbols")
LONGER = with_options(CONFIG, {"training.num_steps": 60})
TIMES = ("steps_per_second", "sequences_per_second")
DIVERGING = {"training.optimizer.name": "sgd", "training.optimizer.learning_rate": 1e30}
DIVERGING |= {"training.optimizer.warmup_steps": 0, "checkpoints.every": 1}


class Recorder(Display):
    """What a user would be told."""

    def __init__(self):
        self.warnings, self.bad, self.facts = [], [], {}

    def warned(self, text):
        self.warnings.append(text)

    def set_aside(self, step, why, place):
        self.bad.append(step)

    def started(self, facts):
        self.facts = facts


def stopped(folder, config, step):
    """Trains until a step, then interrupts; returns what was said."""
    display, steps = Recorder(), []
    display.advanced = steps.append
    with pytest.raises(Interrupted) as stop:
        train(
            config,
            Workdir(folder),
            display,
            lambda: signal.SIGTERM if steps and steps[-1] >= step else None,
        )
    assert stop.value.step == step
    return display


def lines(folder):
    found = read_metrics(Workdir(folder).metrics)
    return [{key: x for key, x in line.items() if key not in TIMES} for line in found]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(CONFIG, Workdir(folder))
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a complete run, with checkpoints of steps 20 and 40."""
    return shutil.copytree(finished, tmp_path / "run")


def lose_checkpoint(folder, step):
    shutil.rmtree(folder / "checkpoints" / str(step))


def damage_checkpoint(folder, step):
    shutil.rmtree(folder / "checkpoints" / str(step) / "progress")


def state_of(folder):
    (end,) = compare([folder]).ends.values()
    return end["state"], end["step"]


def test_a_run_that_lost_its_last_checkpoint_is_incomplete_until_it_ends_again(run, finished):
    assert state_of(run) == ("complete", 40)
    lose_checkpoint(run, 40)
    display = stopped(run, CONFIG, 31)
    (warning,) = display.warnings
    assert "ended at step 40" in warning
    assert warning.endswith("training goes on after step 20.")
    assert Workdir(run).read_summary() is None
    assert state_of(run) == ("incomplete", 20)
    again = Recorder()
    train(CONFIG, Workdir(run), again)
    assert again.warnings == []
    assert lines(run) == lines(finished)
    assert state_of(run) == ("complete", 40)


def test_a_run_that_lost_all_checkpoints_is_incomplete(run):
    shutil.rmtree(run / "checkpoints")
    (warning,) = stopped(run, CONFIG, 11).warnings
    assert warning.endswith("goes on after step 0.")
    assert Workdir(run).read_summary() is None


def test_metrics_that_end_before_the_summary_are_not_complete(run):
    path = Workdir(run).metrics
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert state_of(run) == ("incomplete", 20)


def test_the_summary_of_a_shorter_run_stays_while_the_run_is_extended(run):
    assert stopped(run, LONGER, 45).warnings == []
    assert Workdir(run).read_summary()["step"] == 40
    assert state_of(run) == ("incomplete", 40)


def test_a_diverged_run_diverges_again_without_a_warning(tmp_path):
    config = with_options(CONFIG, DIVERGING)
    for _ in range(2):
        display = Recorder()
        with pytest.raises(NonFiniteLossError):
            train(config, Workdir(tmp_path), display)
        assert display.warnings == []
        assert Workdir(tmp_path).read_summary()["diverged_at_step"] == 2
    assert display.facts["first_step"] == 1


def test_the_same_command_repairs_a_complete_run_whose_last_checkpoint_is_damaged(run, finished):
    damage_checkpoint(run, 40)
    with pytest.raises(WorkdirError, match="step 40"):
        load_run(run)
    display = Recorder()
    assert not train(CONFIG, Workdir(run), display).was_complete
    assert display.bad == [40]
    assert (run / "checkpoints_unreadable" / "40").is_dir()
    assert load_run(run).step == 40
    assert lines(run) == lines(finished)
    assert train(CONFIG, Workdir(run)).was_complete


# ------------------------------------------------------------------ lines of metrics


def drop_lines(folder, after):
    path = Workdir(folder).metrics
    kept = [line for line in read_metrics(path) if line["step"] <= after]
    path.write_text("".join(map(records._line, kept)))


@pytest.mark.parametrize("after", [20, 0])
def test_a_run_that_lost_lines_of_metrics_does_not_resume_silently(after, run, finished):
    drop_lines(run, after)
    before = Workdir(run).metrics.read_bytes(), Workdir(run).config.read_bytes()
    said = rf"metrics\.jsonl lacks the line of step 40 \(.* of step {after}\).* after step 40"
    with pytest.raises(WorkdirError, match=said):
        train(LONGER, Workdir(run))
    assert (Workdir(run).metrics.read_bytes(), Workdir(run).config.read_bytes()) == before
    # The advice of the message.
    for step in (20, 40) if after < 20 else (40,):
        lose_checkpoint(run, step)
    train(CONFIG, Workdir(run))
    assert lines(run) == lines(finished)


def test_lost_lines_can_be_given_up(run, finished):
    drop_lines(run, 10)
    assert load_run(run).step == 40
    with Workdir(run).metrics.open("a") as file:
        file.write('{"step": 40}\n')
    train(LONGER, Workdir(run))
    assert [line["step"] for line in lines(run)] == [10, 40, 50, 60]


def test_a_lost_evaluation_between_two_lines_is_noticed(tmp_path):
    config = with_options(CONFIG, {"evaluation.at": (0, 15, "log:3", 99)})
    stopped(tmp_path / "whole", config, 18)
    lost = shutil.copytree(tmp_path / "whole", tmp_path / "lost")
    train(config, Workdir(tmp_path / "whole"))
    drop_lines(lost, 10)
    with pytest.raises(WorkdirError, match=r"lacks the line of step 15 .* after step 18"):
        train(config, Workdir(lost))


def test_lines_are_on_disk_before_the_checkpoint_of_their_step(tmp_path, monkeypatch):
    events = []
    save, sync = CheckpointStore.save, os.fsync

    def synced(number):
        if os.readlink(f"/proc/self/fd/{number}").endswith("metrics.jsonl"):
            events.append(("synced", read_metrics(tmp_path / "metrics.jsonl")[-1]["step"]))
        sync(number)

    def saved(self, state, progress):
        events.append(("saved", int(state.step[0])))
        save(self, state, progress)

    monkeypatch.setattr(records.os, "fsync", synced)
    monkeypatch.setattr(CheckpointStore, "save", saved)
    train(CONFIG, Workdir(tmp_path))
    each = [(what, step) for step in (20, 40) for what in ("synced", "saved")]
    assert events == [*each, ("synced", 40)]  # Closing it syncs again.


def test_metrics_that_cannot_be_synced_are_named(tmp_path, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    with MetricsWriter(Workdir(tmp_path), -1) as writer:
        monkeypatch.setattr(records.os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as error:
            writer.sync()
        monkeypatch.undo()
    assert error.value.filename == str(tmp_path / "metrics.jsonl")


def test_a_run_that_ends_where_it_was_evaluated_has_its_last_training_line(tmp_path):
    """Planned with 15 steps or not, its lines are the same."""
    config = with_options(CONFIG, {"evaluation.at": (15,)})
    stopped(tmp_path / "stopped", config, 15)
    assert "train/loss" not in lines(tmp_path / "stopped")[-1]
    short = with_options(config, {"training.num_steps": 15})
    summaries = [train(short, Workdir(tmp_path / name)).summary for name in ("stopped", "planned")]
    *earlier, last = lines(tmp_path / "planned")
    del last["train/grad_norm"]  # It was not due at that step.
    assert lines(tmp_path / "stopped") == [*earlier, last]
    assert summaries[0]["evals"] == summaries[1]["evals"]


def test_a_run_that_was_killed_in_its_last_evaluation_resumes(tmp_path, monkeypatch):
    """It had been stopped at the step where it then was to end."""
    stopped(tmp_path, LONGER, 30)

    def killed(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("emergent_icl.runs.train._evaluate", killed)
        with pytest.raises(MemoryError):
            train(with_options(CONFIG, {"training.num_steps": 30}), Workdir(tmp_path))
    train(with_options(CONFIG, {"training.num_steps": 30}), Workdir(tmp_path))
    assert state_of(tmp_path) == ("complete", 30)


def test_a_diverged_run_is_never_complete(run):
    """Even if the loss of its last evaluation was not finite, and a checkpoint exists."""
    summary = Workdir(run).read_summary()
    Workdir.write_json(Workdir(run).summary, {**summary, "diverged_at_step": 40})
    assert not train(CONFIG, Workdir(run)).was_complete
    assert "diverged_at_step" not in Workdir(run).read_summary()
