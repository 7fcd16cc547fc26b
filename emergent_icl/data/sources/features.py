"""A user's own feature vectors from a .npy, .npz or .h5 file: classes x exemplars x D.

Files are data: nothing in them is executed, and pickled objects are refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sources.source import DataSource, DataUnavailableError

# Shape and type of an array, read without its numbers.
Header = tuple[tuple[int, ...], np.dtype]


def features_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """Reads the header of the file.

    Raises:
      ValueError: the file does not hold what is asked for; names the option.
    """
    path, reader = _reader(data)
    shape, dtype = _read(path, lambda: reader.header(path, data.features.array))
    # An HDF5 dataset may be empty, without a shape.
    if shape is None or len(shape) != 3 or 0 in shape:
        raise ValueError(
            f"data.features.path = '{path}' holds an array of shape {shape}; "
            "it must be classes x exemplars x D, none of them 0"
        )
    if not (np.issubdtype(dtype, np.floating) or np.issubdtype(dtype, np.integer)):
        raise ValueError(
            f"data.features.path = '{path}' holds {dtype}; it must be real numbers (no pickles)"
        )
    return SourceShape(shape[0], shape[1], (shape[2],), "vector")


def load_features(data: ml_collections.ConfigDict) -> ExampleBank:
    """Loads the vectors as float32.

    Raises:
      DataUnavailableError: the file is damaged, or not every number is finite.
    """
    path, reader = _reader(data)
    try:
        array = _read(path, lambda: reader.array(path, data.features.array))
    except ValueError as error:
        raise DataUnavailableError(str(error)) from error
    with np.errstate(over="ignore"):
        vectors = np.asarray(array, np.float32)
    finite = np.isfinite(vectors).all(axis=(1, 2))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataUnavailableError(
            f"data.features.path = '{path}': numbers that are not finite (in float32) in "
            f"{len(bad)} of {len(finite)} classes, the first of them {bad[0]}"
        )
    names = tuple(f"class {i}" for i in range(len(vectors)))
    return ExampleBank(f"features {path.name}", vectors, names)


class _Reader:
    """One file format: reads the header of an array, or the array."""

    def __init__(
        self, header: Callable[[Path, str], Header], array: Callable[[Path, str], np.ndarray]
    ) -> None:
        self.header, self.array = header, array


def _npy_header(path: Path, name: str) -> Header:
    _no_name(name, path)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.shape, array.dtype


def _npy_array(path: Path, name: str) -> np.ndarray:
    _no_name(name, path)
    return np.load(path, allow_pickle=False)


def _no_name(name: str, path: Path) -> None:
    if name:
        raise ValueError(f"data.features.array = '{name}' must be '': {path} has a single array")


def _npz_header(path: Path, name: str) -> Header:
    with zipfile.ZipFile(path) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        with archive.open(_chosen(name, names) + ".npy") as member:
            version = np.lib.format.read_magic(member)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read(member)
    return shape, dtype


def _npz_array(path: Path, name: str) -> np.ndarray:
    # Opened here, because NumPy leaves a file open that turns out to be no archive.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return archive[_chosen(name, archive.files)]


def _h5_header(path: Path, name: str) -> Header:
    import h5py

    with h5py.File(path, "r") as file:
        dataset = file[_chosen(name, _h5_names(file))]
        return dataset.shape, dataset.dtype


def _h5_array(path: Path, name: str) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        return file[_chosen(name, _h5_names(file))][()]


def _h5_names(file: Any) -> list[str]:
    import h5py

    names: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    file.visititems(note)
    return names


def _chosen(name: str, names: list[str]) -> str:
    """The array that is asked for; '' means the only one."""
    if name in names:
        return name
    if not name and len(names) == 1:
        return names[0]
    raise ValueError(f"data.features.array = '{name}' must be one of {', '.join(sorted(names))}")


_READERS = {
    ".npy": _Reader(_npy_header, _npy_array),
    ".npz": _Reader(_npz_header, _npz_array),
    ".h5": _Reader(_h5_header, _h5_array),
    ".hdf5": _Reader(_h5_header, _h5_array),
}


def _reader(data: ml_collections.ConfigDict) -> tuple[Path, _Reader]:
    path = Path(data.features.path).expanduser()
    if path.suffix not in _READERS:
        raise ValueError(
            f"data.features.path = '{data.features.path}' must be a file that ends with "
            f"{', '.join(_READERS)}"
        )
    return path, _READERS[path.suffix]


def _read(path: Path, read: Callable[[], Header | np.ndarray]) -> Header | np.ndarray:
    """Reads, and says which option is wrong if that fails."""
    try:
        return read()
    except Exception as error:  # A damaged archive can raise nearly anything.
        if str(error).startswith("data.features"):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"data.features.path = '{path}' cannot be read: {reason}") from error


DATA_SOURCES.register("features")(DataSource(features_shape, load_features))
