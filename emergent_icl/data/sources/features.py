"""A user's own feature vectors from a .npy, .npz or .h5 file: classes x exemplars x D.

Files are data: nothing in them is executed, and pickled objects are refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections
import numpy as np

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sources.source import DataSource, DataUnavailableError

# (path, name of the array, whether one of its shape and dtype will do) -> array
Reader = Callable[[Path, str, bool], np.ndarray]


def features_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """Reads the header of the file; raises ValueError if it does not hold what is asked for."""
    path = _path(data)
    array = _read(path, data.features.array, header_only=True)
    shape, dtype = array.shape, array.dtype
    if len(shape) != 3 or 0 in shape:
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

    Raises DataUnavailableError if the file is damaged, or not every number finite.
    """
    path = _path(data)
    try:
        vectors = _read(path, data.features.array)
    except ValueError as error:
        raise DataUnavailableError(str(error)) from error
    finite = np.isfinite(vectors).all(axis=(1, 2))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataUnavailableError(
            f"data.features.path = '{path}': numbers that are not finite (in float32) in "
            f"{len(bad)} of {len(finite)} classes, the first of them {bad[0]}"
        )
    return ExampleBank(f"features {path.name}", vectors, features_names(data))


def features_names(data: ml_collections.ConfigDict) -> tuple[str, ...]:
    """'class 0', ..."""
    return tuple(f"class {i}" for i in range(features_shape(data).num_classes))


def features_groups(data: ml_collections.ConfigDict, name: str) -> Sequence[str]:
    """An array of the file, [classes]: numbers or names of groups."""
    path, count = _path(data), features_shape(data).num_classes
    where = f"data.split.groups = '{name}': an array of that name in data.features.path = '{path}'"
    try:
        values = _READERS[path.suffix](path, name, False)
    except Exception as error:  # A damaged archive can raise nearly anything.
        raise ValueError(f"{where} cannot be read ({str(error).splitlines()[0]})") from error
    if values.shape != (count,):
        raise ValueError(f"{where} has the shape {values.shape}; it must be ({count},), [classes]")
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]


def _path(data: ml_collections.ConfigDict) -> Path:
    path = Path(data.features.path).expanduser()
    if path.suffix not in _READERS:
        raise ValueError(
            f"data.features.path = '{data.features.path}' must be a file that ends with "
            f"{', '.join(_READERS)}"
        )
    return path


def _read(path: Path, name: str, header_only: bool = False) -> np.ndarray:
    """An array of a file as float32, or one of its shape and dtype.

    If it fails, the error names the option.
    """
    try:
        array = _READERS[path.suffix](path, name, header_only)
        with np.errstate(over="ignore"):
            return array if header_only else np.asarray(array, np.float32)
    except Exception as error:  # A damaged archive can raise nearly anything.
        if str(error).startswith("data.features"):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"data.features.path = '{path}' cannot be read: {reason}") from error


def _npy(path: Path, name: str, header_only: bool) -> np.ndarray:
    if name:
        raise ValueError(f"data.features.array = '{name}' must be '': {path} has a single array")
    return np.load(path, mmap_mode="r" if header_only else None, allow_pickle=False)


def _npz(path: Path, name: str, header_only: bool) -> np.ndarray:
    # Opened here, because NumPy leaves a file open that turns out to be no archive.
    with zipfile.ZipFile(path) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
        with archive.open(_chosen(name, names) + ".npy") as member:
            if not header_only:
                return np.lib.format.read_array(member, allow_pickle=False)
            form = np.lib.format
            is_first = form.read_magic(member) == (1, 0)
            read_header = form.read_array_header_1_0 if is_first else form.read_array_header_2_0
            shape, _, dtype = read_header(member)
            return np.broadcast_to(np.empty((), dtype), shape)


def _h5(path: Path, name: str, header_only: bool) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visit(names.append)
        names = [found for found in names if isinstance(file[found], h5py.Dataset)]
        array = file[_chosen(name, names)]
        if not header_only:
            return array[()]
        # One may be empty, without a shape.
        return np.broadcast_to(np.empty((), array.dtype), array.shape or ())


def _chosen(name: str, names: list[str]) -> str:
    """The array that is asked for; '' means the only one."""
    if name in names:
        return name
    if not name and len(names) == 1:
        return names[0]
    raise ValueError(f"data.features.array = '{name}' must be one of {', '.join(sorted(names))}")


_READERS: dict[str, Reader] = {".npy": _npy, ".npz": _npz, ".h5": _h5, ".hdf5": _h5}

DATA_SOURCES.register("features")(
    DataSource(features_shape, load_features, names=features_names, groups=features_groups)
)
