"""A packed run is opened and resumed elsewhere, to the bit; damaged files are refused."""

import errno
import io
import json
import shutil
import zipfile

import jax
import numpy as np
import pytest
import tiny
from launching import launch, records

from emergent_icl.config.configs import with_options
from emergent_icl.runs.checkpoints import CheckpointError, CheckpointStore
from emergent_icl.runs.open import load_run
from emergent_icl.runs.pack import PackError, pack, unpack
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import train
from emergent_icl.runs.workdir import Workdir, WorkdirError

pytestmark = pytest.mark.usefixtures("quick_runs")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(tiny.get_config("symbols"), Workdir(folder), Display())
    return Workdir(folder)


@pytest.fixture(scope="module")
def packed(trained, tmp_path_factory):
    """Its first checkpoint."""
    path = tmp_path_factory.mktemp("packed") / "run.icl.zip"
    assert pack(trained, path, step=20).step == 20
    return path


def state(workdir, step):
    with CheckpointStore(workdir.checkpoints) as store:
        return store.restore(step, load_run(workdir.path).experiment.state_template())[0]


def test_a_packed_run_resumes_to_the_same_bits(trained, packed, tmp_path):
    there = Workdir(tmp_path / "elsewhere" / "run")
    assert unpack(packed, there).step == 20
    assert [line["step"] for line in read_metrics(there.metrics)] == [10, 20]
    assert load_run(there.path).step == 20
    train(tiny.get_config("symbols"), there, Display())
    assert records(there.path) == records(trained.path)
    jax.tree.map(np.testing.assert_array_equal, state(there, 40), state(trained, 40))


def test_a_complete_run_stays_complete(trained, tmp_path):
    there = Workdir(tmp_path / "run")
    packed = pack(trained, tmp_path / "file")
    assert unpack(tmp_path / "file", there).step == packed.step == 40
    assert train(tiny.get_config("symbols"), there, Display()).was_complete
    assert there.read_summary() == trained.read_summary()


def test_the_same_run_is_packed_to_the_same_bytes(trained, packed, tmp_path):
    pack(trained, tmp_path / "again", step=20)
    assert (tmp_path / "again").read_bytes() == packed.read_bytes()


def test_weights_alone_are_opened_but_not_resumed(trained, packed, tmp_path):
    file, there = tmp_path / "weights.icl.zip", Workdir(tmp_path / "there")
    assert pack(trained, file, step=20, weights_only=True).weights_only
    assert file.stat().st_size < packed.stat().st_size
    assert unpack(file, there).weights_only
    found, whole = load_run(there.path), load_run(trained.path, step=20)
    weights = [(run.params, run.batch_stats) for run in (found, whole)]
    jax.tree.map(np.testing.assert_array_equal, *weights)
    assert found.evaluate(num_sequences=32) == whole.evaluate(num_sequences=32)
    before = contents(there)
    with pytest.raises(CheckpointError, match="weights only: this run can be opened, but not res"):
        train(tiny.get_config("symbols"), there, Display())
    assert contents(there) == before
    # Packed again, they are still weights only.
    assert pack(there, tmp_path / "again").weights_only


def test_weights_alone_start_a_new_run(trained, tmp_path):
    pack(trained, tmp_path / "file", weights_only=True)
    unpack(tmp_path / "file", Workdir(tmp_path / "there"))
    metrics = []
    for source in (trained.path, tmp_path / "there"):
        config = with_options(tiny.get_config("symbols"), {"training.initial.run": str(source)})
        train(config, Workdir(tmp_path / f"from_{source.name}"), Display())
        metrics.append(records(tmp_path / f"from_{source.name}"))
    assert metrics[0] == metrics[1]


def test_damaged_weights_are_not_packed(trained, tmp_path):
    copy = Workdir(shutil.copytree(trained.path, tmp_path / "copy"))
    for path in (copy.checkpoints / "20" / "state").rglob("*"):
        if path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"of step 20 in .* cannot be read"):
        pack(copy, tmp_path / "file", step=20, weights_only=True)
    assert not (tmp_path / "file").exists()


