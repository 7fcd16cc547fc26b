"""A packed run is opened and resumed elsewhere, to the bit; damaged files are refused."""

import errno
import io
import json
import shutil
import signal
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
from emergent_icl.runs.progress import Progress
from emergent_icl.runs.records import Display, read_metrics
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.training.build import build

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


def with_config(workdir, section, **options):
    """Changes options in a stored config."""
    content = json.loads(workdir.config.read_text())
    content[section] |= options
    workdir.config.write_text(json.dumps(content))


def with_other_state(workdir, step):
    """Replaces a checkpoint's arrays by intact ones with the same weights."""
    with CheckpointStore(workdir.checkpoints) as store:
        template = load_run(workdir.path).experiment.state_template()
        found, progress = store.restore(step, template)
    other = jax.tree.map(lambda leaf: leaf + 1, found.opt_state)
    with CheckpointStore(workdir.path / "other") as store:
        store.save(found._replace(opt_state=other), progress)
    shutil.rmtree(workdir.checkpoints / str(step) / "state")
    (workdir.path / "other" / str(step) / "state").rename(workdir.checkpoints / str(step) / "state")


def test_a_damaged_state_of_the_optimizer_is_not_packed_to_be_resumed(trained, tmp_path):
    copy = Workdir(shutil.copytree(trained.path, tmp_path / "copy"))
    with_other_state(copy, 40)
    with pytest.raises(CheckpointError, match=r"of step 40 in .*copy.*: its checksum does not"):
        pack(copy, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    # Its weights are intact.
    assert pack(copy, tmp_path / "file", weights_only=True).step == 40


def test_a_later_step_is_not_replaced_by_an_earlier_one(trained, tmp_path):
    pack(trained, tmp_path / "file", step=40)
    before = (tmp_path / "file").read_bytes()
    with pytest.raises(PackError, match="holds step 40 of this run, and would be replaced by step"):
        pack(trained, tmp_path / "file", step=20)
    assert (tmp_path / "file").read_bytes() == before


@pytest.mark.parametrize("weights_only", [False, True])
def test_a_checkpoint_of_another_config_is_not_packed(weights_only, trained, tmp_path):
    copy = Workdir(shutil.copytree(trained.path, tmp_path / "copy"))
    with_config(copy, "training", seed=1)
    with pytest.raises(CheckpointError, match="it belongs to a run with another config"):
        pack(copy, tmp_path / "file", weights_only=weights_only)
    assert not (tmp_path / "file").exists()


def test_a_checkpoint_that_is_removed_meanwhile_is_not_packed_in_part(
    trained, tmp_path, monkeypatch
):
    copy = Workdir(shutil.copytree(trained.path, tmp_path / "copy"))
    real = CheckpointStore.restore_weights

    def removed_after(self, step):
        found = real(self, step)
        shutil.rmtree(copy.checkpoints / str(step) / "state")
        return found

    monkeypatch.setattr(CheckpointStore, "restore_weights", removed_after)
    with pytest.raises(CheckpointError, match=r"of step 40 in .* cannot be read"):
        pack(copy, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def saved(folder, **options):
    """The folder of a run of features whose first state was saved; the data are then deleted."""
    data = folder / "features.npy"
    np.save(data, np.random.default_rng(0).normal(size=(40, 5, 16)))
    names = {name.replace("__", "."): value for name, value in options.items()}
    places = {"data.source": "features", "data.features.path": str(data)}
    config = with_options(tiny.get_config("vectors"), places | names)
    state = build(config).init(0)
    workdir = Workdir(folder / "run")
    workdir.make()
    workdir.claim(config)
    with CheckpointStore(workdir.checkpoints, config=config) as store:
        # Every array differs from the others.
        numbers = iter(range(1000))
        distinct = jax.tree.map(lambda leaf: np.asarray(leaf)[None] + next(numbers), state)
        store.save(distinct._replace(step=np.int32([0])), Progress())
    data.unlink()
    return workdir


@pytest.mark.parametrize("optimizer", ["adam", "adafactor", "sgd"])
def test_any_optimizers_state_is_packed_without_the_data(optimizer, tmp_path):
    """Adafactor's arrays are not in the order of their names; SGD has none."""
    workdir = saved(tmp_path, training__optimizer__name=optimizer)
    assert not pack(workdir, tmp_path / "file").weights_only


def test_a_run_of_an_extension_is_packed_without_it(tmp_path):
    workdir = saved(tmp_path)
    with_config(workdir, "data", mosaics={"path": "elsewhere"})
    optimizer = workdir.read_config().training.optimizer.to_dict()
    with_config(workdir, "training", optimizer={**optimizer, "schedule": "halving"})
    assert pack(workdir, tmp_path / "file").step == 0


def test_what_killed_saves_left_is_removed_by_resuming_only(trained, tmp_path):
    workdir, config = Workdir(tmp_path / "run"), tiny.get_config("symbols")
    left = workdir.checkpoints / "13.orbax-checkpoint-tmp"
    polls = iter([None] * 25)
    # Killed in its first save.
    (left / "state").mkdir(parents=True)
    workdir.claim(config)
    with pytest.raises(Interrupted):
        train(config, workdir, Display(), lambda: next(polls, signal.SIGTERM))
    assert not left.exists()
    # Killed later.
    (left / "state").mkdir(parents=True)
    assert load_run(workdir.path).step == 25
    for weights_only in (False, True):
        pack(workdir, tmp_path / f"file_{weights_only}", weights_only=weights_only)
    assert left.exists()
    train(config, workdir, Display())
    assert not left.exists()
    assert records(workdir.path) == records(trained.path)


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
        with pytest.raises(PackError, match="must be a new or empty folder"):
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


def test_the_packed_file_of_another_run_is_not_overwritten(trained, packed, tmp_path):
    """Folders of different runs may have the same name, as those of a sweep."""
    file = tmp_path / "file"
    file.write_bytes(packed.read_bytes())
    runs = [Workdir(shutil.copytree(trained.path, tmp_path / name)) for name in ("a", "b", "c")]
    with_config(runs[0], "training", seed=1)
    about = json.loads(runs[1].data.read_text())
    runs[1].data.write_text(json.dumps({**about, "source": "symbolic, generator 99"}))
    runs[2].data.unlink()
    for run in runs:
        with pytest.raises(PackError, match=r"file holds another run .* name with --output"):
            pack(run, file)
    assert file.read_bytes() == packed.read_bytes()
    # The same run, extended.
    run = Workdir(shutil.copytree(trained.path, tmp_path / "d"))
    with_config(run, "training", num_steps=80)
    assert pack(run, file).step == 40
    # The same run, packed by a version that did not record data yet.
    pack(runs[2], tmp_path / "early")
    assert pack(trained, tmp_path / "early").step == 40


def test_weights_alone_do_not_replace_a_run_that_can_be_resumed(trained, packed, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(packed.read_bytes())
    with pytest.raises(PackError, match=r"file can be resumed, and weights alone .* --output"):
        pack(trained, file, weights_only=True)
    assert file.read_bytes() == packed.read_bytes()
    weights = tmp_path / "weights"
    for step, weights_only in ((20, True), (40, True), (40, False)):
        assert pack(trained, weights, step, weights_only).weights_only == weights_only


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
    words = ("pack", trained.path, "--weights-only", "--step=20")
    again = launch(*words, f"--output={file}")
    assert (again.returncode, again.stderr.count("error:")) == (1, 1)
    weights = tmp_path / "weights.icl.zip"
    done = launch(*words, f"--output={weights}")
    assert "To open it elsewhere" in done.stdout, done.stderr
    done = launch("unpack", weights, f"--workdir={tmp_path / 'weights'}")
    assert "can be opened, but not resumed" in done.stdout, done.stderr
    again = launch("train", f"--workdir={tmp_path / 'weights'}")
    assert (again.returncode, again.stderr.count("error:")) == (1, 1)
