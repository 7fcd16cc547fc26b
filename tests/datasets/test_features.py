"""Files of feature vectors, valid and invalid."""

import pickle

import h5py
import numpy as np
import pytest

from emergent_icl.config.check import ConfigError
from emergent_icl.data.sources import features
from emergent_icl.data.sources.source import DataUnavailableError
from emergent_icl.presets import gaussian
from emergent_icl.runs.check import check

VECTORS = np.random.default_rng(0).normal(size=(40, 6, 8))


def write(folder, suffix, vectors=VECTORS):
    path = folder / f"vectors{suffix}"
    if suffix == ".npy":
        np.save(path, vectors)
    elif suffix == ".npz":
        np.savez_compressed(path, vectors=vectors)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("deep/vectors", data=vectors)
    return path


def config(path, array=""):
    config = gaussian.get_config().unlock()
    config.data.source = "features"
    config.data.features.path = str(path)
    config.data.features.array = array
    config.data.split.num_rare, config.data.split.num_holdout = 30, 10
    return config


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hdf5"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_every_file_format_and_number_type(suffix, dtype, tmp_path):
    data = config(write(tmp_path, suffix, (VECTORS * 10).astype(dtype))).data
    shape, bank = features.features_shape(data), features.load_features(data)
    assert shape[:3] == (40, 6, (8,))
    assert shape.kind == "vector"
    assert bank.examples.dtype == np.float32
    np.testing.assert_allclose(bank.examples, (VECTORS * 10).astype(dtype), rtol=1e-6)
    check(config(data.features.path))


def test_one_array_among_several(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, first=VECTORS, second=VECTORS[:, :, :3])
    assert features.features_shape(config(path, "second").data).example_shape == (3,)
    with pytest.raises(ConfigError, match=r"data\.features\.array = '' must be one of first, sec"):
        check(config(path))


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


def bad_files(folder):
    np.save(folder / "flat.npy", np.zeros((3, 4)))
    np.save(folder / "empty.npy", np.zeros((3, 0, 4)))
    np.save(folder / "text.npy", np.full((3, 4, 5), "a"))
    np.save(folder / "complex.npy", np.zeros((3, 4, 5), complex))
    (folder / "pickled.npy").write_bytes(pickle.dumps(Bomb()))
    objects = np.empty((3, 4, 5), object)
    objects[:] = Bomb()
    np.save(folder / "objects.npy", objects, allow_pickle=True)
    np.savez(folder / "objects.npz", vectors=np.ones(1))
    (folder / "damaged.npz").write_bytes(b"PK not really")
    (folder / "damaged.h5").write_bytes(b"not really")
    (folder / "vectors.csv").write_text("1,2,3")
    return {
        "flat.npy": r"shape \(3, 4\); it must be classes x exemplars x D",
        "empty.npy": "none of them 0",
        "text.npy": "must be real numbers",
        "complex.npy": "must be real numbers",
        "pickled.npy": "cannot be read",
        "objects.npy": "no pickles|cannot be read",
        "objects.npz": r"shape \(1,\)",
        "damaged.npz": "cannot be read",
        "damaged.h5": "cannot be read",
        "vectors.csv": "must be a file that ends with .npy, .npz, .h5",
        "missing.npy": "cannot be read: .*No such file",
    }


def test_bad_files_are_refused_at_the_start_and_nothing_is_executed(tmp_path):
    for name, message in bad_files(tmp_path).items():
        with pytest.raises(ConfigError, match=message) as raised:
            check(config(tmp_path / name))
        assert name in str(raised.value)
        assert "data.features" in str(raised.value)


def test_non_finite_numbers_are_refused(tmp_path):
    vectors = VECTORS.copy()
    vectors[7, 2, 3] = np.nan
    vectors[9] = 1e300  # Finite, but not as float32.
    path = write(tmp_path, ".npy", vectors)
    with pytest.raises(DataUnavailableError, match="in 2 of 40 classes, first in class 7"):
        features.load_features(config(path).data)


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path, ".npz")
    data = config(path).data
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises((DataUnavailableError, ValueError), match="cannot be read"):
        features.load_features(data)
