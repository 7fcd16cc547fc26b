"""Users' arrays in .npy, .npz, or .h5 files: classes x exemplars, or examples with labels.

Nothing in a file is executed; pickled objects are refused.
"""

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import ml_collections
import numpy as np

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5")
_LOCKED = (
    "another program has locked it, probably to write. Close that program, or copy the file. If "
    "the file system does not support locks, set HDF5_USE_FILE_LOCKING=FALSE"
)


class Form(NamedTuple):
    """What a source expects of an array.

    Attributes:
      source: name of the source, whose options include path, array, labels, and num_exemplars.
      example: axes of one example in words.
      ranks: allowed numbers of these axes.
      objection: (shape of an example, dtype) -> what they must be instead; '' if they are valid.
    """

    source: str
    example: str
    ranks: tuple[int, ...]
    objection: Callable[[tuple[int, ...], np.dtype], str]


class Examples(NamedTuple):
    """Shape (classes, exemplars, ...) and class names; `values` is None if they were not read."""

    shape: tuple[int, ...]
    names: tuple[str, ...]
    values: np.ndarray | None = None


def read_examples(data: ml_collections.ConfigDict, form: Form, whole: bool = False) -> Examples:
    """Reads the labels and either the header or, if `whole`, the values of a source's array.

    Raises ValueError, which names the option, the file, and what was expected.
    """
    section, path, where = data[form.source], array_path(data, form.source), f"data.{form.source}"
    with _opened(path, f"{where}.path = '{path}'") as arrays:
        # Labels in the same file are not examples, unless the option names a separate file.
        labels_name = "" if section.labels.lower().endswith(".npy") else section.labels.strip("/")
        rest = {name: array for name, array in arrays.items() if not name or name != labels_name}
        array = _chosen(rest, section.array, f"{where}.array", path)
        shape = cast(Any, tuple(array.shape or ()))  # An empty HDF5 dataset has no shape.
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
            values, class_ids, counts = np.unique(labels, return_inverse=True, return_counts=True)
            names = tuple(_texts(values))
            count = common_count(data, form.source, names, counts.tolist())
            first = np.cumsum(counts) - counts
            rows: Any = np.argsort(class_ids, kind="stable")[first[:, None] + np.arange(count)]
        else:
            names = tuple(f"class {i}" for i in range(shape[0]))
            count = common_count(data, form.source, names, [shape[1]] * shape[0])
            rows = np.s_[:, :count]
        return Examples(
            (len(names), count, *shape[lead:]), names, array[()][rows] if whole else None
        )


def common_count(
    data: ml_collections.ConfigDict, source: str, names: Sequence[str], counts: Sequence[int]
) -> int:
    """Exemplars to show per class; raises ValueError if a class has too few."""
    section, where = data[source], f"data.{source}"
    fewest, most = min(counts), max(counts)
    wanted = section.num_exemplars or most
    if wanted <= fewest:
        return wanted
    found = f"{where}.path = '{section.path}': class '{names[counts.index(fewest)]}' has {fewest} "
    if section.num_exemplars:
        raise ValueError(f"{found}exemplars, fewer than {where}.num_exemplars = {wanted}")
    raise ValueError(
        f"{found}exemplars, but class '{names[counts.index(most)]}' has {most}. All classes must "
        f"have the same number, or set {where}.num_exemplars to show the first ones of each"
    )


def read_groups(data: ml_collections.ConfigDict, source: str, name: str, count: int) -> list[str]:
    """Reads the names of the classes' groups, an array [classes]; raises ValueError."""
    path = array_path(data, source)
    where = f"data.split.groups = '{name}': the array in data.{source}.path = '{path}'"
    with _opened(path, where) as arrays:
        values = _chosen(arrays, name, "data.split.groups", path)[()]
    if values.shape != (count,):
        raise ValueError(f"{where} has shape {values.shape}; it must be ({count},), [classes]")
    return _texts(values)


def array_path(data: ml_collections.ConfigDict, source: str) -> Path:
    """The file of a source; raises ValueError for other kinds of files."""
    path = Path(data[source].path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"data.{source}.path = '{data[source].path}' must be a file that ends with "
            f"{', '.join(SUFFIXES)}"
        )
    return path


@contextlib.contextmanager
def _opened(path: Path, where: str) -> Iterator[Mapping[str, Any]]:
    """The arrays of a file by name; errors become ValueErrors that begin with `where`.

    Each array has a shape and dtype; `[()]` reads its values.
    """
    try:
        with contextlib.ExitStack() as stack:
            yield _arrays(path, stack)
    except Exception as error:  # A damaged archive can raise nearly anything.
        if str(error).startswith("data."):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
            reason = _LOCKED
        raise ValueError(f"{where} cannot be read: {reason}") from error


def _arrays(path: Path, stack: contextlib.ExitStack) -> Mapping[str, Any]:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
    if suffix == ".npz":
        # NumPy would leave the file open if it is not an archive.
        archive = stack.enter_context(zipfile.ZipFile(path))
        return {n.removesuffix(".npy"): _Member(archive, n) for n in archive.namelist()}
    import h5py

    return dict(_datasets(stack.enter_context(h5py.File(path, "r")), "", ()))


class _Member:
    """An array of a .npz file, read only when needed."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive, self._name = archive, name

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype]:
        form = np.lib.format
        with self._archive.open(self._name) as file:
            is_first = form.read_magic(file) == (1, 0)
            return (form.read_array_header_1_0 if is_first else form.read_array_header_2_0)(file)

    shape = property(lambda self: self._header()[0])
    dtype = property(lambda self: self._header()[2])

    def __getitem__(self, everything: tuple[()]) -> np.ndarray:
        with self._archive.open(self._name) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _datasets(group: Any, prefix: str, above: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """The datasets below an HDF5 group by path, links included; None if a target is missing."""
    for name in group:
        try:
            item = group[name]
        except (KeyError, OSError):
            item = None
        if hasattr(item, "keys"):
            if item not in (group, *above):  # A link may form a cycle.
                yield from _datasets(item, f"{prefix}{name}/", (group, *above))
        elif item is None or hasattr(item, "shape"):
            yield f"{prefix}{name}", item


def _chosen(arrays: Mapping[str, Any], name: str, option: str, path: Path) -> Any:
    """The array of that name; '' means the only one."""
    if list(arrays) == [""]:
        if name:
            raise ValueError(f"{option} = '{name}' must be '': {path} has a single array")
        return arrays[""]
    # Two links may have the same target.
    distinct = {} if name else {array: key for key, array in reversed(list(arrays.items()))}
    key = next(iter(distinct.values())) if len(distinct) == 1 else name.strip("/")
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
    """Labels of `count` examples, integers or strings, from the same or a separate file."""
    if name.lower().endswith(".npy") and name not in arrays:
        path = path.parent / Path(name).expanduser()
        with _opened(path, f"{option} = '{name}': {path}") as own:
            labels = np.array(own[""])
    elif list(arrays) == [""]:
        raise ValueError(f"{option} = '{name}' must be a .npy file: {path} has a single array")
    else:
        labels = _chosen(arrays, name, option, path)[()]
    if labels.dtype == object:  # HDF5 strings.
        labels = np.array(_texts(labels))
    if labels.shape != (count,) or labels.dtype.kind not in "iuSU":
        raise ValueError(
            f"{option} = '{name}' ({path}) holds {labels.dtype} of shape {labels.shape}; it must "
            f"be integers or strings of shape ({count},), one per example"
        )
    return labels


def _texts(values: np.ndarray) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
