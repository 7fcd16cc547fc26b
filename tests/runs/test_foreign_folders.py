"""Folders with files of other programs are refused, and not changed."""

import json

import pytest
import tiny
import tiny_sweep
from launching import launch

from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps.jobs import check_root, make_jobs

FOREIGN = ("metrics.jsonl", "summary.json", "notes.md", "data.json", "checkpoints/best.pt")
OWN = (".lock", ".git/HEAD", "train.log", "job.json", "config.json.tmp", "inspection.json",
       "figures/bursts.png")  # fmt: skip


def write(folder, name, text="mine"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", FOREIGN)
def test_unrelated_files_are_named_and_refused(name, tmp_path):
    write(tmp_path, name)
    with pytest.raises(WorkdirError, match=name.partition("/")[0] + "\nUse a new or empty"):
        Workdir(tmp_path).check(tiny.get_config())


def test_files_of_launchers_and_killed_starts_are_accepted(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.check(tiny.get_config())
    for name in OWN:
        write(workdir.path, name)
    (workdir.path / "empty" / "folders").mkdir(parents=True)
    workdir.check(tiny.get_config())


def test_users_may_add_files_to_a_run(tmp_path):
    write(tmp_path, "notes.md")
    write(tmp_path, "metrics.jsonl")
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)
    # A run whose config was removed.
    Workdir(tmp_path).check(tiny.get_config())
    Workdir(tmp_path).claim(tiny.get_config())
    Workdir(tmp_path).check(tiny.get_config())


def test_a_config_of_another_program_gives_one_message(tmp_path):
    write(tmp_path, "config.json", json.dumps({"name": "my app", "port": 80}))
    with pytest.raises(WorkdirError, match="it lacks the sections data, model, training") as raised:
        Workdir(tmp_path).check(tiny.get_config())
    assert len(str(raised.value).splitlines()) == 2


def test_every_command_that_writes_refuses_unrelated_files(tmp_path):
    write(tmp_path, "metrics.jsonl")
    write(tmp_path, "summary.json")
    tiny_config = "--config=tests/tiny.py:symbols"
    sweep = "--sweep=tests/tiny_sweep.py"
    for command, flag in (("train", tiny_config), ("inspect_data", tiny_config), ("sweep", sweep)):
        done = launch(command, flag, f"--workdir={tmp_path}")
        assert done.returncode == 1, command
        wanted = f"error: {tmp_path} contains files of other programs"
        assert done.stderr.startswith(wanted), command
        assert "metrics.jsonl, summary.json" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "summary.json"}
    assert (tmp_path / "summary.json").read_text() == "mine"


def test_a_sweep_accepts_its_own_folder(tmp_path):
    root = tmp_path / "sweeps"
    check_root(root)
    for name in ("registration.json", "slurm/1_log.out", ".DS_Store"):
        write(root, name)
    (root / "tiny" / "p=0").mkdir(parents=True)
    check_root(root)
    write(root, "results.json")
    with pytest.raises(WorkdirError, match=r"results\.json\n"):
        check_root(root)
    job = make_jobs([tiny_sweep.get_sweep()], root)[0]
    write(job.workdir.path, "train.log")
    check_root(root)
    # Each job checks its own folder.
    write(job.workdir.path, "summary.json")
    with pytest.raises(WorkdirError, match=r"summary\.json\n"):
        job.check()
