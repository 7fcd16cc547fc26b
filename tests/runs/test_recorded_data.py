"""Every entry point refuses data other than a run's, and warns of doubtful data."""

import dataclasses
import json
import signal

import numpy as np
import pytest
import tiny
import tiny_sweep
from conftest import needs_omniglot
from finished_runs import Ends, finish
from launching import launch

from emergent_icl.config.check import ConfigError
from emergent_icl.config.configs import with_options
from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sources import omniglot
from emergent_icl.data.sources.cache import cache_folder
from emergent_icl.data.sources.source import DataSource, DataUnavailableError, load_bank
from emergent_icl.presets import base
from emergent_icl.runs import session
from emergent_icl.runs.open import load_run, replica_names
from emergent_icl.runs.recorded_data import OtherDataError, check_data, record_data
from emergent_icl.runs.records import Display
from emergent_icl.runs.train import Interrupted, train
from emergent_icl.runs.workdir import Workdir, WorkdirError
from emergent_icl.sweeps import recorded_data
from emergent_icl.sweeps.jobs import make_jobs
from emergent_icl.sweeps.recorded_data import check_moved_data
from emergent_icl.sweeps.results import collect
from emergent_icl.training.replicas import make_replicas

VECTORS = np.random.default_rng(0).normal(size=(40, 5, 16)).astype(np.float32)
OTHER = VECTORS[::-1]


def features(path, vectors=VECTORS):
    """Writes a features file; returns the config of a run on it."""
    np.save(path, vectors)
    values = {"data.source": "features", "data.features.path": str(path), "data.noise_scale": 0.0}
    return with_options(tiny.get_config("vectors"), values)


def begun(folder, config, step=40):
    """A folder with the config, the data record, and an empty checkpoint of a run."""
    workdir = Workdir(folder)
    workdir.make()
    record_data(workdir, load_bank(config.data), make_replicas(config), 0)
    workdir.claim(config)
    (workdir.checkpoints / str(step)).mkdir(parents=True)
    return workdir


# ------------------------------------------------------------------ identifying data


def words(config, *change):
    changed = with_options(config, dict([change])) if change else config
    return load_bank(changed.data).source


def with_generator(monkeypatch, name, version):
    other = dataclasses.replace(DATA_SOURCES[name], generator=version)
    monkeypatch.setitem(DATA_SOURCES, name, other)


def test_a_file_is_identified_by_its_numbers_alone(tmp_path):
    own = load_bank(features(tmp_path / "own.npy").data)
    again = load_bank(features(tmp_path / "moved.npy", VECTORS.astype(np.float64)).data)
    assert (again.source, again.checksum) == (own.source, own.checksum)
    reshaped = VECTORS.reshape(40, 10, 8)
    for index, other in enumerate((OTHER, VECTORS[:, ::-1], VECTORS[:39], reshaped)):
        assert words(features(tmp_path / f"{index}.npy", other)) != own.source


def test_generated_data_are_identified_by_options_and_generator(monkeypatch, tmp_path):
    config = tiny.get_config("images").unlock()
    config.data.cache_dir = str(tmp_path)
    own = words(config)
    # Neither the choice nor the size of drawings matters, nor do options of other sources.
    for same in ("data.drawings", "single"), ("data.image_size", 9), ("data.gaussian.seed", 3):
        assert words(config, *same) == own
    assert words(config, "data.glyphs.seed", 1) != own
    later = dataclasses.replace(
        DATA_SOURCES["glyphs"], generator=DATA_SOURCES["glyphs"].generator + 1
    )
    monkeypatch.setitem(DATA_SOURCES, "glyphs", later)
    assert words(config) != own


def test_the_choice_of_drawings_does_not_change_the_checksum(tmp_path):
    config = features(tmp_path / "own.npy")
    banks = [
        load_bank(with_options(config, {"data.drawings": which}).data)
        for which in ("all", "single", "separated")
    ]
    assert len({(bank.source, bank.checksum) for bank in banks}) == 1
    assert len({bank.examples.shape for bank in banks}) == 3


def test_a_source_without_a_description_is_identified_by_its_examples(monkeypatch):
    examples = np.arange(6, dtype=np.int32)[:, None]
    shape = SourceShape(6, 1, (), "integer")
    plain = DataSource(lambda data: shape, lambda data: ExampleBank("mine", examples, ()))
    monkeypatch.setitem(DATA_SOURCES, "mine", plain)
    data = with_options(base.get_config(), {"data.source": "mine"}).data
    own = load_bank(data).source
    assert own.startswith("mine, checksum ")
    examples = examples[::-1]
    assert load_bank(data).source != own


