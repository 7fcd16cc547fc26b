"""Every launcher, in a separate process."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import PATIENCE, ROOT, launch, records, start, train_flags, wait_for

from emergent_icl.runs.checkpoints import CheckpointStore
from emergent_icl.runs.records import read_metrics


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    done = launch("train", *train_flags(folder))
    assert done.returncode == 0, done.stderr
    return folder, done


def test_train_prints_progress_table_and_figure(trained):
    folder, done = trained
    assert re.search(r"step +40/40 .*loss .*ICL .*IWL .*steps/s .*sequences/s", done.stdout)
    assert "fewshot_holdout" in done.stdout
    assert "no_support_zipfian" in done.stdout
    figure = folder / "figures" / "learning_curves.png"
    assert str(figure) in done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "summary.json").read_text())["step"] == 40


def test_rerunning_train_reports_that_the_run_is_complete(trained):
    folder, _ = trained
    before = (folder / "metrics.jsonl").read_bytes()
    done = launch("train", *train_flags(folder))
    assert done.returncode == 0
    assert "is complete: 40 steps. Nothing was changed." in done.stdout
    assert "To start over, use another --workdir" in done.stdout
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_train_without_a_config_uses_the_folders_config(trained, tmp_path):
    done = launch("train", f"--workdir={trained[0]}")
    assert "is complete: 40 steps. Nothing was changed." in done.stdout, done.stderr
    done = launch("train", f"--workdir={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path} is not the work directory of a run")


def test_a_missing_figure_of_a_complete_run_is_drawn(trained, tmp_path):
    run = shutil.copytree(trained[0], tmp_path / "run")
    shutil.rmtree(run / "figures")
    figure = run / "figures" / "learning_curves.png"
    for said in (f"Written: {figure}", f"Figure: {figure}"):
        done = launch("train", f"--workdir={run}")
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
        assert figure.exists()


def test_a_stored_value_of_the_wrong_type_gives_the_message_of_evaluate(trained, tmp_path):
    config = json.loads((trained[0] / "config.json").read_text())
    config["training"]["num_steps"] = "abc"
    (tmp_path / "config.json").write_text(json.dumps(config))
    errors = [launch(command, f"--workdir={tmp_path}").stderr for command in ("train", "evaluate")]
    assert errors[0] == errors[1]
    assert "training.num_steps = 'abc' must be an integer >= 1" in errors[0]


def test_evaluate_needs_only_the_workdir(trained):
    folder, _ = trained
    done = launch(
        "evaluate", f"--workdir={folder}", "--modes=fewshot_rare,no_support_common",
        "--num_sequences=200",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "fewshot_rare" in done.stdout
    assert "step 40, num_sequences=200" in done.stdout
    path = folder / "evaluations" / "step_40_num_sequences=200.json"
    written = json.loads(path.read_text())
    assert set(written["evals"]) == {"fewshot_rare", "no_support_common"}
    # As on another machine, with other devices and modes: earlier results remain.
    done = launch(
        "evaluate", f"--workdir={folder}", "--modes=bursty", "--num_sequences=200", devices=3
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    both = json.loads(path.read_text())["evals"]
    assert both.pop("bursty")["loss"]["mean"] > 0
    assert both == written["evals"]
    accuracy = written["evals"]["fewshot_rare"]["accuracy_closed"]
    assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    assert written["options"] == {"evaluation.num_sequences": 200}
    assert (written["num_sequences"], written["shots"], written["ways"]) == (200, 4, 2)
    # Results of another run in the same folder are replaced.
    path.write_text(json.dumps({**written, "run": {**written["run"], "identity": 1}}))
    done = launch("evaluate", f"--workdir={folder}", "--modes=flip", "--num_sequences=200")
    assert "Replaced: results of another run" in done.stdout
    assert set(json.loads(path.read_text())["evals"]) == {"flip"}


def test_evaluate_errors_are_one_message(trained, tmp_path):
    folder, _ = trained
    for flags, message in (
        ([f"--workdir={tmp_path}"], "no config.json"),
        ([f"--workdir={folder}", "--step=7"], "no checkpoint of step 7 (available: 20, 40)"),
        ([f"--workdir={folder}", "--modes=fewshot_holdou"], "evaluation.modes"),
        ([f"--workdir={folder}", "--num_sequences=0"], "evaluation.num_sequences = 0"),
        ([], "--workdir"),
    ):
        done = launch("evaluate", *flags)
        assert done.returncode in (1, 2)
        assert "error:" in done.stderr
        assert message in done.stderr


def test_train_errors_are_one_message(tmp_path):
    folder = tmp_path / "run"
    wrong = {"data.sequences.p_bursty": 1.5, "model.encoder": "embeding"}
    done = launch("train", *train_flags(folder, **wrong))
    assert done.returncode == 1
    assert "The config has 2 problems" in done.stderr
    assert "data.sequences.p_bursty = 1.5 must be a number >= 0 and <= 1" in done.stderr
    assert "did you mean 'embedding'?" in done.stderr
    for flags, message in (
        (train_flags(folder, **{"data.sequnces.ways": 2}), "did you mean 'data.sequences.ways'"),
        (
            [f"--workdir={folder}", "--config=experiments/configs/glyphs.py:nope"],
            "'nope' is unknown",
        ),
        ([f"--workdir={folder}", "--config=nowhere.py"], "nowhere.py"),
        ([*train_flags(folder), "stray"], "stray"),
    ):
        done = launch("train", *flags)
        assert done.returncode in (1, 2)
        assert "error:" in done.stderr
        assert message in done.stderr
    assert not folder.exists()
    folder.write_text("in the way")
    done = launch("train", *train_flags(folder))
    assert done.returncode == 1
    assert "is not a folder" in done.stderr
    done = launch("train", *train_flags("/proc/run"))
    assert done.returncode == 1
    assert "error: /proc/run cannot be created" in done.stderr


def catches(pid, number):
    """Whether a process has a handler of a signal, which Python itself never has of SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)[1], 16)
    return caught >> (number - 1) & 1


