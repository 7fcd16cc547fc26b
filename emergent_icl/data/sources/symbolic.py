"""Integers as classes, with one exemplar each."""

import ml_collections
import numpy as np

from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import ExampleBank, SourceShape
from emergent_icl.data.sources.source import DataSource


def load_symbolic(data: ml_collections.ConfigDict) -> ExampleBank:
    """Class c has one exemplar, c (reference implementation: example_type 'symbolic')."""
    count = data.symbolic.num_classes
    examples = np.arange(count, dtype=np.int32)[:, None]
    return ExampleBank("symbolic", examples, tuple(str(i) for i in range(count)))


def symbolic_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """One integer per class."""
    return SourceShape(data.symbolic.num_classes, 1, (), "integer")


DATA_SOURCES.register("symbolic")(
    DataSource(symbolic_shape, load_symbolic, keep_classes=("num_classes",), generator=1)
)