def contents(workdir):
    files = (path for path in workdir.path.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path != workdir.lock}


def changed(packed, name, content):
    """A packed run in which one file has other content; its manifest is the same."""
    result = io.BytesIO()
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(result, "w") as new:
        for one in old.namelist():
            new.writestr(one, content if one == name else old.read(one))
    return result.getvalue()


def test_what_is_not_intact_is_refused(packed, tmp_path):
    manifest = json.loads(zipfile.ZipFile(packed).read("manifest.json"))
    escaping = {**manifest, "sha256": {"checkpoints/20/../../../x": ""}}
    newer = {**manifest, "version": 99}
    cases = {
        "is not an intact packed run": packed.read_bytes()[:-1000],
        "a zip file": b"something else",
        "checksum of config.json": changed(packed, "config.json", b"{}"),
        r"it holds checkpoints/20/\.\.": changed(packed, "manifest.json", json.dumps(escaping)),
        "has version 99": changed(packed, "manifest.json", json.dumps(newer)),
    }
    for said, content in cases.items():
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(PackError, match=said):
            unpack(tmp_path / "file", Workdir(tmp_path / "new"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_with_anything_in_it_is_left_alone(packed, trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, trained.path):
        with pytest.raises(PackError, match="is not empty"):
            unpack(packed, Workdir(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_that_exists_is_kept(packed, tmp_path):
    """Also behind a link, as for a scratch disk."""
    folder, link = tmp_path / "scratch", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    before = folder.stat().st_ino
    assert unpack(packed, Workdir(link)).step == 20
    assert folder.stat().st_ino == before
    assert load_run(folder).step == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "scratch"]
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_nothing_is_left_of_an_unpacking_that_fails(packed, tmp_path, monkeypatch):
    def fail(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("emergent_icl.runs.pack.write_whole", fail)
    for folder in (tmp_path / "new", tmp_path):
        with pytest.raises(OSError, match="No space"):
            unpack(packed, Workdir(folder))
    assert not list(tmp_path.iterdir())


def test_another_file_or_a_folder_is_not_overwritten(trained, packed, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    for path in (tmp_path / "thesis.txt", trained.config):
        before = path.read_bytes()
        with pytest.raises(PackError, match="would be overwritten"):
            pack(trained, path)
        assert path.read_bytes() == before
    with pytest.raises(PackError, match="is a folder"):
        pack(trained, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_bytes(packed.read_bytes())
    assert pack(trained, tmp_path / "file").step == 40


def test_what_is_no_run_is_not_packed(trained, tmp_path):
    with pytest.raises(WorkdirError, match=r"no config\.json"):
        pack(Workdir(tmp_path), tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 3 \(available: 20, 40\)"):
        pack(trained, tmp_path / "file", step=3)
    assert not list(tmp_path.iterdir())


def test_the_commands(trained, tmp_path):
    file, there = tmp_path / "my run.icl.zip", tmp_path / "there"
    done = launch("pack", trained.path, f"--output={file}")
    assert done.returncode == 0, done.stderr
    assert "Step 40, " in done.stdout
    assert launch("unpack", file, f"--workdir={there}").returncode == 0
    assert load_run(there).step == 40
    again = launch("unpack", file, f"--workdir={there}")
    assert (again.returncode, again.stderr.count("error:")) == (1, 1)
    assert launch("pack").returncode == 2
    done = launch("pack", trained.path, "--weights-only", "--step=20", f"--output={file}")
    assert "To open it elsewhere" in done.stdout, done.stderr
    done = launch("unpack", file, f"--workdir={tmp_path / 'weights'}")
    assert "can be opened, but not resumed" in done.stdout, done.stderr
    again = launch("train", f"--workdir={tmp_path / 'weights'}")
    assert (again.returncode, again.stderr.count("error:")) == (1, 1)
