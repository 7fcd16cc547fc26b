"""Data: sources of examples, sequences of them, and their transfer to the device."""

# Imported to fill the registries.
from emergent_icl.data import feed
from emergent_icl.data.sequences import bursty, probes
from emergent_icl.data.sources import features, gaussian, glyphs, images, omniglot, symbolic

__all__ = [
    "bursty", "features", "feed", "gaussian", "glyphs", "images", "omniglot", "probes", "symbolic",
]  # fmt: skip