@needs_omniglot
def test_omniglot_is_identified_by_its_drawings_at_any_size(tmp_path, monkeypatch):
    data = base.get_config().data.unlock()
    data.image_size = 28
    small = load_bank(data)
    data.omniglot.split = "test"
    assert load_bank(data).source == small.source != ""
    # Earlier versions stored no checksum in a cache of resized drawings.
    whole = cache_folder("") / f"omniglot-{omniglot.TFDS_VERSION}-105px.npz"
    old = {"images": small.examples, "names": np.array(small.class_names)}
    data.cache_dir = str(tmp_path)
    monkeypatch.setattr(omniglot.cache, "load_or_build", lambda *_: old)
    assert load_bank(data).source == ""
    (tmp_path / whole.name).symlink_to(whole)
    assert load_bank(data).source == small.source


# ------------------------------------------------------------------ every entry point


def test_another_file_is_refused_at_every_entry_point(tmp_path):
    config = features(tmp_path / "own.npy")
    workdir = begun(tmp_path / "run", config)
    np.save(tmp_path / "own.npy", OTHER)
    longer = with_options(config, {"training.num_steps": 80})
    for opened in (
        lambda: train(config, workdir, Display()),
        lambda: train(longer, workdir, Display()),
        lambda: load_run(workdir.path),
    ):
        with pytest.raises(OtherDataError, match=r"other data:\n  source: 'features, checksum"):
            opened()
    (tmp_path / "own.npy").unlink()
    np.save(tmp_path / "other.npy", OTHER)
    moved = (f"--workdir={workdir.path}", f"--features_path={tmp_path / 'other.npy'}")
    for command in ("evaluate", "inspect_run", "inspect_data"):
        done = launch(command, *moved)
        assert done.returncode == 1
        assert done.stderr.startswith(
            f"error: {workdir.path} holds a run trained on other data:"
        ), command
    assert not workdir.metrics.exists()
    assert not workdir.figures.exists()


def test_a_moved_file_is_found_at_its_new_path(tmp_path):
    workdir = begun(tmp_path / "run", features(tmp_path / "own.npy"))
    moved = {"data.features.path": str((tmp_path / "own.npy").rename(tmp_path / "new.npy"))}
    with pytest.raises(ConfigError, match=r"own\.npy' cannot be read"):
        load_run(workdir.path)
    assert replica_names(workdir.path, moved) == [""]
    # It gets as far as the checkpoint, which is an empty folder.
    with pytest.raises(WorkdirError, match="the checkpoint of step 40"):
        load_run(workdir.path, overrides=moved)
    done = launch("evaluate", f"--workdir={workdir.path}", f"--features_path={tmp_path}/new.npy")
    assert done.stderr.startswith("error: the checkpoint of step 40")


@pytest.mark.usefixtures("quick_runs")
def test_a_complete_run_is_opened_with_the_data_that_the_config_names(tmp_path):
    config = with_options(features(tmp_path / "own.npy"), {"training.num_steps": 1})
    named = with_options(config, {"training.replica_overrides": ({"name": "a"},)})
    session.train(config, tmp_path / "run")
    session.train_replicas(named, tmp_path / "named")
    moved = {"data.features.path": str((tmp_path / "own.npy").rename(tmp_path / "new.npy"))}
    opened = session.train_replicas(with_options(named, moved), tmp_path / "named")
    for run in (session.train(with_options(config, moved), tmp_path / "run"), opened["a"]):
        assert run.experiment.config.data.features.path == str(tmp_path / "new.npy")
        stored = run.workdir.read_config()
        assert stored.data.features.path == str(tmp_path / "own.npy")


def test_a_changed_split_is_refused(tmp_path):
    """The file has the same vectors, but other groups."""
    path, groups = tmp_path / "own.npz", np.arange(40) // 4
    np.savez(path, vectors=VECTORS, speaker=groups)
    values = {"data.features.path": str(path), "data.features.array": "vectors"}
    values |= {"data.source": "features", "data.split.groups": "speaker"}
    config = with_options(tiny.get_config("vectors"), {**values, "data.noise_scale": 0.0})
    workdir = begun(tmp_path / "run", config)
    np.savez(path, vectors=VECTORS, speaker=groups[::-1])
    with pytest.raises(WorkdirError, match="the checkpoint of step 40"):
        load_run(workdir.path)
    np.savez(path, vectors=VECTORS, speaker=np.arange(40) % 10)
    for opened in (lambda: train(config, workdir, Display()), lambda: load_run(workdir.path)):
        with pytest.raises(OtherDataError, match=r"other data:\n  split: '"):
            opened()


def test_other_data_may_be_inspected_with_another_config(tmp_path):
    workdir = begun(tmp_path / "run", features(tmp_path / "own.npy"))
    flags = (
        "--config=tests/tiny.py:symbols",
        f"--workdir={workdir.path}",
        "--sample=9",
        "--rows=1",
    )
    done = launch("inspect_data", *flags, "--config.evaluation.modes=('flip',)")
    assert done.returncode == 0, done.stderr
    assert "has another config: data." in done.stdout


class Seen(Display):
    """Reads the record when a run starts."""

    def __init__(self, workdir):
        self.workdir, self.record = workdir, None

    def started(self, facts):
        self.record = json.loads(self.workdir.data.read_text())


