"""Users' feature vectors in a .npy, .npz, or .h5 file."""

from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sources.arrays import Form, array_path, read_examples, read_groups
from emergent_icl.data.sources.source import DataSource, DataUnavailableError


def _objection(shape: tuple[int, ...], dtype: np.dtype) -> str:
    if dtype == np.uint8:
        return (
            "floating-point numbers, since uint8 may mean pixels. For vectors, convert it: "
            "x.astype('float32') keeps 0 to 255 (as earlier versions did), and "
            "x.astype('float32') / 255 scales to [0, 1]. For images, use data.source = 'images'"
        )
    is_real = np.issubdtype(dtype, np.floating) or np.issubdtype(dtype, np.integer)
    return "" if is_real else "real numbers (no pickles)"


_FORM = Form("features", "D", (1,), _objection)


def features_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """Reads the header of the file; raises ValueError if it is invalid."""
    classes, exemplars, dimension = read_examples(data, _FORM).shape
    return SourceShape(classes, exemplars, (dimension,), "vector")


def load_features(data: ml_collections.ConfigDict) -> ExampleBank:
    """Loads float32 vectors; raises DataUnavailableError for damaged files or non-finite values."""
    path = array_path(data, "features")
    try:
        found = read_examples(data, _FORM, whole=True)
    except ValueError as error:
        raise DataUnavailableError(str(error)) from error
    with np.errstate(over="ignore"):
        vectors = np.asarray(found.values, np.float32)
    finite: Any = np.isfinite(vectors).all(axis=(1, 2))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise DataUnavailableError(
            f"data.features.path = '{path}' holds non-finite numbers (in float32) in "
            f"{len(bad)} of {len(finite)} classes, first in class {bad[0]}"
        )
    return ExampleBank(f"features {path.name}", vectors, found.names)


def features_names(data: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Sorted labels; without labels, 'class 0', ..."""
    return read_examples(data, _FORM).names


def features_groups(data: ml_collections.ConfigDict, name: str) -> Sequence[str]:
    """An array [classes] of the file: numbers or names of groups."""
    return read_groups(data, "features", name, features_shape(data).num_classes)


DATA_SOURCES.register("features")(
    DataSource(
        features_shape,
        load_features,
        names=features_names,
        groups=features_groups,
        keep_classes=("num_exemplars",),
    )
)
