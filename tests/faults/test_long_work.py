"""Ctrl-C during data preparation stops soon, with advice."""

import re
import signal
import time

import pytest
import tiny
from launching import PATIENCE, cpu_seconds_to_end, start, train_flags

from emergent_icl.config.configs import with_options
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import Workdir


@pytest.mark.faults
@pytest.mark.parametrize("command", ["train", "inspect_data", "evaluate"])
def test_drawing_a_million_classes_can_be_interrupted(command, tmp_path):
    options = {"data.glyphs.num_classes": 1_000_000, "data.cache_dir": str(tmp_path / "cache")}
    flags = train_flags(tmp_path / "run", "images", **options)
    if command == "evaluate":
        # The drawings of this run are not cached. They are drawn before the checkpoint is read, so
        # an empty one suffices.
        (tmp_path / "run" / "checkpoints" / "40").mkdir(parents=True)
        Workdir(tmp_path / "run").claim(with_options(tiny.get_config("images"), options))
        flags = [f"--workdir={tmp_path / 'run'}"]
    process = start("-m", f"experiments.{command}", *flags)
    time.sleep(20)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert cpu_seconds_to_end(process) < 5
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert re.search("Stopped.*Saved files are intact; rerun the command", out)
    assert not (tmp_path / "cache").exists()


def test_a_library_call_can_be_stopped_while_drawing(tmp_path):
    options = {"data.glyphs.num_classes": 1_000_000, "data.cache_dir": str(tmp_path / "cache")}
    config = with_options(tiny.get_config("images"), options)
    polls = iter([None, None, signal.SIGINT])
    with pytest.raises(Interrupted) as raised:
        train(config, Workdir(tmp_path / "run"), stop_requested=lambda: next(polls))
    assert (raised.value.signal, raised.value.step) == (signal.SIGINT, None)
    assert not (tmp_path / "run").exists()
