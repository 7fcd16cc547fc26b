"""Checks sequences that a user passes to a trained model."""

import numpy as np
from numpy.typing import ArrayLike

from emergent_icl.data.bank import WHITE
from emergent_icl.data.task import Task
from emergent_icl.training.build import blank_inputs


def checked_examples(task: Task, examples: ArrayLike) -> np.ndarray:
    """Examples [B, S, ...] as the encoder reads them; raises ValueError if they do not fit."""
    given, blank = np.asarray(examples), blank_inputs(task)[0]
    kind, shape = task.shape.kind, blank.shape[2:]
    if kind == "image" and given.shape[2:] == shape[:-1]:
        given = given[..., None]
    if given.shape[2:] != shape or given.ndim < 2 or given.shape[0] < 1 or given.shape[1] < 2:
        expected = ", ".join(map(str, ("B", "S", *shape)))
        raise ValueError(
            f"examples have shape {list(np.shape(examples))}, but must have shape [{expected}]: B "
            "sequences of S >= 2 examples, the query last"
        )
    if kind == "integer":
        return _integers("examples", given, task.shape.num_classes)
    if not np.issubdtype(given.dtype, np.floating):
        scale = "; divide pixels by 255" if kind == "image" else ""
        raise ValueError(f"examples are {given.dtype}, but {kind}s must be float{scale}")
    largest = np.abs(given).max()
    if not np.isfinite(largest):
        raise ValueError("examples contain values that are not finite")
    if kind == "image" and largest >= WHITE:
        raise ValueError(f"examples reach {largest:g}, but pixels lie in [0, 1]; divide by {WHITE}")
    return given.astype(blank.dtype)


def checked_labels(task: Task, labels: ArrayLike, count: int, length: int) -> np.ndarray:
    """Context labels as int32 [B, S]; raises ValueError if they do not fit."""
    given = np.asarray(labels)
    if given.shape not in ((count, length - 1), (count, length)):
        raise ValueError(
            f"labels have shape {list(given.shape)}, but {count} sequences of {length} "
            f"examples need [{count}, {length - 1}]: one label per example except the query"
        )
    context = _integers("labels", given[:, : length - 1], task.used_labels)
    # The network does not read the query's label.
    return np.pad(context, ((0, 0), (0, 1)))


def _integers(what: str, given: np.ndarray, count: int) -> np.ndarray:
    """The array as int32; raises ValueError unless all are integers in [0, count)."""
    if not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"{what} are {given.dtype}, but must be integers from 0 to {count - 1}")
    if given.size and not (given.min() >= 0 and given.max() < count):
        found = f"{given.min()} to {given.max()}"
        raise ValueError(f"{what} range from {found}, but must lie between 0 and {count - 1}")
    return given.astype(np.int32)
