import subprocess
import sys

import numpy as np
import pytest
from conftest import needs_omniglot
from launching import launch

from emergent_icl.data.sources import omniglot
from emergent_icl.data.sources.cache import cache_folder
from emergent_icl.presets import base


@pytest.fixture(scope="module")
def data():
    """Options that use the shared cache, since decoding is slow."""
    data = base.get_config().data.unlock()
    data.cache_dir = str(cache_folder(""))
    return data


@pytest.fixture(scope="module")
def bank(data):
    return omniglot.load_omniglot(data)


@needs_omniglot
def test_the_bank_holds_every_drawing_at_full_size(bank):
    assert bank.examples.shape == (1623, 20, 105, 105)
    assert bank.examples.dtype == np.uint8
    assert set(np.unique(bank.examples[::50])) == {0, 255}
    assert len(set(bank.class_names)) == 1623
    # Strokes on white paper: a few percent of ink on every drawing.
    covered = (bank.examples == 0).mean(axis=(2, 3))
    assert 0.001 < covered.min() < covered.max() < 0.3


@needs_omniglot
def test_drawings_resemble_their_class(bank):
    vectors = (bank.examples[:100, :, ::4, ::4] == 0).reshape(100, 20, -1).astype(np.float32)
    templates = vectors[:, :10].mean(axis=1)
    queries = vectors[:, 10:].reshape(1000, -1)
    nearest = ((queries[:, None] - templates[None]) ** 2).sum(axis=-1).argmin(axis=1)
    assert (nearest == np.repeat(np.arange(100), 10)).mean() > 0.2  # Chance is 0.01.


@needs_omniglot
def test_small_images_are_averages_of_the_large_ones(data, bank):
    small = data.copy_and_resolve_references()
    small.image_size = 35
    resized = omniglot.load_omniglot(small)
    assert resized.examples.shape == (1623, 20, 35, 35)
    assert len(np.unique(resized.examples[:20])) > 50
    boxes = bank.examples[:50].reshape(50, 20, 35, 3, 35, 3).mean(axis=(3, 5))
    assert np.corrcoef(boxes.ravel(), resized.examples[:50].ravel())[0, 1] > 0.97


@needs_omniglot
def test_the_cache_opens_within_a_second_and_without_tensorflow(data, bank):
    program = f"""
import sys, time
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
from emergent_icl.data import omniglot
from emergent_icl.presets import base
data = base.get_config().data.unlock()
data.cache_dir = {data.cache_dir!r}
omniglot.load_omniglot(data)
seconds = []
for _ in range(3):
    start = time.process_time()
    bank = omniglot.load_omniglot(data)
    seconds.append(time.process_time() - start)
print(bank.examples.sum(dtype="int64"), min(seconds))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total, seconds = done.stdout.split()
    assert int(total) == bank.examples.sum(dtype=np.int64)
    assert float(seconds) < 1


@pytest.fixture
def made_up(monkeypatch):
    """Drawings of the right shape, in place of the real ones."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 256, (1623, 20, -(-(105**2) // 8)), np.uint8)
    names = np.array([f"Alphabet_{index}" for index in range(1623)])
    monkeypatch.setattr(omniglot, "_decode", lambda data_dir: {"packed": bits, "names": names})
    omniglot._names.cache_clear()
    yield
    omniglot._names.cache_clear()


def elsewhere(data, tmp_path, file):
    """Options of a machine that has only a file."""
    data = data.copy_and_resolve_references()
    data.cache_dir, data.data_dir, data.image_size = str(tmp_path / "there"), str(file), 105
    return data


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_prepared_file_replaces_the_dataset(by, made_up, data, tmp_path, monkeypatch):
    file = tmp_path / "omniglot.npz"
    here = data.copy_and_resolve_references()
    here.cache_dir, here.image_size = str(tmp_path / "here"), 105
    omniglot.prepare(file, here)
    expected = omniglot.load_omniglot(here)

    def fail(data_dir):
        raise AssertionError("TFDS was asked")

    monkeypatch.setattr(omniglot, "_decode", fail)
    there = elsewhere(data, tmp_path, file)
    if by == "variable":
        monkeypatch.setenv("TFDS_DATA_DIR", there.data_dir)
        there.data_dir = ""
    found = omniglot.load_omniglot(there)
    assert (found.examples == expected.examples).all()
    assert (found.class_names, found.source) == (expected.class_names, expected.source)


def test_a_file_that_was_not_prepared_is_refused(data, tmp_path):
    (tmp_path / "file").write_bytes(b"PK something")
    with pytest.raises(omniglot.DataUnavailableError, match="file is not an intact file of Omni"):
        omniglot.load_omniglot(elsewhere(data, tmp_path, tmp_path / "file"))


@pytest.mark.parametrize(("by", "advice"), [("option", "--data_dir="), ("variable", "TFDS_")])
def test_a_prepared_file_that_is_missing_is_not_made_a_folder(
    by, advice, data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    there = elsewhere(data, tmp_path, "omniglot.npz")
    if by == "variable":
        monkeypatch.setenv("TFDS_DATA_DIR", there.data_dir)
        there.data_dir = ""
    said = f"{tmp_path / 'omniglot.npz'} does not exist.*{advice}"
    with pytest.raises(omniglot.DataUnavailableError, match=said):
        omniglot.load_omniglot(there)
    assert not (tmp_path / "omniglot.npz").exists()


def test_a_missing_file_is_not_needed_if_the_images_are_cached(made_up, data, tmp_path):
    there = elsewhere(data, tmp_path, "")
    expected = omniglot.load_omniglot(there)
    there.data_dir = str(tmp_path / "omniglot.npz")
    assert (omniglot.load_omniglot(there).examples == expected.examples).all()


def test_the_command_replaces_only_its_own_files(made_up, data, tmp_path):
    mine, own = tmp_path / "thesis.txt", tmp_path / "omniglot.npz"
    mine.write_text("mine")
    done = launch("prepare_data", f"--out={mine}")
    assert (done.returncode, mine.read_text()) == (1, "mine")
    assert f"{mine} exists, and is not an intact file of this command" in done.stderr
    here = data.copy_and_resolve_references()
    here.cache_dir, here.image_size = str(tmp_path / "here"), 105
    omniglot.prepare(own, here)
    assert omniglot.is_prepared(own)
    assert not omniglot.is_prepared(mine)


@needs_omniglot
def test_the_command_writes_the_real_drawings(data, bank, tmp_path):
    done = launch("prepare_data", f"--out={tmp_path / 'file'}", f"--data_dir={data.data_dir}")
    assert done.returncode == 0, done.stderr
    there = elsewhere(data, tmp_path, tmp_path / "file")
    assert (omniglot.load_omniglot(there).examples == bank.examples).all()


def test_without_data_or_network_the_error_gives_instructions(data, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")  # Only Omniglot needs it.
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    # No proxy listens on this port.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    absent = data.copy_and_resolve_references()
    absent.cache_dir = str(tmp_path / "cache")
    absent.data_dir = str(tmp_path / "nowhere")
    with pytest.raises(omniglot.DataUnavailableError) as raised:
        omniglot.load_omniglot(absent)
    message = str(raised.value)
    for part in (
        "nowhere",
        "Connection refused",
        "TFDS_DATA_DIR",
        "--config.data.data_dir",
        "glyphs",
    ):
        assert part in message
    assert not (tmp_path / "cache").exists()
