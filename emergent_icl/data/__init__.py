"""Data: what can be shown (banks), which of it is shown (sequences), and the way to the device."""

# Imported for their entries in DATA_SOURCES, SEQUENCE_TYPES and EVALUATION_MODES, so that
# whoever sees a registry sees it filled.
from emergent_icl.data.sequences import bursty as training_sequences
from emergent_icl.data.sequences import probes as evaluation_sequences
from emergent_icl.data.sources import features, gaussian, glyphs, omniglot, symbolic

__all__ = [
    "evaluation_sequences",
    "features",
    "gaussian",
    "glyphs",
    "omniglot",
    "symbolic",
    "training_sequences",
]
