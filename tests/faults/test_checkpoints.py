"""An unreadable checkpoint is reported and set aside, and nothing else is lost."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import tiny
from launching import records

from emergent_icl.config.configs import with_options
from emergent_icl.runs.checkpoints import CheckpointError, CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.records import Display
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training.build import build

pytestmark = pytest.mark.faults

CONFIG = with_options(
    tiny.get_config("symbols"),
    {"training.num_steps": 30, "checkpoints.every": 10, "checkpoints.keep": 9},
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A complete run, with checkpoints of steps 10, 20, and 30."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(CONFIG, Workdir(folder), Display())
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another run with the same seed and shapes."""
    return trained(tmp_path_factory, {"training.optimizer.learning_rate": 0.02})


@pytest.fixture(scope="module")
def wider(tmp_path_factory):
    """Another run with the same seed, and other shapes under the same names."""
    return trained(tmp_path_factory, {"model.mlp_ratio": 2})


def trained(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("other") / "run"
    train(with_options(CONFIG, changes), Workdir(folder), Display())
    return folder


@pytest.fixture(scope="module")
def experiment():
    return build(CONFIG)


@pytest.fixture
def killed(finished, tmp_path):
    """The run as if killed between its last checkpoint and its summary."""
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "summary.json").unlink()
    return folder


def array_files(checkpoint):
    """All files of arrays: depending on timing, the largest may be one that is never read."""
    files = list(checkpoint.glob("state/**/d/*"))
    assert files
    return files


def truncate(checkpoint, other):
    for path in array_files(checkpoint):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)


def flip_bits(checkpoint, other):
    for path in array_files(checkpoint):
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
        path.write_bytes(content)


def empty(checkpoint, other):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def lose_a_part(checkpoint, other):
    shutil.rmtree(checkpoint / "progress")


def of_another_run(checkpoint, other):
    shutil.rmtree(checkpoint)
    shutil.copytree(other / "checkpoints" / "30", checkpoint)


def of_another_step(checkpoint, other):
    shutil.rmtree(checkpoint)
    shutil.copytree(checkpoint.with_name("20"), checkpoint)


def foreign(checkpoint, other):
    empty(checkpoint, other)
    (checkpoint / "state").mkdir()
    (checkpoint / "state" / "weights.bin").write_bytes(b"anything" * 100)


def forget_identity(checkpoint):
    path = checkpoint / "progress" / "metadata"
    about = json.loads(path.read_text())
    del about["identity"]
    path.write_text(json.dumps(about))


DAMAGES = (truncate, flip_bits, empty, lose_a_part, of_another_run, of_another_step, foreign)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_readable_checkpoint_is_used(damage, killed, other, experiment):
    damage(killed / "checkpoints" / "30", other)
    with CheckpointStore(killed / "checkpoints", config=CONFIG) as store:
        found = store.newest(experiment.state_template())
    assert int(found.state.step[0]) == 20
    assert list(found.unreadable) == [30]
    assert found.unreadable[30]
    with pytest.raises(CheckpointError, match=r"the checkpoint of step 30 in .* cannot be read: "):
        load_run(killed)
    assert load_run(killed, step=20).step == 20


def test_a_checkpoint_of_another_run_is_recognized_by_its_config(killed, other, experiment):
    of_another_run(killed / "checkpoints" / "30", other)
    with CheckpointStore(killed / "checkpoints", config=CONFIG) as store:
        found = store.newest(experiment.state_template())
    assert found.unreadable == {30: "it belongs to a run with another config"}


def test_without_an_identity_it_is_recognized_by_its_shapes(killed, wider):
    """Checkpoints of older versions have none."""
    forget_identity(killed / "checkpoints" / "30")
    assert load_run(killed).step == 30
    of_another_run(killed / "checkpoints" / "30", wider)
    forget_identity(killed / "checkpoints" / "30")
    with pytest.raises(CheckpointError, match=r"mlp_narrow.* is float32 \[.*\], not float32 \["):
        load_run(killed)


def test_an_inaccessible_checkpoint_is_not_set_aside(killed, monkeypatch):
    def refuse(self, *arguments, real=Path.open, **settings):
        if "checkpoints" in self.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *arguments, **settings)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"step 30 cannot be opened: Permission denied: /"):
        train(CONFIG, Workdir(killed), Display())
    assert not (killed / "checkpoints_unreadable").exists()


def test_only_plain_numbers_are_checkpoint_steps(killed):
    for name in ("²", "030", "40.orbax-checkpoint-tmp", "-1", "notes"):
        (killed / "checkpoints" / name).mkdir()
    with CheckpointStore(killed / "checkpoints") as store:
        assert store.steps() == [10, 20, 30]


class Recorder(Display):
    def __init__(self):
        self.bad = []

    def set_aside(self, step, why, place):
        self.bad.append((step, why, place))


def test_a_run_resumes_exactly_from_the_newest_readable_checkpoint(killed, finished, other):
    truncate(killed / "checkpoints" / "30", other)
    of_another_run(killed / "checkpoints" / "20", other)
    observer = Recorder()
    train(CONFIG, Workdir(killed), observer)
    aside = killed / "checkpoints_unreadable"
    assert [(step, place) for step, _, place in observer.bad] == [
        (30, aside / "30"), (20, aside / "20"),
    ]  # fmt: skip
    assert observer.bad[1][1] == "it belongs to a run with another config"
    assert sorted(path.name for path in aside.iterdir()) == ["20", "30"]
    assert records(killed) == records(finished)
    with CheckpointStore(killed / "checkpoints") as store:
        assert store.steps() == [10, 20, 30]
        # A second checkpoint of the same step gets another name.
        assert store.set_aside(30) == aside / "30-2"


def test_without_a_readable_checkpoint_nothing_is_changed(killed, other):
    before = (killed / "metrics.jsonl").read_bytes()
    for step in ("10", "20", "30"):
        empty(killed / "checkpoints" / step, other)
    with pytest.raises(
        CheckpointError, match=r"(?s)can be read:.*step 30: .*step 10: .*start over"
    ):
        train(CONFIG, Workdir(killed), Display())
    assert (killed / "metrics.jsonl").read_bytes() == before
    assert len(list((killed / "checkpoints").iterdir())) == 3


def test_a_failed_save_is_one_message(killed, monkeypatch):
    import orbax.checkpoint as ocp

    def full(self, *arguments, **settings):
        raise ValueError("NOT_FOUND: Error writing local file [OS error 28: No space left]\nmore")

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    longer = with_options(CONFIG, {"training.num_steps": 40})
    with pytest.raises(CheckpointError, match=r"No space left\]\nEarlier checkpoints are intact"):
        train(longer, Workdir(killed), Display())
    monkeypatch.undo()
    with CheckpointStore(killed / "checkpoints") as store:
        assert store.steps() == [10, 20, 30]


def test_only_one_command_can_train_in_a_folder(killed):
    workdir = Workdir(killed)
    with workdir.locked():
        with pytest.raises(WorkdirError, match=r"is in use by process \d+ on "):
            train(CONFIG, workdir, Display())
        # Opening the run needs no lock.
        assert load_run(killed).step == 30
    # A lock file that no process holds does not lock.
    assert "process" in workdir.lock.read_text()
    train(CONFIG, workdir, Display())