@pytest.mark.usefixtures("quick_runs")
def test_the_record_is_written_before_the_first_step_and_never_changed(
    config, tmp_path, monkeypatch
):
    workdir = Workdir(tmp_path / "run")
    display = Seen(workdir)
    for _ in range(2):
        with pytest.raises(Interrupted):
            train(config.lock(), workdir, display, lambda: signal.SIGTERM)
    assert display.record["source"].startswith("symbolic, generator 1, options ")
    assert display.record["from_step"] == 0
    with_generator(monkeypatch, "symbolic", 2)
    with pytest.raises(OtherDataError, match=r"symbolic, generator 1.* there .*, 'symbolic, gen"):
        train(config, workdir, display)
    assert json.loads(workdir.data.read_text()) == display.record


# ------------------------------------------------------------------ warnings


def bank(numbers, words="it"):
    return ExampleBank("made up", np.zeros((2, 1)), ("a", "b"), words, numbers)


def test_other_examples_of_the_same_source_give_a_warning_with_both_versions(tmp_path, caplog):
    workdir = Workdir(tmp_path)
    record_data(workdir, bank(1), (), 0)
    content = json.loads(workdir.data.read_text())
    workdir.write_json(workdir.data, content | {"versions": {"pillow": "9.0.1"}})
    check_data(workdir, bank(1))
    assert not caplog.text
    check_data(workdir, bank(2))
    (message,) = caplog.messages
    assert "made there with pillow 9.0.1, here with emergent-icl" in message
    # An unknown source is accepted.
    check_data(workdir, bank(1, ""))
    with pytest.raises(OtherDataError):
        check_data(workdir, bank(1, "another"))


def test_a_run_without_a_record_gives_a_warning_and_gets_one(tmp_path, caplog):
    workdir = begun(tmp_path / "run", tiny.get_config())
    workdir.data.unlink()
    for _ in range(2):  # It warns once, however many replicas are opened.
        check_data(workdir, bank(1))
    (message,) = caplog.messages
    assert message.startswith(f"The run in {workdir.path} has no record of its data")
    record_data(workdir, bank(1), (), 40)
    check_data(workdir, bank(1))
    assert caplog.messages[1].endswith("recorded its data only from step 40 on.")
    # A folder with a config but no checkpoints gives no warning.
    fresh = Workdir(tmp_path / "fresh")
    fresh.claim(tiny.get_config())
    check_data(fresh, bank(1))
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"source": 3, "splits": []}'])
def test_a_damaged_record_gives_one_message(content, tmp_path):
    workdir = begun(tmp_path / "run", tiny.get_config())
    workdir.data.write_text(content)
    with pytest.raises(OtherDataError, match="is not a record of data"):
        check_data(workdir, bank(1))


def test_runs_of_a_sweep_on_different_data_are_not_compared(tmp_path):
    sweeps = tiny_sweep.seeded([tiny_sweep.get_sweep()], (0,))
    first, second = make_jobs(sweeps, tmp_path)
    for job in (first, second):
        finish(job, Ends(icl=0.5, iwl=0.5))
        record_data(job.workdir, bank(1, "one file"), (), 0)
    assert collect(sweeps, tmp_path, {})["runs"] == 2
    second.workdir.data.unlink()
    record_data(second.workdir, bank(1, "another"), (), 0)
    with pytest.raises(WorkdirError, match=r"'one file' in .*, 'another' in "):
        collect(sweeps, tmp_path, {})


def test_complete_runs_of_a_sweep_are_not_presented_under_another_file(tmp_path, monkeypatch):
    plain = {"data.source": "features", "data.noise_scale": 0.0, "model.encoder": "linear"}
    (sweep,) = tiny_sweep.seeded([tiny_sweep.get_sweep()], (0,))
    paths = {name: str(tmp_path / name) for name in ("own.npy", "moved.npy", "other.npy")}
    for name, vectors in (("own.npy", VECTORS), ("moved.npy", VECTORS), ("other.npy", OTHER)):
        np.save(paths[name], vectors)

    def jobs(name):
        named = plain | {"data.features.path": paths[name]}
        return make_jobs([sweep.with_base_options(named)], tmp_path / "sweep")

    own, moved, other = map(jobs, paths)
    assert len({one.config.data.sequences.p_bursty for one in own}) == len(own) == 2
    for job in own:
        finish(job, Ends(icl=0.5, iwl=0.5))
        record_data(job.workdir, load_bank(job.config.data), (), 0)
    loaded = []
    monkeypatch.setattr(
        recorded_data, "load_bank", lambda data: loaded.append(1) or load_bank(data)
    )
    # At its own path, nothing is read; at another, it is read once for all conditions.
    for same, count in ((own, 0), (moved, 1)):
        assert all(job.is_complete() for job in same)
        check_moved_data(same)
        assert len(loaded) == count
    with pytest.raises(OtherDataError, match=r"other data than data\.features\.path = '.*other"):
        check_moved_data(other)
    (tmp_path / "moved.npy").unlink()
    with pytest.raises(DataUnavailableError, match=r"moved\.npy"):
        check_moved_data(moved)
