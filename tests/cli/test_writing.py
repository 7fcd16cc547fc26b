"""Commands print results before writing them, so that no disk error can lose them."""

import errno
import json
import os
import shutil
import sys

import pytest
import tiny
from launching import launch, only_message

from emergent_icl.cli import console
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir, WorkdirError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(tiny.get_config("symbols"), Workdir(folder))
    return folder


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.tmp")


@pytest.mark.parametrize(
    ("error", "said"), [(FULL, "No space left on device"), (WorkdirError("it is not"), "it is not")]
)
def test_a_failed_write_names_the_file_and_fails_the_command(error, said, tmp_path, capsys):
    def fail():
        raise error

    def main():
        with console.command(["command"]):
            console.write(tmp_path / "a", fail)
            console.write(tmp_path / "b", lambda: None)

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert err == f"error: {tmp_path / 'a'} was not written: {said}\n"
    assert out == f"Written: {tmp_path / 'b'}\n"
    with console.command(["command"]):
        pass


def test_an_unwritable_folder_is_detected_early(tmp_path, capsys, monkeypatch):
    assert console.can_write(tmp_path / "new" / "folder", "")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "new" / "folder", tmp_path / "file" / "folder"):
        with pytest.raises(SystemExit), console.command(["command"]):
            assert not console.can_write(folder, "Use --output.")
        assert capsys.readouterr().err == f"error: {folder} cannot be written to. Use --output.\n"


def test_results_are_written_even_if_the_output_pipe_is_closed(tmp_path):
    def broken():
        raise BrokenPipeError

    def main(say):
        with console.command(["command"]):
            with console.printing():
                say()
            console.write(tmp_path / "a", lambda: (tmp_path / "a").write_text("kept"))

    for say in (broken, lambda: sys.exit(1)):  # Rich exits.
        with pytest.raises(SystemExit) as ended:
            main(say)
        assert ended.value.code == 1
        assert (tmp_path / "a").read_text() == "kept"
        (tmp_path / "a").unlink()


@pytest.mark.faults
def test_evaluate_prints_results_that_it_cannot_write(run, tmp_path):
    words = ("evaluate", f"--workdir={run}", "--modes=flip", "--num_sequences=20")
    # Even root cannot create a file there.
    done = launch(*words, "--output=/proc/results.json")
    assert done.returncode == 1
    assert "closed accuracy" in done.stdout
    assert only_message(done.stderr).startswith("error: /proc/results.json was not written: ")
    # Other files are not overwritten; that is checked first.
    for name, content in (("a.json", '{"a": 1}'), ("a.txt", "text")):
        other = tmp_path / name
        other.write_text(content)
        done = launch(*words, f"--output={other}")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{other} is not a" in only_message(done.stderr)
        assert other.read_text() == content
    written = tmp_path / "new" / "results.json"
    done = launch(*words, f"--output={written}")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(json.loads(written.read_text())["evals"]) == ["flip"]
    assert not (run / "evaluations").exists()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("evaluate", "--modes=flip", "--num_sequences=20"), "closed accuracy"),
        (("inspect_data", "--sample=20", "--rows=1"), "different classes in a sequence"),
        (("inspect_run", "--sequences=0"), ""),
    ],
    ids=["evaluate", "inspect_data", "inspect_run"],
)
def test_an_unwritable_run_can_be_inspected(words, printed, run, tmp_path):
    """Files block its folders."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    for name in ("figures", "evaluations", "inspection.json.tmp"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir() if name.endswith("tmp") else (folder / name).write_text("")
    done = launch(words[0], f"--workdir={folder}", *words[1:])
    assert done.returncode == 1
    assert printed in done.stdout
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())
