"""A user's own arrays in a .npy, .npz, or .h5 file: classes x exemplars, or examples with labels.

Files are data: nothing in them is executed, and pickled objects are refused.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import ml_collections
import numpy as np

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
_LOCKED = (
    "another program has locked it, probably to write. Close that program, or copy the file. Where "
    "the file system has no locks, set HDF5_USE_FILE_LOCKING=FALSE"
)


class Form(NamedTuple):
    """What a source expects of an array.

    Attributes:
      source: its name; its section of options has path, array, labels, and num_exemplars.
      example: the axes of one example in words, and how many there may be.
      objection: (shape of an example, dtype) -> what they must be instead; '' if they are right.
    """

    source: str
    example: str
    ranks: tuple[int, ...]
    objection: Callable[[tuple[int, ...], np.dtype], str]


class Examples(NamedTuple):
    """Examples of classes: their shape (classes, exemplars, ...), and names of the classes.

    `values` is the array of that shape; None if only headers and labels were read.
    """

    shape: tuple[int, ...]
    names: tuple[str, ...]
    values: np.ndarray | None = None


def read_examples(data: ml_collections.ConfigDict, form: Form, whole: bool = False) -> Examples:
    """Reads the array that a source's options name: the whole of it, or its header and labels.

    Raises:
      ValueError: names the option and the file, and says what was expected.
    """
    section, path = data[form.source], array_path(data, form.source)
    where = f"data.{form.source}"
    with _errors_naming(f"{where}.path = '{path}'"), _opened(path) as arrays:
        named = section.labels.lower().endswith(".npy")
        besides = "" if named else section.labels.strip("/")
        rest = {name: array for name, array in arrays.items() if not name or name != besides}
        array = _chosen(rest, section.array, f"{where}.array", path)
        # One in HDF5 may be empty, without a shape.
        shape = cast(Any, tuple(array.shape or ()))
        lead, axes = (1, "N") if section.labels else (2, "classes x exemplars")
        if len(shape) - lead not in form.ranks or 0 in shape:
            raise ValueError(
                f"{where}.path = '{path}' holds an array of shape {shape}; it must be {axes} x "
                f"{form.example}, none of them 0"
            )
        if expected := form.objection(shape[lead:], array.dtype):
            found = f"{array.dtype} of shape {shape}"
            raise ValueError(f"{where}.path = '{path}' holds {found}; it must be {expected}")
        if section.labels:
            labels = _labels(arrays, section.labels, f"{where}.labels", path, shape[0])
            names, rows = _rows_of_classes(labels, data, form.source)
            count = rows.shape[1]
        else:
            names = tuple(f"class {i}" for i in range(shape[0]))
            count = common_count(data, form.source, names, [shape[1]] * shape[0])
            rows: Any = np.s_[:, :count]
        values = array[()][rows] if whole else None
    return Examples((len(names), count, *shape[lead:]), names, values)


def _rows_of_classes(
    labels: np.ndarray, data: ml_collections.ConfigDict, source: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the classes in sorted order, and the examples [classes, exemplars] of each."""
    values, class_ids = np.unique(labels, return_inverse=True)
    names, counts = tuple(_texts(values)), np.bincount(class_ids)
    count = common_count(data, source, names, counts.tolist())
    first = np.cumsum(counts) - counts
    return names, np.argsort(class_ids, kind="stable")[first[:, None] + np.arange(count)]


def common_count(
    data: ml_collections.ConfigDict, source: str, names: Sequence[str], counts: Sequence[int]
) -> int:
    """The number of exemplars to show of every class; ValueError if a class has too few."""
    section, where = data[source], f"data.{source}"
    fewest, most = min(counts), max(counts)
    wanted = section.num_exemplars or most
    if wanted <= fewest:
        return wanted
    said = f"{where}.path = '{section.path}': class '{names[counts.index(fewest)]}' has {fewest} "
    if section.num_exemplars:
        raise ValueError(f"{said}exemplars, fewer than {where}.num_exemplars = {wanted}")
    raise ValueError(
        f"{said}exemplars, but class '{names[counts.index(most)]}' has {most}. All classes must "
        f"have the same number, or set {where}.num_exemplars to show the first ones of each"
    )