@pytest.mark.faults
def test_a_signal_during_startup_is_handled(tmp_path):
    process = start("-m", "experiments.train", *train_flags(tmp_path / "run"), fresh=True)
    wait_for(lambda: catches(process.pid, signal.SIGTERM), "the handler of signals")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Stopped before the next step; there was nothing to save. To resume:" in output


PAPER = "experiments/configs/omniglot.py:paper"


@pytest.mark.faults
def test_interrupting_other_launchers_prints_no_traceback():
    words = ("-m", "experiments.describe", f"--config={PAPER}")
    process = start(*words, env={"PYTHONUNBUFFERED": "1"})
    # The table of parameters precedes compilation.
    while "Parameters" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Stopped." in output
    assert "Traceback" not in errors
    assert "Fatal" not in errors


def test_a_batch_not_divisible_by_the_devices_is_rejected(tmp_path):
    done = launch("train", *train_flags(tmp_path / "run"), devices=3)
    assert done.returncode == 1
    assert "training.batch_size = 8 must be a multiple of the 3 devices" in done.stderr


KILLED = """
import os, signal, sys, time
from pathlib import Path
import tiny
from emergent_icl.runs.train import train
from emergent_icl.runs.records import Display
from emergent_icl.runs.workdir import Workdir

workdir = Workdir(sys.argv[1])

class Killer(Display):
    def advanced(self, step):
        if step == 33:
            while not (workdir.checkpoints / "20" / "_CHECKPOINT_METADATA").exists():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)

train(tiny.get_config("images"), workdir, Killer())
"""


@pytest.mark.faults
def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert launch("train", *train_flags(whole, "images")).returncode == 0
    process = start("-c", KILLED, killed, env={"PYTHONPATH": str(ROOT / "tests")})
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert [record["step"] for record in records(killed)] == [10, 20, 30]
    done = launch("train", *train_flags(killed, "images"))
    assert done.returncode == 0, done.stderr
    assert "after step 20" in done.stdout
    assert records(killed) == records(whole)
    assert state_bytes(whole) == state_bytes(killed)


def state_bytes(folder):
    """All leaves of the last state, as bytes."""
    import jax

    from emergent_icl.runs.open import load_run

    with CheckpointStore(Path(folder) / "checkpoints") as store:
        state, _ = store.restore(40, load_run(folder).experiment.state_template())
    return [leaf.tobytes() for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.faults)],
)
def test_signals_save_the_run_and_say_how_to_resume(tmp_path, number, status):
    flags = train_flags(tmp_path, **{"training.num_steps": 10_000_000})
    steps = []
    for _ in range(2):
        process = start("-m", "experiments.train", *flags)
        wait_for_new_lines(tmp_path / "metrics.jsonl", steps, process)
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, errors
        assert "Traceback" not in errors
        resume = output[output.index("To resume:") :]
        assert f"{sys.executable} -m experiments.train" in resume or (
            ".venv/bin/python -m experiments.train" in resume
        )
        assert all(flag in resume for flag in flags)
        with CheckpointStore(tmp_path / "checkpoints") as store:
            steps.append(store.steps()[-1])
        assert f"Stopped after step {steps[-1]}; the state is saved." in output
        assert (tmp_path / "figures" / "learning_curves.png").exists()
    assert 0 < steps[0] < steps[1]


