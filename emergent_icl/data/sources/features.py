"""A user's own feature vectors from a .npy, .npz or .h5 file: classes x exemplars x D.

Files are data: nothing in them is executed, and pickled objects are refused.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sources.source import DataSource, DataUnavailableError


def features_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """Reads the header of the file.

    Raises:
      ValueError: the file does not hold what is asked for; names the option.
    """
    path = _path(data)
    with _opened(path, data.features.array, header_only=True) as array:
        shape, dtype = array.shape, array.dtype
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
    path = _path(data)
    try:
        with _opened(path, data.features.array) as array, np.errstate(over="ignore"):
            vectors = np.asarray(array[()], np.float32)
    except ValueError as error:
        raise DataUnavailableError(str(error)) from error
    finite = np.isfinite(vectors).all(axis=(1, 2))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataUnavailableError(
            f"data.features.path = '{path}': numbers that are not finite (in float32) in "
            f"{len(bad)} of {len(finite)} classes, the first of them {bad[0]}"
        )
    names = tuple(f"class {i}" for i in range(len(vectors)))
    return ExampleBank(f"features {path.name}", vectors, names)


def _path(data: ml_collections.ConfigDict) -> Path:
    path = Path(data.features.path).expanduser()
    if path.suffix not in _READERS:
        raise ValueError(
            f"data.features.path = '{data.features.path}' must be a file that ends with "
            f"{', '.join(_READERS)}"
        )
    return path


@contextlib.contextmanager
def _opened(path: Path, name: str, header_only: bool = False) -> Iterator[Any]:
    """An array of a file, with shape and dtype; where reading fails, says which option is wrong."""
    try:
        with _READERS[path.suffix](path, name, header_only) as array:
            yield array
    except Exception as error:  # A damaged archive can raise nearly anything.
        if str(error).startswith("data.features"):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"data.features.path = '{path}' cannot be read: {reason}") from error


@contextlib.contextmanager
def _npy(path: Path, name: str, header_only: bool) -> Iterator[np.ndarray]:
    if name:
        raise ValueError(f"data.features.array = '{name}' must be '': {path} has a single array")
    yield np.load(path, mmap_mode="r" if header_only else None, allow_pickle=False)


@contextlib.contextmanager
def _npz(path: Path, name: str, header_only: bool) -> Iterator[np.ndarray]:
    # Opened here, because NumPy leaves a file open that turns out to be no archive.
    with zipfile.ZipFile(path) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        with archive.open(_chosen(name, names) + ".npy") as member:
            if not header_only:
                yield np.lib.format.read_array(member, allow_pickle=False)
                return
            version = np.lib.format.read_magic(member)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read(member)
            yield np.broadcast_to(np.empty((), dtype), shape)


@contextlib.contextmanager
def _h5(path: Path, name: str, header_only: bool) -> Iterator[Any]:
    del header_only  # Nothing is read before it is asked for.
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        yield file[_chosen(name, names)]


def _chosen(name: str, names: list[str]) -> str:
    """The array that is asked for; '' means the only one."""
    if name in names:
        return name
    if not name and len(names) == 1:
        return names[0]
    raise ValueError(f"data.features.array = '{name}' must be one of {', '.join(sorted(names))}")


_READERS: dict[str, Callable[..., contextlib.AbstractContextManager]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".h5": _h5,
    ".hdf5": _h5,
}

DATA_SOURCES.register("features")(DataSource(features_shape, load_features))