def read_groups(data: ml_collections.ConfigDict, source: str, name: str, count: int) -> list[str]:
    """An array of the file, [classes]: numbers or names of groups."""
    path = array_path(data, source)
    where = f"data.split.groups = '{name}': an array of that name in data.{source}.path = '{path}'"
    try:
        with _opened(path) as arrays:
            values = _chosen(arrays, name, "data.split.groups", path)[()]
    except Exception as error:  # A damaged archive can raise nearly anything.
        raise ValueError(f"{where} cannot be read ({_reason(error)})") from error
    if values.shape != (count,):
        raise ValueError(f"{where} has the shape {values.shape}; it must be ({count},), [classes]")
    return _texts(values)


def array_path(data: ml_collections.ConfigDict, source: str) -> Path:
    """The file of a source; ValueError for another kind of file."""
    path = Path(data[source].path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"data.{source}.path = '{data[source].path}' must be a file that ends with "
            f"{', '.join(SUFFIXES)}"
        )
    return path


@contextlib.contextmanager
def _errors_naming(where: str) -> Iterator[None]:
    """Whatever fails inside is a ValueError that names an option and its file."""
    try:
        yield
    except Exception as error:  # A damaged archive can raise nearly anything.
        if str(error).startswith("data."):
            raise
        raise ValueError(f"{where} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
        return _LOCKED
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    """The arrays of a file by name: each has a shape and dtype, and `[()]` reads it."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        yield {"": np.load(path, mmap_mode="r", allow_pickle=False)}
    elif suffix == ".npz":
        # Opened here, because NumPy leaves a file open that turns out to be no archive.
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            yield {name.removesuffix(".npy"): _Member(archive, name) for name in names}
    else:
        import h5py

        with h5py.File(path, "r") as file:
            yield dict(_datasets(file, "", ()))


class _Member:
    """An array of a .npz file whose numbers are read when they are asked for."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive, self._name = archive, name

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype]:
        form = np.lib.format
        with self._archive.open(self._name) as file:
            is_first = form.read_magic(file) == (1, 0)
            return (form.read_array_header_1_0 if is_first else form.read_array_header_2_0)(file)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._header()[0]

    @property
    def dtype(self) -> np.dtype:
        return self._header()[2]

    def __getitem__(self, everything: tuple[()]) -> np.ndarray:
        with self._archive.open(self._name) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _datasets(group: Any, prefix: str, above: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """The datasets below a group of HDF5, through links of every kind."""
    for name in group:
        try:
            item = group[name]
        except (KeyError, OSError):
            item = None  # A link whose target is missing.
        if hasattr(item, "keys"):
            if item not in (group, *above):  # A link may lead back up.
                yield from _datasets(item, f"{prefix}{name}/", (group, *above))
        elif item is None or hasattr(item, "shape"):
            yield f"{prefix}{name}", item


def _chosen(arrays: Mapping[str, Any], name: str, option: str, path: Path) -> Any:
    """The array that is asked for; '' means the only one."""
    if list(arrays) == [""]:
        if name:
            raise ValueError(f"{option} = '{name}' must be '': {path} has a single array")
        return arrays[""]
    # Two links may lead to the same array.
    different = {} if name else {array: key for key, array in reversed(list(arrays.items()))}
    key = next(iter(different.values())) if len(different) == 1 else name.strip("/")
    if key not in arrays:
        raise ValueError(
            f"{option} = '{name}' must be one of {', '.join(sorted(arrays))}, the arrays in {path}"
        )
    if arrays[key] is None:
        raise ValueError(f"{option} = '{name}' is a link in {path} whose target is missing")
    return arrays[key]


def _labels(
    arrays: Mapping[str, Any], name: str, option: str, path: Path, count: int
) -> np.ndarray:
    """The labels of `count` examples: integers or strings, from the file or one beside it."""
    if name.lower().endswith(".npy") and name not in arrays:
        path = path.parent / Path(name).expanduser()
        with _errors_naming(f"{option} = '{name}': {path}"):
            labels = np.load(path, allow_pickle=False)
    elif list(arrays) == [""]:
        raise ValueError(f"{option} = '{name}' must be a .npy file: {path} has a single array")
    else:
        labels = _chosen(arrays, name, option, path)[()]
    if labels.dtype == object:  # Strings of HDF5.
        labels = np.array(_texts(labels))
    if labels.shape != (count,) or labels.dtype.kind not in "iuSU":
        raise ValueError(
            f"{option} = '{name}' ({path}) holds {labels.dtype} of shape {labels.shape}; it must "
            f"be integers or strings of shape ({count},), one for each example"
        )
    return labels


def _texts(values: np.ndarray) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