def test_a_run_stops_after_a_step_or_a_time(tmp_path):
    flags = train_flags(tmp_path)
    done = launch("train", *flags, "--stop_after=15")
    assert (done.returncode, done.stderr) == (143, "")
    assert "Stopped after step 15; the state is saved." in done.stdout
    assert "with a larger --stop_after" in done.stdout
    done = launch("train", *flags, "--max_minutes=0.0001")
    assert (done.returncode, done.stderr) == (143, "")
    with CheckpointStore(tmp_path / "checkpoints") as store:
        assert store.steps() == [15]
    assert "before the next step; there was nothing to save. To resume:" in done.stdout
    assert launch("train", *flags, "--stop_after=40").returncode == 0
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["step"] == 40
    # As after a kill between the last checkpoint and the summary.
    (tmp_path / "summary.json").unlink()
    done = launch("train", *flags, "--stop_after=40")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "summary.json").exists()


def test_a_time_that_is_not_finite_is_refused(tmp_path):
    for minutes in ("nan", "inf"):
        done = launch("train", *train_flags(tmp_path), f"--max_minutes={minutes}")
        assert done.returncode == 2
        assert done.stderr == f"error: flag --max_minutes={minutes}: must be finite\n"


def test_a_closed_output_does_not_end_training(trained, tmp_path):
    process = start("-m", "experiments.train", *train_flags(tmp_path))
    assert "experiment" in process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate(timeout=PATIENCE)
    # Its output is lost.
    assert (process.returncode, errors) == (1, "")
    assert records(tmp_path) == records(trained[0])
    for name in ("summary.json", "figures/learning_curves.png"):
        assert (tmp_path / name).exists()


@pytest.mark.faults
def test_a_lost_terminal_saves_the_run(tmp_path):
    ours, theirs = pty.openpty()
    flags = train_flags(tmp_path, **{"training.num_steps": 10_000_000})
    words = [sys.executable, "-m", "experiments.train", *flags]
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    while not read_metrics(tmp_path / "metrics.jsonl"):
        os.read(ours, 2**16)  # The progress bar; an error if the process has ended.
    # The system does both when a terminal is closed.
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 128 + signal.SIGHUP
    with CheckpointStore(tmp_path / "checkpoints") as store:
        assert store.steps()[-1] > 0
    assert not (tmp_path / "summary.json").exists()


def wait_for_new_lines(path, steps, process):
    beyond = steps[-1] if steps else 0
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = read_metrics(path)
        if lines and lines[-1]["step"] > beyond:
            return
        time.sleep(0.1)
    raise AssertionError("no metrics were written")


def test_a_non_finite_loss_is_one_message(tmp_path):
    options = {"training.optimizer.name": "sgd", "training.optimizer.learning_rate": 1e30}
    done = launch("train", *train_flags(tmp_path, **options))
    assert done.returncode == 1
    assert re.search(r"error: The loss at step \d+ is (nan|inf)", done.stderr)


# With BatchNorm, which shares statistics, and all randomness on the device.
ON_DEVICES = {
    "data.augment": True,
    "data.random_rare_images": True,
    "model.dropout": 0.1,
    "model.example_dropout": 0.1,
    "model.positional_dropout": 0.1,
    "training.interim_weight": 0.2,
    # It compiles faster than a transformer and is distributed in the same way.
    "model.sequence_model": "rnn",
    # Adam would hide a wrong scale of the gradients.
    "training.optimizer.name": "sgd",
    "training.optimizer.learning_rate": 0.1,
    "training.num_steps": 10,
    "training.log_every": 1,
    "evaluation.every": 10,
    "evaluation.modes": ("fewshot_holdout",),
}


@pytest.mark.faults
def test_the_number_of_devices_does_not_change_the_model(tmp_path):
    """1, 2, and 4 devices differ only by rounding."""
    numbers = []
    for devices in (1, 2, 4):
        folder = tmp_path / str(devices)
        done = launch("train", *train_flags(folder, "resnet", **ON_DEVICES), devices=devices)
        assert done.returncode == 0, done.stderr
        assert f"{devices} x cpu" in done.stdout
        lines = records(folder)
        names = ("train/loss", "train/grad_norm")
        numbers.append([record[name] for record in lines for name in names])
        numbers[-1].append(lines[-1]["eval/fewshot_holdout/loss"])
    for others in numbers[1:]:
        assert others == pytest.approx(numbers[0], rel=2e-4)


@pytest.mark.faults
def test_only_tfds_and_tfdata_need_tensorflow(tmp_path):
    program = f"""
import sys
for name in ("tensorflow", "tensorflow_datasets", "tensorflow_cpu"):
    sys.modules[name] = None
import pkgutil, importlib, emergent_icl, experiments
for package in (emergent_icl, experiments):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import tiny
from emergent_icl.runs.train import train
from emergent_icl.runs.records import Display
from emergent_icl.runs.workdir import Workdir
config = tiny.get_config("images").unlock()
config.data.feeder = "auto"
outcome = train(config.lock(), Workdir({str(tmp_path)!r}), Display())
print(outcome.summary["step"])
"""
    process = start("-c", program, env={"PYTHONPATH": str(ROOT / "tests")}, fresh=True)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.split()[-1] == "40"
